/* SPDX-License-Identifier: BSD-2-Clause */
#include "rx_stall.h"

void rx_stall_init(struct xv_rx_stall *stall, bool rx_notify)
{
    /* One that does not tell of buffers may have posted some: it is not stalled. */
    *stall = (struct xv_rx_stall){
        .drain_timeout_ms =
            rx_notify ? RX_DRAIN_TIMEOUT_MS : RX_DRAIN_TIMEOUT_NO_NOTIFY_MS,
        .stall_timeout_ms = rx_notify ? RX_STALL_TIMEOUT_MS : 0,
        .waits_since_ms = XV_NEVER,
        .short_since_ms = XV_NEVER,
    };
}

void rx_stall_waits(struct xv_rx_stall *stall, uint64_t now_ms)
{
    if (stall->waits_since_ms == XV_NEVER)
        stall->waits_since_ms = now_ms;
    if (stall->short_since_ms == XV_NEVER)
        stall->short_since_ms = now_ms;
}

void rx_stall_emptied(struct xv_rx_stall *stall)
{
    stall->waits_since_ms = XV_NEVER;
}

void rx_stall_posted(struct xv_rx_stall *stall)
{
    stall->waits_since_ms = stall->short_since_ms = XV_NEVER;
    stall->stalled = false;
}

bool rx_stall_drain_due(const struct xv_rx_stall *stall, uint64_t now_ms)
{
    return stall->waits_since_ms != XV_NEVER &&
           now_ms >= stall->waits_since_ms + stall->drain_timeout_ms;
}

/* Some frame has to wait for a frontend to be stalled, though not always the same. */
static bool may_stall(const struct xv_rx_stall *stall)
{
    return stall->stall_timeout_ms > 0 && !stall->stalled &&
           stall->waits_since_ms != XV_NEVER;
}

bool rx_stall_due(const struct xv_rx_stall *stall, uint64_t now_ms)
{
    return may_stall(stall) &&
           now_ms >= stall->short_since_ms + stall->stall_timeout_ms;
}

uint64_t rx_stall_deadline(const struct xv_rx_stall *stall)
{
    uint64_t drain, stalled;

    if (stall->waits_since_ms == XV_NEVER)
        return XV_NEVER;
    drain = stall->waits_since_ms + stall->drain_timeout_ms;
    if (!may_stall(stall))
        return drain;
    stalled = stall->short_since_ms + stall->stall_timeout_ms;
    return stalled < drain ? stalled : drain;
}
