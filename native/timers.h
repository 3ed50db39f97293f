/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The queues of a worker that have to run at some time though nothing wakes them.
 * Milliseconds of CLOCK_MONOTONIC.
 */
#ifndef XV_TIMERS_H
#define XV_TIMERS_H

#include "queue.h"

struct xv_timers {
    struct xv_queue *first;
    uint64_t next_ms; /* no queue is due before; XV_NEVER: there is none */
};

/** timers_init() - No queue has a time. */
void timers_init(struct xv_timers *timers);

/** timers_set() - Have @queue run at @at_ms, not when it was to; XV_NEVER: not at all. */
void timers_set(struct xv_timers *timers, struct xv_queue *queue, uint64_t at_ms);

/** timers_cancel() - Forget @queue. */
void timers_cancel(struct xv_timers *timers, struct xv_queue *queue);

/**
 * timers_run() - Call @run for each queue whose time has come.
 * @timers:	Must not be changed by @run
 * @now_ms:	The time
 * @run:	Gets @context
 */
void timers_run(struct xv_timers *timers, uint64_t now_ms,
                void (*run)(void *context, struct xv_queue *queue), void *context);

/** timers_wait_ms() - For how long to sleep. Return: as epoll_wait() takes it. */
int timers_wait_ms(const struct xv_timers *timers, uint64_t now_ms);

#endif
