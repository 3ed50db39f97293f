/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * A plain list: few queues are on it, and it is walked once a millisecond at most.
 */
#include "timers.h"

#include <limits.h>

void timers_init(struct xv_timers *timers)
{
    *timers = (struct xv_timers){.next_ms = XV_NEVER};
}

void timers_set(struct xv_timers *timers, struct xv_queue *queue, uint64_t at_ms)
{
    struct xv_schedule *schedule = &queue->schedule;

    schedule->timer_ms = at_ms;
    if (at_ms == XV_NEVER)
        return; /* timers_run() takes it off the list */
    if (!schedule->timed) {
        schedule->timed = true;
        schedule->timer_next = timers->first;
        timers->first = queue;
    }
    if (at_ms < timers->next_ms)
        timers->next_ms = at_ms;
}

void timers_cancel(struct xv_timers *timers, struct xv_queue *queue)
{
    struct xv_queue **at = &timers->first;

    while (*at && *at != queue)
        at = &(*at)->schedule.timer_next;
    if (*at)
        *at = queue->schedule.timer_next;
    queue->schedule.timed = false;
}

void timers_run(struct xv_timers *timers, uint64_t now_ms,
                void (*run)(void *context, struct xv_queue *queue), void *context)
{
    struct xv_queue **at = &timers->first;

    if (now_ms < timers->next_ms)
        return;
    timers->next_ms = XV_NEVER;
    while (*at) {
        struct xv_queue *queue = *at;
        struct xv_schedule *schedule = &queue->schedule;

        if (schedule->timer_ms > now_ms && schedule->timer_ms != XV_NEVER) {
            if (schedule->timer_ms < timers->next_ms)
                timers->next_ms = schedule->timer_ms;
            at = &schedule->timer_next;
            continue;
        }
        *at = schedule->timer_next;
        schedule->timed = false;
        if (schedule->timer_ms != XV_NEVER)
            run(context, queue);
    }
}

int timers_wait_ms(const struct xv_timers *timers, uint64_t now_ms)
{
    if (timers->next_ms == XV_NEVER)
        return -1;
    if (timers->next_ms <= now_ms)
        return 0;
    if (timers->next_ms - now_ms > INT_MAX)
        return INT_MAX;
    return (int)(timers->next_ms - now_ms);
}
