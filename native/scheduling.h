/* SPDX-License-Identifier: BSD-2-Clause */
/* How Linux lets a worker's thread have a CPU. */
#ifndef XV_SCHEDULING_H
#define XV_SCHEDULING_H

#include <pthread.h>

/**
 * scheduling_shorten_turns() - Have short turns on the CPU, for the calling thread.
 *
 * A thread with short turns is let in soon after it is woken, and a TAP's queue is not
 * long (sched_setattr(2)). Linux before 6.12 has turns of one length for all.
 */
void scheduling_shorten_turns(void);

/** scheduling_stay_on() - Keep @thread on @cpu; it stays anywhere if that may not be had. */
void scheduling_stay_on(pthread_t thread, int cpu);

#endif
