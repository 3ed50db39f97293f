/* SPDX-License-Identifier: BSD-2-Clause */
#include "polling.h"

#include <sched.h>
#include <time.h>

/* The shortest poll that is worth more than going to sleep. */
#define POLL_MIN_NS 4000u

/* A sched_yield() that took this long let somebody else run. */
#define GAVE_WAY_NS 10000u

uint64_t polling_clock_ns(void)
{
    struct timespec at;

    clock_gettime(CLOCK_MONOTONIC, &at);
    return (uint64_t)at.tv_sec * 1000000000u + (uint64_t)at.tv_nsec;
}

bool polling_on(struct xv_polling *polling)
{
    uint64_t before;

    if (polling->poll_ns == 0)
        return false;
    before = polling_clock_ns();
    if (polling->idle_since_ns == 0)
        polling->idle_since_ns = before;
    if (before - polling->idle_since_ns >= polling->poll_ns) {
        polling->poll_ns /= 2;
        return false;
    }
    sched_yield();
    if (polling_clock_ns() - before > GAVE_WAY_NS)
        polling->poll_ns = 0;
    return true;
}

void polling_sleeps(struct xv_polling *polling)
{
    polling->slept_at_ns = polling_clock_ns();
}

void polling_woken(struct xv_polling *polling, uint64_t max_ns)
{
    if (polling->slept_at_ns == 0)
        return;
    /* Who sleeps no longer than a poll may last had better polled. */
    if (polling_clock_ns() - polling->slept_at_ns < max_ns) {
        polling->poll_ns = 2 * polling->poll_ns + POLL_MIN_NS;
        if (polling->poll_ns > max_ns)
            polling->poll_ns = max_ns;
    }
    polling->slept_at_ns = 0;
}
