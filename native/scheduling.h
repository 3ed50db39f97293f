/* SPDX-License-Identifier: BSD-2-Clause */
/* How Linux lets a worker's thread have a CPU. */
#ifndef XV_SCHEDULING_H
#define XV_SCHEDULING_H

#include <stdbool.h>
#include <stdint.h>

struct xv_scheduling {
    bool shares;      /* a CPU with its peer's worker */
    bool patient;     /* it is SCHED_BATCH */
    uint32_t average; /* of frames between two sleeps, of late; sixteenths */
};

/**
 * scheduling_begin() - Have the calling thread, a worker, run as is best for its TAPs.
 * @scheduling:	To be filled in
 * @cpu:	The one that it shares with its peer's worker, on which it stays if it may;
 *		negative: it runs wherever Linux likes
 *
 * Its turns are short, and it is let in soon after it is woken: a TAP's queue is not long
 * (sched_setattr(2); Linux before 6.12 has turns of one length for all).
 */
void scheduling_begin(struct xv_scheduling *scheduling, int cpu);

/**
 * scheduling_sleeps() - The worker is about to sleep.
 * @scheduling:	Its own
 * @frames:	What it has moved since it slept last
 *
 * While there is much to do each time, a worker that shares its CPU does not push aside
 * who runs there when it is woken (SCHED_BATCH, sched(7)): its peer does what it has begun,
 * and it has more to do at once then. Lone frames, but the first few, do not wait for that.
 */
void scheduling_sleeps(struct xv_scheduling *scheduling, uint32_t frames);

#endif
