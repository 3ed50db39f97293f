/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * A frontend that posts no RX buffers: for how long frames wait for it, and when it
 * counts as stalled (netback's rx.c). Time is an argument, in milliseconds.
 */
#ifndef XV_RX_STALL_H
#define XV_RX_STALL_H

#include "credit.h"

/* netback's module parameters, and what it takes without feature-rx-notify. */
#define RX_DRAIN_TIMEOUT_MS 10000u
#define RX_STALL_TIMEOUT_MS 60000u
#define RX_DRAIN_TIMEOUT_NO_NOTIFY_MS 30u

struct xv_rx_stall {
    uint64_t drain_timeout_ms;
    uint64_t stall_timeout_ms; /* 0: it never counts as stalled */
    uint64_t waits_since_ms;   /* the frames that wait; XV_NEVER: none does */
    uint64_t short_since_ms;   /* of buffers, whatever was dropped; or XV_NEVER */
    bool stalled;
    uint32_t needed; /* stalled: the buffers of the frame for which it is */
};

/** rx_stall_init() - Nothing waits; netback's timeouts. */
void rx_stall_init(struct xv_rx_stall *stall, bool rx_notify);

/** rx_stall_waits() - There is a frame, and no buffers for it. */
void rx_stall_waits(struct xv_rx_stall *stall, uint64_t now_ms);

/** rx_stall_emptied() - What waited was dropped, or there was nothing. */
void rx_stall_emptied(struct xv_rx_stall *stall);

/** rx_stall_posted() - There were buffers: no longer short of them, nor stalled. */
void rx_stall_posted(struct xv_rx_stall *stall);

/** rx_stall_drain_due() - Is it time to drop what waits? */
bool rx_stall_drain_due(const struct xv_rx_stall *stall, uint64_t now_ms);

/** rx_stall_due() - Has a frontend that is not stalled become so? */
bool rx_stall_due(const struct xv_rx_stall *stall, uint64_t now_ms);

/** rx_stall_deadline() - When one of the two may next be so, or XV_NEVER. */
uint64_t rx_stall_deadline(const struct xv_rx_stall *stall);

#endif
