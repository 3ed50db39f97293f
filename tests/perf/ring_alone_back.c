/* SPDX-License-Identifier: BSD-2-Clause */
/* The backend of ring_alone.c: what hop 2 does, with memory of its own for a TAP. */
#include <stdlib.h>
#include <string.h>

#include "ring_alone.h"
#include "tx_packet.h"

struct backend {
    const struct bench *bench;
    struct xv_back_queue queue; /* what tx_packet_copy() takes */
    struct xv_queue_stats stats;
    void *kept[NR_GREFS]; /* pages by gref, in mode `kept` */
    uint8_t buffer[BATCH][BUFFER_BYTES];
    uint32_t next_number;
};

/* The page of a frame, or NULL; `kept` looks into its own table of maps first. */
static void *reach(struct backend *back, uint32_t gref)
{
    bool known = back->bench->keep && gref < NR_GREFS;
    void *page;

    if (known && back->kept[gref])
        return back->kept[gref];
    if (gnttab_map(back->queue.table, gref, true, &page) != GNTST_okay)
        return NULL;
    if (known)
        back->kept[gref] = page;
    return page;
}

static void take_frame(struct backend *back, const uint8_t *page,
                       const struct netif_tx_request *slot)
{
    uint8_t *buffer = back->buffer[back->next_number % BATCH];
    uint32_t number;

    if (slot->size > BUFFER_BYTES)
        fail("the frame is too big");
    memcpy(buffer, page, slot->size);
    memcpy(&number, buffer + ETH_HLEN, sizeof(number));
    if (number != back->next_number++)
        fail("a frame is lost, or not what was sent");
}

static void respond(struct back_ring *ring, uint16_t id)
{
    struct netif_tx_response rsp = {.id = id, .status = NETIF_RSP_OKAY};

    shared_copy_to(&netif_tx_slot(ring->sring, ring->rsp_prod_pvt++)->rsp, &rsp,
                   sizeof(rsp));
}

/* Copy and check up to BATCH slots, and ask for their pages. Return: how many. */
static uint32_t take_slots(struct backend *back, uint32_t *cons, uint32_t prod,
                           struct tx_packet *packet, const uint8_t **page)
{
    uint32_t count = 0;

    while (*cons != prod && count < BATCH) {
        /* To write: the response goes into the slot that is read here. */
        prefetch_to_write(netif_tx_slot(back->queue.tx.ring.sring, *cons));
        if (tx_packet_copy(&back->queue, &packet[count], cons, prod) != PACKET_GOOD)
            fail("a bad request");
        page[count] = reach(back, packet[count].slot[0].gref);
        if (!page[count])
            fail("a page that cannot be mapped");
        page[count] += packet[count].slot[0].offset;
        __builtin_prefetch(page[count]);
        count++;
    }
    return count;
}

/* Ask for a page's cache lines after the first, which take_slots() asked for. */
static void prefetch_rest(const uint8_t *page, uint32_t size)
{
    for (uint32_t line = CACHE_LINE; line < size; line += CACHE_LINE)
        __builtin_prefetch(page + line);
}

/* Take up to BATCH frames: all slots, then all pages; so their misses overlap. */
static void take_batch(struct backend *back, uint32_t prod)
{
    struct back_ring *ring = &back->queue.tx.ring;
    struct tx_packet packet[BATCH];
    const uint8_t *page[BATCH];
    uint32_t cons = ring->req_cons;
    uint32_t count = take_slots(back, &cons, prod, packet, page);

    for (uint32_t i = 0; i < count; i++) {
        const struct netif_tx_request *slot = &packet[i].slot[0];

        if (i + 1 < count)
            prefetch_rest(page[i + 1], packet[i + 1].slot[0].size);
        take_frame(back, page[i], slot);
        if (!back->bench->keep)
            gnttab_unmap(back->queue.table, slot->gref, true);
        respond(ring, slot->id);
    }
    ring->req_cons = cons;
    back->bench->run->frames += count;
    if (ring_push_responses_and_check_notify(ring)) {
        evtchn_notify(&back->queue.base.tx_evtchn);
        back->bench->run->back_notified++;
    }
}

/* Return: whether there is more to come. */
static bool wait_for_requests(struct backend *back, int epoll_fd)
{
    struct back_ring *ring = &back->queue.tx.ring;

    for (int look = 0; look < LOOKS; look++) {
        if (shared_read(&ring->sring->req_prod) != ring->req_cons)
            return true;
        pause_cpu();
    }
    if (ring_final_check_for_requests(ring, 1) > 0)
        return true;
    if (shared_acquire(&back->bench->run->over))
        return shared_acquire(&ring->sring->req_prod) != ring->req_cons;
    sleep_until_notified(epoll_fd);
    return true;
}

static void take_frames(struct backend *back)
{
    struct back_ring *ring = &back->queue.tx.ring;
    int epoll_fd = watch(&back->queue.base.tx_evtchn);
    uint64_t start_ns = now_ns();
    bool more = true;

    while (more) {
        uint32_t prod = shared_acquire(&ring->sring->req_prod);

        if (ring_request_prod_overflow(ring, prod))
            fail("impossible number of requests");
        if (prod != ring->req_cons)
            take_batch(back, prod);
        else
            more = wait_for_requests(back, epoll_fd);
    }
    back->bench->run->ns = now_ns() - start_ns;
}

void run_backend(const struct bench *bench, const struct xv_evtchn *end)
{
    struct backend *back = calloc(1, sizeof(*back));
    void *sring;

    if (!back || xv_gnttab_peer_create(bench->memory, NR_PAGES, GRANT_FRAMES,
                                       BACK_DOMID, &back->queue.table) < 0)
        fail("no memory");
    back->bench = bench;
    memset(back->buffer, 0, sizeof(back->buffer)); /* present before the clock runs */
    back->queue.base.stats = &back->stats;
    back->queue.base.tx_evtchn.end = *end;
    credit_init(&back->queue.tx.credit);
    if (gnttab_map(back->queue.table, RING_GREF, false, &sring) != GNTST_okay ||
        !back_ring_attach(&back->queue.tx.ring, sring, NET_TX_RING_SIZE))
        fail("the ring cannot be mapped");
    take_frames(back);
}
