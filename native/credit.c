/* SPDX-License-Identifier: BSD-2-Clause */
#include "credit.h"

/* Who is later than this has stood still; what was missed meanwhile is not made up for. */
#define LATE_MAX_MS 1000u

void credit_init(struct xv_credit *credit)
{
    *credit = (struct xv_credit){
        .bytes = XV_UNLIMITED,
        .remaining = XV_UNLIMITED,
        .timer_ms = XV_NEVER,
    };
}

/*
 * Of a window of whole milliseconds, at least one, at the same rate. netback cuts the
 * window and leaves the bytes, and so sends up to twice as much as was asked for.
 */
static uint64_t bytes_of(uint64_t window_ms, uint64_t bytes, uint64_t usec)
{
    unsigned __int128 exact = (unsigned __int128)bytes * window_ms * 1000 / usec;

    if (bytes == XV_UNLIMITED || exact > XV_UNLIMITED)
        return XV_UNLIMITED;
    return exact > 0 || bytes == 0 ? (uint64_t)exact : 1;
}

void credit_set(struct xv_credit *credit, uint64_t bytes, uint64_t usec)
{
    credit->bytes = bytes;
    credit->window_ms = usec / 1000;
    if (usec % 1000 != 0) {
        if (credit->window_ms == 0)
            credit->window_ms = 1;
        credit->bytes = bytes_of(credit->window_ms, bytes, usec);
    }
    if (credit->timer_ms != XV_NEVER)
        credit->timer_ms = 0;
    else if (credit->remaining > credit->bytes)
        credit->remaining = credit->bytes;
}

/*
 * Add the credit of windows (tx_add_credit). That is done only for a packet that lacks
 * credit, so that what is kept is less than the longest packet. netback keeps no more
 * than a window's credit or 131,072 bytes in all, by which a vif with a credit of about
 * that much and packets of 64 KB gets only three quarters of its rate.
 */
static void add_credit(struct xv_credit *credit, uint64_t windows)
{
    uint64_t more;

    if (__builtin_mul_overflow(windows, credit->bytes, &more) ||
        __builtin_add_overflow(credit->remaining, more, &credit->remaining))
        credit->remaining = XV_UNLIMITED;
}

/*
 * A packet has waited. The windows that have begun since then count as well, unlike
 * netback's, or whoever runs late on a busy machine would get less than the rate.
 */
static void run_timer(struct xv_credit *credit, uint64_t now_ms)
{
    uint64_t windows = 1, late_ms = 0;

    credit->timer_ms = XV_NEVER;
    if (credit->window_start_ms < now_ms)
        late_ms = now_ms - credit->window_start_ms;
    else
        credit->window_start_ms = now_ms; /* another limit has come meanwhile */
    if (credit->window_ms > 0 && late_ms <= LATE_MAX_MS)
        windows += late_ms / credit->window_ms;
    credit->window_start_ms += (windows - 1) * credit->window_ms;
    add_credit(credit, windows);
}

bool credit_take_slowly(struct xv_credit *credit, uint32_t size, uint64_t now_ms)
{
    uint64_t next_credit;

    if (credit->timer_ms <= now_ms)
        run_timer(credit, now_ms);
    if (size > credit->remaining && credit_waits(credit, now_ms))
        return false;
    if (size > credit->remaining &&
        now_ms >= credit->window_start_ms + credit->window_ms) {
        credit->window_start_ms = now_ms;
        add_credit(credit, 1);
    }
    if (size > credit->remaining) {
        /* Of the window that was just begun: netback adds the next one's at once. */
        next_credit = credit->window_start_ms + credit->window_ms;
        /* One in the past runs with the next tick, as the kernel's do. */
        credit->timer_ms = next_credit > now_ms ? next_credit : now_ms + 1;
        credit->window_start_ms = next_credit;
        return false;
    }
    credit->remaining -= size;
    return true;
}
