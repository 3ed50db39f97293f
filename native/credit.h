/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The rate limit of what a frontend sends, as Linux netback has it: bytes of credit
 * for each window, taken by whole packets (netback.c, tx_credit_exceeded).
 *
 * The clock is an argument, in milliseconds: netback's is in jiffies. A timer is a
 * time that whoever runs the queue has to look at, too.
 */
#ifndef XV_CREDIT_H
#define XV_CREDIT_H

#include <stdbool.h>
#include <stdint.h>

/* Of a timer: not pending. Of bytes: no limit. */
#define XV_NEVER UINT64_MAX
#define XV_UNLIMITED UINT64_MAX

struct xv_credit {
    uint64_t bytes; /* for each window */
    uint64_t window_ms;
    uint64_t remaining;
    uint64_t window_start_ms; /* with the timer pending: of the window to come */
    uint64_t timer_ms; /* when a packet that waits may have credit, or XV_NEVER */
};

/** credit_init() - Without a limit. */
void credit_init(struct xv_credit *credit);

/**
 * credit_set() - Change the limit (xen_net_rate_changed).
 * @credit:	One that waits looks again at once
 * @bytes:	Credit of a window, or XV_UNLIMITED
 * @usec:	Length of a window; 0: each packet that lacks credit gets more
 */
void credit_set(struct xv_credit *credit, uint64_t bytes, uint64_t usec);

/** credit_waits() - Is a packet waiting for a window that is still to come? */
static inline bool credit_waits(const struct xv_credit *credit, uint64_t now_ms)
{
    return credit->timer_ms != XV_NEVER && now_ms < credit->timer_ms;
}

/* credit_take() when less than @size remains, or a timer is pending. */
bool credit_take_slowly(struct xv_credit *credit, uint32_t size, uint64_t now_ms);

/**
 * credit_take() - Pay for a packet.
 * @credit:	Has its timer pending when the packet has to wait
 * @size:	Bytes of the packet
 * @now_ms:	CLOCK_MONOTONIC
 *
 * Return: false when the packet has to stay in the ring.
 */
static inline bool credit_take(struct xv_credit *credit, uint32_t size,
                               uint64_t now_ms)
{
    if (size > credit->remaining || credit->timer_ms != XV_NEVER)
        return credit_take_slowly(credit, size, now_ms);
    credit->remaining -= size;
    return true;
}

/** credit_give_back() - A packet that was paid for stays in the ring after all. */
static inline void credit_give_back(struct xv_credit *credit, uint32_t size)
{
    credit->remaining += size;
}

#endif
