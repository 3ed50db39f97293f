/* SPDX-License-Identifier: BSD-2-Clause */
/* How Linux lets a worker's thread have a CPU. */
#ifndef XV_SCHEDULING_H
#define XV_SCHEDULING_H

/**
 * scheduling_begin() - Have the calling thread, a worker, run as is best for its TAPs.
 * @cpu:	The one that it shares with its peer's worker, on which it stays if it may;
 *		negative: it runs wherever Linux likes
 *
 * Its turns are short, and it is let in soon after it is woken: a TAP's queue is not long
 * (sched_setattr(2); Linux before 6.12 has turns of one length for all). Where it shares a
 * CPU it does not push aside who runs there (SCHED_BATCH, sched(7)): its peer does what it
 * has begun, and it has more to do at once then.
 */
void scheduling_begin(int cpu);

#endif
