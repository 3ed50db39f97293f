/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Hop 4, frontend: RX ring -> the domain's TAP.
 *
 * Responses come in the slots of their requests. The buffers of a frame that is
 * written are the next to be posted. A bad frame costs its buffers' content; only an
 * impossible index or a page that the backend has not let go of breaks the queue
 * (xen-netfront.c).
 */
#include "queue.h"

/* netfront's limit: 17 fragments, and the first slot when it is small. */
#define RX_COPY_THRESHOLD 256
#define FRAGS_MAX 17

struct rx_packet {
    struct xv_frame frame;
    struct netif_extra_info gso; /* type 0: none */
    uint32_t slots;              /* with data */
    bool bad;
};

/* Count what is wrong with a packet, once. */
static void bad_packet(struct xv_front_queue *queue, struct rx_packet *packet,
                       enum xv_counter cause)
{
    if (packet->bad)
        return;
    packet->bad = true;
    queue_count(&queue->base, cause, 1);
    queue_count(&queue->base, XV_rx_dropped, 1);
}

/* The buffer that was posted at @idx. */
static uint16_t posted_id(const struct xv_front_queue *queue, uint32_t idx)
{
    return queue->rx.posted[idx & (NET_RX_RING_SIZE - 1)];
}

/* Has the backend let go of the slot's page? Otherwise the queue is broken. */
static bool let_go(struct xv_front_queue *queue, uint32_t idx)
{
    uint32_t gref = queue->rx.gref[posted_id(queue, idx)];

    if (!gnttab_in_use(queue->table, gref))
        return true;
    queue_break(&queue->base, XV_GRANT_IN_USE, gref, 0, 0);
    return false;
}

/* Add a slot's data to the packet. */
static void add_data(struct xv_front_queue *queue, struct rx_packet *packet,
                     uint32_t idx, const struct netif_rx_response *rsp,
                     uint32_t slots_max)
{
    uint8_t *page =
        gnttab_page(queue->table, queue->rx.frame[posted_id(queue, idx)]);
    uint32_t size = (uint16_t)rsp->status;

    if (rsp->status < 0 || rsp->offset + size > 4096) {
        bad_packet(queue, packet, XV_rx_bad_response);
        return;
    }
    if (++packet->slots > slots_max) {
        bad_packet(queue, packet, XV_rx_too_many_slots);
        return;
    }
    if (size == 0)
        return;
    packet->frame.data[packet->frame.count++] = (struct iovec){
        .iov_base = page + rsp->offset,
        .iov_len = size,
    };
    packet->frame.len += size;
}

/* Copy the extras after the first slot. Return: false when the queue broke. */
static bool take_extras(struct xv_front_queue *queue, struct rx_packet *packet,
                        uint32_t *cons, uint32_t prod)
{
    struct netif_extra_info extra;

    do {
        if (*cons == prod) {
            bad_packet(queue, packet, XV_rx_missing_extra);
            return true;
        }
        shared_copy_from(&extra,
                         &netif_rx_slot(queue->rx.ring.sring, *cons)->extra,
                         sizeof(extra));
        if (!let_go(queue, (*cons)++))
            return false;
        if (extra.type == XEN_NETIF_EXTRA_TYPE_NONE ||
            extra.type >= XEN_NETIF_EXTRA_TYPE_MAX)
            bad_packet(queue, packet, XV_rx_bad_extra_type);
        else if (extra.type == XEN_NETIF_EXTRA_TYPE_GSO)
            packet->gso = extra;
    } while (extra.flags & XEN_NETIF_EXTRA_FLAG_MORE);
    return true;
}

/* Set what the first slot's flags and the GSO extra say of the packet. */
static void set_offload(struct xv_front_queue *queue, struct rx_packet *packet,
                        uint16_t flags)
{
    struct xv_offload *offload = &packet->frame.offload;
    const struct netif_extra_gso *gso = &packet->gso.u.gso;

    offload->csum_blank = flags & NETRXF_csum_blank;
    offload->data_validated = flags & NETRXF_data_validated;
    if (packet->gso.type == XEN_NETIF_EXTRA_TYPE_NONE)
        return;
    if (gso->size == 0 || (gso->type != XEN_NETIF_GSO_TYPE_TCPV4 &&
                           gso->type != XEN_NETIF_GSO_TYPE_TCPV6)) {
        bad_packet(queue, packet, XV_rx_bad_gso);
        return;
    }
    offload->gso_type = gso->type;
    offload->gso_size = gso->size;
}

/*
 * Take the slots of one packet from *cons on (xennet_get_responses). Return:
 * false when the queue broke.
 */
static bool take_packet(struct xv_front_queue *queue, struct rx_packet *packet,
                        uint32_t *cons, uint32_t prod)
{
    uint32_t slots_max = FRAGS_MAX + 1;
    uint16_t first_flags = 0;
    bool first = true;

    *packet = (struct rx_packet){.slots = 0};
    for (;;) {
        struct netif_rx_response rsp;
        uint32_t idx = *cons;

        if (idx == prod) {
            bad_packet(queue, packet, XV_rx_need_more_slots);
            break;
        }
        shared_copy_from(&rsp, &netif_rx_slot(queue->rx.ring.sring, idx)->rsp,
                         sizeof(rsp));
        ++*cons;
        if (!let_go(queue, idx))
            return false;
        if (first && rsp.status <= RX_COPY_THRESHOLD)
            slots_max++;
        add_data(queue, packet, idx, &rsp, slots_max);
        if (first && rsp.flags & NETRXF_extra_info &&
            !take_extras(queue, packet, cons, prod))
            return false;
        if (first)
            first_flags = rsp.flags;
        first = false;
        if (!(rsp.flags & NETRXF_more_data))
            break;
    }
    set_offload(queue, packet, first_flags);
    if (packet->frame.len < ETH_HLEN)
        bad_packet(queue, packet, XV_rx_bad_size);
    return true;
}

static void count_frame(struct xv_queue *queue, const struct rx_packet *packet,
                        bool fixup)
{
    queue_count(queue, XV_rx_packets, 1);
    queue_count(queue, XV_rx_bytes, packet->frame.len);
    queue_count(queue, XV_rx_slots, packet->slots);
    if (packet->frame.offload.gso_type != XEN_NETIF_GSO_TYPE_NONE)
        queue_count(queue, XV_rx_gso_packets, 1);
    if (fixup)
        queue_count(queue, XV_rx_gso_checksum_fixup, 1);
}

/* Write a packet to the TAP. Return: false when it cannot take it now. */
static bool forward(struct xv_front_queue *queue, struct rx_packet *packet)
{
    bool fixup = false;

    if (packet->bad)
        return true;
    switch (queue_write(&queue->base, &packet->frame, &fixup)) {
    case XV_WRITTEN:
        count_frame(&queue->base, packet, fixup);
        return true;
    case XV_AGAIN:
        return false;
    case XV_UNPARSABLE:
        bad_packet(queue, packet, XV_rx_csum_unparsable);
        return true;
    default:
        bad_packet(queue, packet, XV_rx_tap_error);
        return true;
    }
}

/*
 * The buffers of the slots before @cons are ours again. The last one that was used
 * is the next to be posted, while it is still in the CPU's cache.
 */
static void take_back(struct xv_front_queue *queue, uint32_t cons)
{
    struct xv_front_rx *rx = &queue->rx;

    for (uint32_t idx = cons; idx != rx->ring.rsp_cons; idx--)
        rx->free_ids[rx->nr_free++] = posted_id(queue, idx - 1);
    rx->ring.rsp_cons = cons;
}

/* Move one frame. Return: whether there was one that could be moved. */
static bool receive(struct xv_front_queue *queue)
{
    struct front_ring *ring = &queue->rx.ring;
    uint32_t prod = shared_acquire(&ring->sring->rsp_prod);
    uint32_t cons = ring->rsp_cons;
    struct rx_packet packet;

    if (ring_response_prod_overflow(ring, prod)) {
        queue_break(&queue->base, XV_ILLEGAL_RESPONSES, prod - cons, 0, 0);
        return false;
    }
    if (cons == prod || !take_packet(queue, &packet, &cons, prod) ||
        !forward(queue, &packet))
        return false;
    take_back(queue, cons);
    if (!packet.bad)
        queue->rx.window =
            packet.frame.len > 4096 ? XV_WINDOW_SLOTS : NET_RX_RING_SIZE;
    return true;
}

/* Buffers that the backend has. */
static uint32_t posted(const struct xv_front_queue *queue)
{
    return queue->rx.ring.req_prod_pvt - queue->rx.ring.rsp_cons;
}

void front_rx_refill(struct xv_front_queue *queue)
{
    struct front_ring *ring = &queue->rx.ring;

    if (posted(queue) >= queue->rx.window)
        return;
    while (posted(queue) < queue->rx.window) {
        uint16_t id = queue->rx.free_ids[--queue->rx.nr_free];
        struct netif_rx_request req = {.id = id, .gref = queue->rx.gref[id]};

        queue->rx.posted[ring->req_prod_pvt & (NET_RX_RING_SIZE - 1)] = id;
        shared_copy_to(&netif_rx_slot(ring->sring, ring->req_prod_pvt++)->req,
                       &req, sizeof(req));
    }
    if (ring_push_requests_and_check_notify(ring))
        queue_notify_rx(&queue->base);
}

int xv_front_rx(struct xv_queue *base, int budget)
{
    struct xv_front_queue *queue = queue_front(base);
    int frames = 0;

    while (frames < budget && !queue_broken(base) &&
           base->schedule.tap_writable && receive(queue)) {
        frames++;
        if (posted(queue) <= queue->rx.window - queue->rx.window / 4)
            front_rx_refill(queue);
    }
    if (!queue_broken(base))
        front_rx_refill(queue);
    return frames;
}

bool front_rx_arm(struct xv_front_queue *queue)
{
    if (!queue->base.schedule.tap_writable)
        return false; /* EPOLLOUT wakes us */
    return ring_final_check_for_responses(&queue->rx.ring, 1) > 0;
}
