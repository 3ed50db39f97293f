/* SPDX-License-Identifier: BSD-2-Clause */
#include "credit.h"

void credit_init(struct xv_credit *credit)
{
    *credit = (struct xv_credit){
        .bytes = XV_UNLIMITED,
        .remaining = XV_UNLIMITED,
        .timer_ms = XV_NEVER,
    };
}

void credit_set(struct xv_credit *credit, uint64_t bytes, uint64_t usec)
{
    credit->bytes = bytes;
    credit->usec = usec;
    if (credit->timer_ms != XV_NEVER)
        credit->timer_ms = 0;
    else if (credit->remaining > bytes)
        credit->remaining = bytes;
}

/*
 * Add a window's credit (tx_add_credit). That is done only for a packet that lacks
 * credit, so that what is kept is less than the longest packet. netback keeps no more
 * than a window's credit or 131,072 bytes in all, by which a vif with a credit of about
 * that much and packets of 64 KB gets only three quarters of its rate.
 */
static void add_credit(struct xv_credit *credit)
{
    if (XV_UNLIMITED - credit->remaining < credit->bytes)
        credit->remaining = XV_UNLIMITED;
    else
        credit->remaining += credit->bytes;
}

static void run_timer(struct xv_credit *credit)
{
    credit->timer_ms = XV_NEVER;
    add_credit(credit);
}

bool credit_take_slowly(struct xv_credit *credit, uint32_t size, uint64_t now_ms)
{
    uint64_t next_credit;

    if (credit->timer_ms <= now_ms)
        run_timer(credit);
    if (size > credit->remaining && credit_waits(credit, now_ms))
        return false;
    next_credit = credit->window_start_ms + credit->usec / 1000;
    if (size > credit->remaining && now_ms >= next_credit) {
        credit->window_start_ms = now_ms;
        add_credit(credit);
    }
    if (size > credit->remaining) {
        /* One in the past runs with the next tick, as the kernel's do. */
        credit->timer_ms = next_credit > now_ms ? next_credit : now_ms + 1;
        credit->window_start_ms = next_credit;
        return false;
    }
    credit->remaining -= size;
    return true;
}
