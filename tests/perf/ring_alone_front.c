/* SPDX-License-Identifier: BSD-2-Clause */
/* The frontend of ring_alone.c: what hop 1 does, with a template for a TAP. */
#include <stdlib.h>
#include <string.h>

#include "ring_alone.h"

/* Frames that a cache line takes to come from the other CPU. */
#define AHEAD 2u
/* Batches between two looks at the clock. */
#define CLOCK_BATCHES 256

struct frontend {
    const struct bench *bench;
    struct xv_front_tx tx; /* ids, grefs and pages, as hop 1 keeps them */
    struct xv_gnttab *table;
    struct evtchn evtchn;
};

static void grant(struct frontend *front, uint16_t id)
{
    if (xv_gnttab_grant(front->table, front->tx.gref[id], BACK_DOMID,
                        DATA_FRAME + (uint32_t)id, true) < 0)
        fail("a grant that should be free is not");
}

static void take_responses(struct frontend *front)
{
    struct xv_front_tx *tx = &front->tx;
    uint32_t rsp_prod = shared_acquire(&tx->ring.sring->rsp_prod);

    if (ring_response_prod_overflow(&tx->ring, rsp_prod))
        fail("illegal number of responses");
    while (tx->ring.rsp_cons != rsp_prod) {
        struct netif_tx_response rsp;

        shared_copy_from(&rsp,
                         &netif_tx_slot(tx->ring.sring, tx->ring.rsp_cons++)->rsp,
                         sizeof(rsp));
        if (rsp.id >= NET_TX_RING_SIZE || !tx->in_flight[rsp.id] ||
            rsp.status != NETIF_RSP_OKAY)
            fail("bad response");
        if (!front->bench->keep && xv_gnttab_end(front->table, tx->gref[rsp.id]) < 0)
            fail("grant still in use by backend domain");
        tx->in_flight[rsp.id] = false;
        tx->free_ids[tx->nr_free++] = rsp.id;
    }
}

static bool has_room(const struct frontend *front)
{
    return front->tx.nr_free >= BATCH;
}

/* Look for a while, then have half of what is in flight notified, as hop 1 has. */
static void wait_for_responses(struct frontend *front, int epoll_fd)
{
    struct front_ring *ring = &front->tx.ring;
    uint32_t half;

    for (int look = 0; look < LOOKS; look++) {
        if (shared_read(&ring->sring->rsp_prod) - ring->rsp_cons >= BATCH)
            return;
        pause_cpu();
    }
    half = (ring->req_prod_pvt - ring->rsp_cons + 1) / 2;
    if (ring_final_check_for_responses(ring, half) < half)
        sleep_until_notified(epoll_fd);
}

static uint8_t *page_of(const struct frontend *front, uint16_t id)
{
    return gnttab_page(front->table, front->tx.frame[id]);
}

/* The page of the frame that is sent after @later others. */
static uint8_t *next_page(const struct frontend *front, uint32_t later)
{
    return page_of(front, front->tx.free_ids[front->tx.nr_free - 1 - later]);
}

static void send_frame(struct frontend *front, const uint8_t *template,
                       uint32_t number)
{
    struct xv_front_tx *tx = &front->tx;
    uint16_t id = tx->free_ids[--tx->nr_free];
    struct netif_tx_request req = {
        .gref = tx->gref[id], .id = id, .size = (uint16_t)front->bench->frame_size};

    memcpy(page_of(front, id), template, front->bench->frame_size);
    memcpy(page_of(front, id) + ETH_HLEN, &number, sizeof(number));
    if (!front->bench->keep)
        grant(front, id);
    tx->in_flight[id] = true;
    shared_copy_to(&netif_tx_slot(tx->ring.sring, tx->ring.req_prod_pvt++)->req,
                   &req, sizeof(req));
}

/* Ask for a page's cache lines after the first, which send_batch() asks for. */
static void prefetch_rest(const uint8_t *page, uint32_t size)
{
    for (uint32_t line = CACHE_LINE; line < size; line += CACHE_LINE)
        prefetch_to_write(page + line);
}

static void send_batch(struct frontend *front, const uint8_t *template,
                       uint32_t number)
{
    for (uint32_t i = 0; i < BATCH; i++)
        prefetch_to_write(next_page(front, i));
    for (uint32_t i = 0; i < BATCH; i++) {
        if (i + AHEAD < BATCH)
            prefetch_rest(next_page(front, AHEAD), front->bench->frame_size);
        send_frame(front, template, number + i);
    }
    if (ring_push_requests_and_check_notify(&front->tx.ring)) {
        evtchn_notify(&front->evtchn);
        front->bench->run->front_notified++;
    }
}

static void send_frames(struct frontend *front, uint64_t until_ns)
{
    uint8_t template[BUFFER_BYTES] = {0x02};
    int epoll_fd = watch(&front->evtchn);
    uint32_t number = 0;

    for (uint32_t batches = 0;
         batches % CLOCK_BATCHES != 0 || now_ns() < until_ns; batches++) {
        while (!has_room(front)) {
            take_responses(front);
            if (!has_room(front))
                wait_for_responses(front, epoll_fd);
        }
        send_batch(front, template, number);
        number += BATCH;
    }
    shared_release(&front->bench->run->over, 1);
    evtchn_notify(&front->evtchn);
}

void run_frontend(const struct bench *bench, const struct xv_evtchn *end,
                  uint64_t run_ns)
{
    struct frontend *front = calloc(1, sizeof(*front));

    if (!front || xv_gnttab_create(bench->memory, NR_PAGES, GRANT_FRAMES,
                                   &front->table) < 0)
        fail("no memory");
    front->bench = bench;
    front->evtchn.end = *end;
    front_ring_init(&front->tx.ring, xv_gnttab_page(front->table, RING_FRAME),
                    NET_TX_RING_SIZE);
    for (uint16_t id = 0; id < NET_TX_RING_SIZE; id++) {
        front->tx.gref[id] = DATA_GREF + (uint32_t)id;
        front->tx.frame[id] = DATA_FRAME + (uint32_t)id;
        front->tx.free_ids[front->tx.nr_free++] = id;
        if (front->bench->keep)
            grant(front, id);
    }
    send_frames(front, now_ns() + run_ns);
}
