/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * How long a queue without work looks for more before it sleeps, which saves a
 * notification and a wake-up. It is learned: longer after a sleep that was a short one,
 * shorter after a poll in vain, and nothing at all when somebody else wants the CPU.
 */
#ifndef XV_POLLING_H
#define XV_POLLING_H

#include <stdbool.h>
#include <stdint.h>

struct xv_polling {
    uint64_t poll_ns;
    uint64_t idle_since_ns; /* 0: it is not polling */
    uint64_t slept_at_ns;   /* 0: it has learned from its last sleep */
};

/** polling_clock_ns() - CLOCK_MONOTONIC. */
uint64_t polling_clock_ns(void);

/**
 * polling_on() - With nothing to do: wait a moment without sleeping.
 *
 * Return: whether to look for work again.
 */
bool polling_on(struct xv_polling *polling);

/** polling_over() - There was something to do, or there is to be a sleep. */
static inline void polling_over(struct xv_polling *polling)
{
    polling->idle_since_ns = 0;
}

/** polling_sleeps() - The queue is armed, and does not run until something wakes it. */
void polling_sleeps(struct xv_polling *polling);

/**
 * polling_woken() - A descriptor woke the queue: learn from its sleep.
 * @max_ns:	For how long it may poll at the most; 0: never
 */
void polling_woken(struct xv_polling *polling, uint64_t max_ns);

#endif
