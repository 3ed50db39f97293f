/* SPDX-License-Identifier: BSD-2-Clause */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>

#include "domain.h"
#include "harness.h"
#include "victim.h"
#include "network.h"

static int event_fds[2];

__attribute__((constructor)) static void make_event_channels(void)
{
    for (int i = 0; i < 2; i++) {
        event_fds[i] = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
        if (event_fds[i] < 0) {
            perror("eventfd");
            exit(2);
        }
    }
}

static struct xv_peer_features features_of(uint8_t bits)
{
    return (struct xv_peer_features){
        .sg = bits & VICTIM_SG,
        .csum_v4 = bits & VICTIM_CSUM_V4,
        .csum_v6 = bits & VICTIM_CSUM_V6,
        .gso_tcpv4 = bits & VICTIM_GSO_V4,
        .gso_tcpv6 = bits & VICTIM_GSO_V6,
        .rx_notify = bits & VICTIM_RX_NOTIFY,
    };
}

static struct xv_queue_io io_of(uint8_t bits)
{
    struct xv_evtchn one = {.pending_fd = event_fds[0], .notify_fd = event_fds[0]};
    struct xv_evtchn other = {.pending_fd = event_fds[1], .notify_fd = event_fds[1]};

    return (struct xv_queue_io){
        .tap_fd = network_tap_fd(),
        .tx = one,
        .rx = bits & VICTIM_SPLIT ? other : one,
    };
}

static int create_front(struct victim *victim, uint8_t bits)
{
    struct xv_front_buffers buffers = {.tx_ring_frame = DOMAIN_TX_RING_FRAME,
                                       .rx_ring_frame = DOMAIN_RX_RING_FRAME};
    struct xv_peer_features features = features_of(bits);
    struct xv_queue_io io = io_of(bits);

    for (uint32_t id = 0; id < NET_TX_RING_SIZE; id++) {
        buffers.tx_gref[id] = DOMAIN_TX_GREF + id;
        buffers.rx_gref[id] = DOMAIN_RX_GREF + id;
        buffers.tx_frame[id] = buffers.rx_frame[id] = domain_data_frame(id);
    }
    return xv_front_queue_create(&io, victim->table, &buffers, &features,
                                 &victim->stats, &victim->queue);
}

static int create_back(struct victim *victim, uint8_t bits)
{
    struct xv_peer_features features = features_of(bits);
    struct xv_queue_io io = io_of(bits);

    xv_gnttab_peer_set_copying(victim->peer_table, bits & VICTIM_COPYING);
    return xv_back_queue_create(&io, victim->peer_table, DOMAIN_TX_RING_GREF,
                                DOMAIN_RX_RING_GREF, &features, &victim->stats,
                                &victim->queue);
}

/* How far the victim has come in the slots that its peer writes. */
static uint32_t tx_cons(const struct victim *victim)
{
    return victim->hop->role == XV_FRONT ? queue_front(victim->queue)->tx.ring.rsp_cons
                                         : queue_back(victim->queue)->tx.ring.req_cons;
}

static uint32_t rx_cons(const struct victim *victim)
{
    return victim->hop->role == XV_FRONT ? queue_front(victim->queue)->rx.ring.rsp_cons
                                         : queue_back(victim->queue)->rx.ring.req_cons;
}

static void free_tables(struct victim *victim)
{
    xv_gnttab_destroy(victim->table);
    xv_gnttab_peer_destroy(victim->peer_table);
}

bool victim_create(struct victim *victim, const struct hop *hop, uint8_t bits)
{
    int ret;

    *victim = (struct victim){.hop = hop};
    if (xv_gnttab_create(domain_memory, DOMAIN_PAGES, DOMAIN_GRANT_FRAMES,
                         &victim->table) < 0 ||
        xv_gnttab_peer_create(domain_memory, DOMAIN_PAGES, DOMAIN_GRANT_FRAMES,
                              BACK_DOMID, &victim->peer_table) < 0) {
        perror("no memory");
        exit(2);
    }
    ret = hop->role == XV_FRONT ? create_front(victim, bits)
                                : create_back(victim, bits);
    if (ret < 0) {
        free_tables(victim);
        return false;
    }
    victim->tx_cons = tx_cons(victim);
    victim->rx_cons = rx_cons(victim);
    return true;
}

/* ---- what has to hold after each turn ---- */

static void at_most(const char *what, uint32_t is, uint32_t bound)
{
    if (is > bound)
        fuzz_fail(what, is, bound);
}

static void exactly(const char *what, uint32_t is, uint32_t expected)
{
    if (is != expected)
        fuzz_fail(what, is, expected);
}

/* Each of the 256 ids is in one place. */
static void check_ids(const char *what, const uint16_t *free_ids, uint32_t nr_free,
                      bool used[256], uint32_t nr_used)
{
    exactly(what, nr_free + nr_used, 256);
    for (uint32_t i = 0; i < nr_free; i++) {
        at_most(what, free_ids[i], 255);
        exactly(what, used[free_ids[i]], false);
        used[free_ids[i]] = true;
    }
}

static void check_front(const struct xv_front_queue *queue)
{
    const struct xv_front_tx *tx = &queue->tx;
    const struct xv_front_rx *rx = &queue->rx;
    uint32_t posted = rx->ring.req_prod_pvt - rx->ring.rsp_cons;
    uint32_t nr_in_flight = 0;
    bool used[256];

    at_most("TX requests in flight", tx->ring.req_prod_pvt - tx->ring.rsp_cons, 256);
    at_most("RX requests posted", posted, 256);
    if (queue_broken(&queue->base))
        return; /* it stopped half way, and what it has in hand is lost with it */
    for (uint32_t id = 0; id < 256; id++)
        nr_in_flight += used[id] = tx->in_flight[id];
    check_ids("TX ids", tx->free_ids, tx->nr_free, used, nr_in_flight);
    memset(used, 0, sizeof(used));
    for (uint32_t i = 0; i < posted; i++) {
        uint16_t id = rx->posted[(rx->ring.rsp_cons + i) % 256];

        at_most("RX id posted", id, 255);
        exactly("an RX id posted twice", used[id], false);
        used[id] = true;
    }
    check_ids("RX ids", rx->free_ids, rx->nr_free, used, posted);
}

/* Pages that the backend holds, its rings included. */
static uint32_t pages_held(const struct xv_gnttab_peer *table)
{
    uint32_t held = 0;

    for (uint32_t gref = 0; gref < table->granter.nr_entries; gref++)
        held += (table->pins[gref] & 0xffff) + (table->pins[gref] >> 16);
    return held;
}

static void check_back(const struct xv_back_queue *queue)
{
    const struct xv_back_tx *tx = &queue->tx;
    const struct xv_back_rx *rx = &queue->rx;
    uint32_t mapped = rx->mapped_prod - rx->ring.req_cons;
    uint32_t pages = 0;

    exactly("TX requests without an answer", tx->ring.req_cons - tx->ring.rsp_prod_pvt,
            0);
    exactly("RX requests without an answer", rx->ring.req_cons - rx->ring.rsp_prod_pvt,
            0);
    at_most("RX requests taken", mapped, 256);
    at_most("bytes held", rx->held_len, XEN_NETIF_MAX_TX_SIZE);
    for (uint32_t i = 0; i < mapped; i++)
        pages += rx->slot[(rx->ring.req_cons + i) % 256].page != NULL;
    exactly("pages that are held", pages_held(queue->table), 2 + pages);
}

static void check(const struct victim *victim)
{
    if (victim->hop->role == XV_FRONT)
        check_front(queue_front(victim->queue));
    else
        check_back(queue_back(victim->queue));
    at_most("reason to be broken", victim->stats.broken, XV_BROKEN_MAX - 1);
}

static void count_slots(struct victim *victim)
{
    uint32_t tx = tx_cons(victim), rx = rx_cons(victim);
    uint32_t slots = (tx - victim->tx_cons) + (rx - victim->rx_cons);

    fuzz_counts->slots += slots;
    victim->tx_cons = tx;
    victim->rx_cons = rx;
}

void victim_turn(struct victim *victim, int budget)
{
    xv_queue_tap_ready(victim->queue, true, true);
    victim->hop->run(victim->queue, budget);
    count_slots(victim);
    check(victim);
}

void victim_destroy(struct victim *victim)
{
    xv_queue_destroy(victim->queue);
    exactly("pages that are still held", pages_held(victim->peer_table), 0);
    free_tables(victim);
}
