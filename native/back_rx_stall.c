/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Hop 3 for a frontend that posts no buffers. Its frames wait in the TAP, which holds
 * as many as any interface does, and one in our own buffer: no memory of ours grows.
 */
#include "back_rx.h"

/* Frames that are dropped in a turn: a TAP that is being filled ends it too. */
#define DRAIN_MAX 1024

/* Drop what waits, the frame that is held and all in the TAP. */
static void drain(struct xv_back_queue *queue)
{
    for (int i = 0; i < DRAIN_MAX; i++) {
        if (queue->rx.held_len == 0 && !back_rx_hold(queue))
            return;
        if (queue->rx.held_len == 0)
            continue; /* too long, and dropped for that */
        queue->rx.held_len = 0;
        back_rx_drop(queue, XV_rx_drained);
    }
}

/* Does a frame wait, now that it matters? It is held then. */
static bool really_waits(struct xv_back_queue *queue)
{
    while (queue->rx.held_len == 0)
        if (!back_rx_hold(queue))
            return false;
    return true;
}

/* Are there the buffers that were waited for? */
static bool posted(const struct xv_back_rx *rx)
{
    return shared_acquire(&rx->ring.sring->req_prod) - rx->ring.req_cons >=
           back_rx_wanted(rx);
}

void back_rx_watch(struct xv_back_queue *queue, bool delivered, bool blocked)
{
    struct xv_rx_stall *stall = &queue->rx.stall;
    uint64_t now_ms = queue->base.schedule.now_ms;

    if (delivered || (stall->stalled && posted(&queue->rx)))
        rx_stall_posted(stall);
    if (!blocked)
        rx_stall_emptied(stall);
    else
        rx_stall_waits(stall, now_ms);
    if (rx_stall_due(stall, now_ms)) {
        if (really_waits(queue)) {
            stall->stalled = true;
            stall->needed = back_rx_held_slots(&queue->rx);
        } else {
            rx_stall_posted(stall);
        }
    }
    if (rx_stall_drain_due(stall, now_ms)) {
        drain(queue);
        rx_stall_emptied(stall);
    }
    shared_write(&queue->base.stats->rx_stalled, stall->stalled);
}
