/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The pages of a queue that has been idle for a while, given back to the system.
 *
 * Whoever may write a page gives it back: the backend those that are posted for RX, the
 * frontend all others that are not in flight. They read as zeroes then, and are there
 * again when they are written. On Xen pages are the domain's own and stay.
 */
#include <sys/mman.h>

#include "back_rx.h"
#include "give_back.h"

/* A queue that has moved next to nothing for so long gives its pages back. */
#define GIVE_BACK_MS 1000u
#define NEXT_TO_NOTHING 64u

/* Pages that lie one after the other, in one call. */
struct run {
    uint8_t *start;
    size_t len;
};

static void run_end(struct run *run)
{
    if (run->len > 0)
        madvise(run->start, run->len, MADV_REMOVE);
    run->len = 0;
}

static void run_add(struct run *run, void *page)
{
    if (run->len == 0 || run->start + run->len != (uint8_t *)page) {
        run_end(run);
        run->start = page;
    }
    run->len += PAGE;
}

static void front_give_back(struct xv_front_queue *queue)
{
    const struct xv_front_tx *tx = &queue->tx;
    const struct xv_front_rx *rx = &queue->rx;
    struct run run = {.len = 0};

    if (queue->table->gntalloc_fd >= 0)
        return;
    front_tx_take_responses(queue);
    for (uint32_t id = 0; id < NET_TX_RING_SIZE; id++)
        if (!tx->in_flight[id])
            run_add(&run, gnttab_page(queue->table, tx->frame[id]));
    for (uint32_t i = rx->nr_free; i > 0; i--)
        run_add(&run, gnttab_page(queue->table, rx->frame[rx->free_ids[i - 1]]));
    run_end(&run);
}

static void back_give_back(struct xv_back_queue *queue)
{
    struct xv_back_rx *rx = &queue->rx;
    uint32_t posted;
    struct run run = {.len = 0};

    if (rx->held_len == 0)
        madvise(rx->held, FRAME_BYTES, MADV_DONTNEED);
    if (queue->table->copying)
        return;
    posted = back_rx_take_requests(queue, rx->ring.nr_ents);
    back_rx_tell(queue);
    for (uint32_t i = 0; i < posted; i++) {
        struct xv_rx_slot *slot = back_rx_slot(rx, rx->ring.req_cons + i);

        if (slot->page)
            run_add(&run, slot->page);
    }
    run_end(&run);
}

void queue_give_back(struct xv_queue *queue)
{
    if (queue_broken(queue))
        return;
    if (queue->role == XV_FRONT)
        front_give_back(queue_front(queue));
    else
        back_give_back(queue_back(queue));
}

static void begin(struct xv_schedule *schedule)
{
    schedule->give_back = (struct xv_give_back){
        .at_ms = schedule->now_ms + GIVE_BACK_MS,
    };
}

void give_back_moved(struct xv_queue *queue, uint32_t frames)
{
    struct xv_schedule *schedule = &queue->schedule;

    if (schedule->give_back.at_ms == XV_NEVER)
        begin(schedule);
    schedule->give_back.moved += frames;
}

void give_back_idle(struct xv_queue *queue)
{
    struct xv_schedule *schedule = &queue->schedule;

    if (schedule->now_ms < schedule->give_back.at_ms)
        return;
    if (schedule->give_back.moved > NEXT_TO_NOTHING) {
        begin(schedule);
        return;
    }
    schedule->give_back.at_ms = XV_NEVER;
    queue_give_back(queue);
}
