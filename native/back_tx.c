/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Hop 2, backend: TX ring -> the host's TAP.
 *
 * Every slot is copied once and checked as Linux netback checks it: what a
 * careless frontend may send costs it that packet, what none would send breaks
 * the queue. The headers of a good frame are copied, the rest is written to the
 * TAP straight from the frontend's pages.
 */
#include "queue.h"

/* netback's limits count the slots after the first. */
#define SLOTS_DROP XEN_NETIF_NR_SLOTS_MIN
#define SLOTS_FATAL 20

/* A packet's slots, copied. */
struct tx_packet {
    struct netif_tx_request slot[1 + SLOTS_FATAL];
    uint32_t nr_slots;
    uint32_t nr_extras;
    struct netif_extra_info extra[XEN_NETIF_EXTRA_TYPE_MAX]; /* by type; 0: none */
    uint32_t size; /* of the whole packet */
};

enum verdict {
    PACKET_GOOD,
    PACKET_ERROR,  /* answer every slot with ERROR */
    PACKET_BROKEN, /* the queue is broken: answer nothing */
};

static void copy_request(const struct back_ring *ring, uint32_t idx,
                         struct netif_tx_request *req)
{
    shared_copy_from(req, &netif_tx_slot(ring->sring, idx)->req, sizeof(*req));
}

/* Copy the extras that follow the first slot (xenvif_get_extras). */
static enum verdict copy_extras(struct xv_back_queue *queue,
                                struct tx_packet *packet, uint32_t *cons,
                                uint32_t prod)
{
    struct netif_extra_info extra;

    do {
        if (*cons == prod) {
            queue_break(&queue->base, XV_TX_MISSING_EXTRA, 0, 0, 0);
            return PACKET_BROKEN;
        }
        shared_copy_from(&extra,
                         &netif_tx_slot(queue->tx.ring.sring, *cons)->extra,
                         sizeof(extra));
        ++*cons;
        if (extra.type == XEN_NETIF_EXTRA_TYPE_NONE ||
            extra.type >= XEN_NETIF_EXTRA_TYPE_MAX) {
            queue_break(&queue->base, XV_TX_BAD_EXTRA_TYPE, extra.type, 0, 0);
            return PACKET_BROKEN;
        }
        packet->nr_extras++;
        packet->extra[extra.type] = extra;
    } while (extra.flags & XEN_NETIF_EXTRA_FLAG_MORE);
    return PACKET_GOOD;
}

/*
 * Copy the slots after the first (xenvif_count_requests), and make the first
 * slot's size its own: the total less all others.
 */
static enum verdict copy_slots(struct xv_back_queue *queue,
                               struct tx_packet *packet, uint32_t *cons,
                               uint32_t prod)
{
    struct netif_tx_request *first = &packet->slot[0];
    enum verdict verdict = PACKET_GOOD;
    uint32_t more = first->flags & NETTXF_more_data;
    uint32_t slots = 0;

    while (more) {
        struct netif_tx_request *txp = &packet->slot[1 + slots];

        if (*cons == prod) {
            queue_break(&queue->base, XV_TX_TOO_FEW_SLOTS, slots, 0, 0);
            return PACKET_BROKEN;
        }
        if (slots >= SLOTS_FATAL) {
            queue_break(&queue->base, XV_TX_MALICIOUS_SLOTS, slots, SLOTS_FATAL,
                        0);
            return PACKET_BROKEN;
        }
        if (verdict == PACKET_GOOD && slots >= SLOTS_DROP) {
            queue_count(&queue->base, XV_tx_too_many_slots, 1);
            verdict = PACKET_ERROR;
        }
        copy_request(&queue->tx.ring, (*cons)++, txp);
        if (verdict == PACKET_GOOD && txp->size > first->size) {
            queue_count(&queue->base, XV_tx_bad_slot_size, 1);
            verdict = PACKET_ERROR;
        }
        first->size = (uint16_t)(first->size - txp->size);
        packet->nr_slots = 1 + ++slots;
        if ((uint32_t)txp->offset + txp->size > 4096) {
            queue_break(&queue->base, XV_TX_CROSS_PAGE, txp->offset, txp->size,
                        0);
            return PACKET_BROKEN;
        }
        more = txp->flags & NETTXF_more_data;
    }
    return verdict;
}

/* A GSO extra says which kind and a size (xenvif_set_skb_gso). */
static enum verdict check_gso(struct xv_back_queue *queue,
                              const struct tx_packet *packet)
{
    const struct netif_extra_gso *gso =
        &packet->extra[XEN_NETIF_EXTRA_TYPE_GSO].u.gso;

    if (packet->extra[XEN_NETIF_EXTRA_TYPE_GSO].type == 0)
        return PACKET_GOOD;
    if (gso->size == 0) {
        queue_break(&queue->base, XV_TX_GSO_SIZE_ZERO, 0, 0, 0);
        return PACKET_BROKEN;
    }
    if (gso->type != XEN_NETIF_GSO_TYPE_TCPV4 &&
        gso->type != XEN_NETIF_GSO_TYPE_TCPV6) {
        queue_break(&queue->base, XV_TX_BAD_GSO_TYPE, gso->type, 0, 0);
        return PACKET_BROKEN;
    }
    return PACKET_GOOD;
}

/* Copy a packet's slots from *cons on, and check them. */
static enum verdict copy_packet(struct xv_back_queue *queue,
                                struct tx_packet *packet, uint32_t *cons,
                                uint32_t prod)
{
    struct netif_tx_request *first = &packet->slot[0];
    enum verdict verdict = PACKET_GOOD;

    packet->nr_slots = 1;
    packet->nr_extras = 0;
    for (int type = 0; type < XEN_NETIF_EXTRA_TYPE_MAX; type++)
        packet->extra[type].type = 0;
    copy_request(&queue->tx.ring, (*cons)++, first);
    packet->size = first->size;
    if (first->flags & NETTXF_extra_info)
        verdict = copy_extras(queue, packet, cons, prod);
    if (verdict == PACKET_GOOD)
        verdict = copy_slots(queue, packet, cons, prod);
    if (verdict != PACKET_GOOD)
        return verdict;
    if (packet->extra[XEN_NETIF_EXTRA_TYPE_MCAST_ADD].type ||
        packet->extra[XEN_NETIF_EXTRA_TYPE_MCAST_DEL].type) {
        /* No data; and multicast control was not offered. */
        queue_count(&queue->base, XV_tx_bad_multicast, 1);
        return PACKET_ERROR;
    }
    if (packet->size < ETH_HLEN) {
        queue_count(&queue->base, XV_tx_bad_size, 1);
        return PACKET_ERROR;
    }
    if ((uint32_t)first->offset + first->size > 4096) {
        queue_break(&queue->base, XV_TX_CROSS_PAGE_FIRST, first->offset,
                    first->size, 0);
        return PACKET_BROKEN;
    }
    return check_gso(queue, packet);
}

static void unmap_slots(struct xv_back_queue *queue,
                        const struct tx_packet *packet, uint32_t nr_slots)
{
    for (uint32_t i = 0; i < nr_slots; i++)
        if (packet->slot[i].size > 0)
            gnttab_unmap(queue->table, packet->slot[i].gref, true);
}

/* Map a packet's pages; an empty slot has none. Return: false on a bad gref. */
static bool map_slots(struct xv_back_queue *queue, const struct tx_packet *packet,
                      struct xv_frame *frame)
{
    frame->count = 0;
    frame->len = packet->size;
    for (uint32_t i = 0; i < packet->nr_slots; i++) {
        const struct netif_tx_request *slot = &packet->slot[i];
        void *page;

        if (slot->size == 0)
            continue;
        if (gnttab_map(queue->table, slot->gref, true, &page) != GNTST_okay) {
            unmap_slots(queue, packet, i);
            queue_count(&queue->base, XV_tx_bad_gref, 1);
            return false;
        }
        frame->data[frame->count++] = (struct iovec){
            .iov_base = (uint8_t *)page + slot->offset,
            .iov_len = slot->size,
        };
    }
    return true;
}

static void set_offload(const struct tx_packet *packet,
                        struct xv_offload *offload)
{
    const struct netif_extra_info *gso = &packet->extra[XEN_NETIF_EXTRA_TYPE_GSO];
    uint16_t flags = packet->slot[0].flags;

    *offload = (struct xv_offload){
        .csum_blank = flags & NETTXF_csum_blank,
        .data_validated = flags & NETTXF_data_validated,
    };
    if (gso->type) {
        offload->gso_type = gso->u.gso.type;
        offload->gso_size = gso->u.gso.size;
    }
}

static void count_frame(struct xv_queue *queue, const struct xv_frame *frame,
                        bool fixup)
{
    queue_count(queue, XV_tx_packets, 1);
    queue_count(queue, XV_tx_bytes, frame->len);
    if (frame->offload.gso_type != XEN_NETIF_GSO_TYPE_NONE)
        queue_count(queue, XV_tx_gso_packets, 1);
    if (fixup)
        queue_count(queue, XV_tx_gso_checksum_fixup, 1);
}

/* Write a good packet to the TAP. *again: the TAP cannot take it now. */
static int forward(struct xv_back_queue *queue, const struct tx_packet *packet,
                   bool *again)
{
    struct xv_frame frame;
    bool fixup = false;
    enum xv_write written;

    if (!map_slots(queue, packet, &frame)) {
        queue_count(&queue->base, XV_tx_dropped, 1);
        return NETIF_RSP_ERROR;
    }
    set_offload(packet, &frame.offload);
    written = queue_write(&queue->base, &frame, &fixup);
    unmap_slots(queue, packet, packet->nr_slots);
    switch (written) {
    case XV_WRITTEN:
        count_frame(&queue->base, &frame, fixup);
        return NETIF_RSP_OKAY;
    case XV_AGAIN:
        *again = true;
        return NETIF_RSP_OKAY;
    case XV_UNPARSABLE:
        /* Taken, then lost as netback's own stack loses it: not an ERROR. */
        queue_count(&queue->base, XV_tx_csum_unparsable, 1);
        queue_count(&queue->base, XV_tx_dropped, 1);
        return NETIF_RSP_OKAY;
    default:
        queue_count(&queue->base, XV_tx_tap_error, 1);
        queue_count(&queue->base, XV_tx_dropped, 1);
        return NETIF_RSP_DROPPED;
    }
}

static void write_response(struct back_ring *ring, uint16_t id, int status)
{
    struct netif_tx_response rsp = {.id = id, .status = (int16_t)status};

    shared_copy_to(&netif_tx_slot(ring->sring, ring->rsp_prod_pvt++)->rsp, &rsp,
                   sizeof(rsp));
}

/* Answer every slot of a packet, in the order of its slots. */
static void respond(struct xv_back_queue *queue, const struct tx_packet *packet,
                    int status)
{
    struct back_ring *ring = &queue->tx.ring;

    write_response(ring, packet->slot[0].id, status);
    for (uint32_t i = 0; i < packet->nr_extras; i++)
        write_response(ring, 0, NETIF_RSP_NULL);
    for (uint32_t i = 1; i < packet->nr_slots; i++)
        write_response(ring, packet->slot[i].id, status);
    queue_count(&queue->base, XV_tx_slots, packet->nr_slots);
}

/* Take one packet off the ring. Return: false when none could be taken. */
static bool take_packet(struct xv_back_queue *queue, uint32_t prod)
{
    struct back_ring *ring = &queue->tx.ring;
    uint32_t cons = ring->req_cons;
    struct tx_packet packet;
    int status = NETIF_RSP_ERROR;
    bool again = false;

    switch (copy_packet(queue, &packet, &cons, prod)) {
    case PACKET_BROKEN:
        return false;
    case PACKET_ERROR:
        queue_count(&queue->base, XV_tx_dropped, 1);
        break;
    case PACKET_GOOD:
        status = forward(queue, &packet, &again);
        break;
    }
    if (again)
        return false;
    ring->req_cons = cons;
    respond(queue, &packet, status);
    return true;
}

int xv_back_tx(struct xv_queue *base, int budget)
{
    struct xv_back_queue *queue = queue_back(base);
    struct back_ring *ring = &queue->tx.ring;
    int frames = 0;

    while (frames < budget && !queue_broken(base) &&
           base->schedule.tap_writable) {
        uint32_t prod = shared_acquire(&ring->sring->req_prod);

        if (ring_request_prod_overflow(ring, prod)) {
            queue_break(base, XV_TX_IMPOSSIBLE_REQUESTS, prod, ring->req_cons,
                        ring->nr_ents);
            break;
        }
        if (ring->req_cons == prod || !take_packet(queue, prod))
            break;
        frames++;
        /* One by one: a frontend with a full ring goes on while we write. */
        if (ring_push_responses_and_check_notify(ring))
            queue_notify(base);
    }
    return frames;
}

bool back_tx_arm(struct xv_back_queue *queue)
{
    if (!queue->base.schedule.tap_writable)
        return false; /* EPOLLOUT wakes us */
    return ring_final_check_for_requests(&queue->tx.ring, 1) > 0;
}
