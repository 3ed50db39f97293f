/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Hop 1, frontend: the domain's TAP -> TX ring.
 *
 * A frame is read from the TAP straight into granted pages; a request for each
 * page, and an extra-info slot for GSO, tells the backend. A full ring stops the
 * reading, so that the sender's own queue fills.
 */
#include <errno.h>

#include "queue.h"

/* Data slots of the largest frame and its extra. */
#define TX_SLOTS_NEEDED (XV_FRAME_PAGES + 1)

/* Check one response. Return: false when it broke the queue. */
static bool take_response(struct xv_front_queue *queue,
                          const struct netif_tx_response *rsp)
{
    struct xv_front_tx *tx = &queue->tx;

    if (rsp->status == NETIF_RSP_NULL)
        return true; /* an extra-info slot's: it has no id */
    if (rsp->id >= NET_TX_RING_SIZE) {
        queue_break(&queue->base, XV_TX_INCORRECT_ID, rsp->id, 0, 0);
        return false;
    }
    if (!tx->in_flight[rsp->id]) {
        queue_break(&queue->base, XV_TX_INACTIVE_REQUEST, rsp->id, 0, 0);
        return false;
    }
    if (gnttab_in_use(queue->table, tx->gref[rsp->id])) {
        queue_break(&queue->base, XV_GRANT_IN_USE, tx->gref[rsp->id], 0, 0);
        return false;
    }
    if (rsp->status == NETIF_RSP_ERROR)
        queue_count(&queue->base, XV_tx_rsp_error, 1);
    else if (rsp->status == NETIF_RSP_DROPPED)
        queue_count(&queue->base, XV_tx_rsp_dropped, 1);
    tx->in_flight[rsp->id] = false;
    return true;
}

/*
 * The pages that the backend used first are the next to be used, in the same order:
 * they are still in the CPU's cache, and where pages lie one after the other a frame
 * is one piece of memory.
 */
void front_tx_take_responses(struct xv_front_queue *queue)
{
    struct xv_front_tx *tx = &queue->tx;
    uint16_t ids[NET_TX_RING_SIZE];
    uint32_t count = 0;
    struct front_ring *ring = &queue->tx.ring;
    uint32_t rsp_prod = shared_acquire(&ring->sring->rsp_prod);

    if (ring_response_prod_overflow(ring, rsp_prod)) {
        queue_break(&queue->base, XV_ILLEGAL_RESPONSES,
                    rsp_prod - ring->rsp_cons, 0, 0);
        return;
    }
    while (ring->rsp_cons != rsp_prod) {
        struct netif_tx_response rsp;

        shared_copy_from(&rsp, &netif_tx_slot(ring->sring, ring->rsp_cons)->rsp,
                         sizeof(rsp));
        ring->rsp_cons++;
        if (!take_response(queue, &rsp))
            return;
        if (rsp.status != NETIF_RSP_NULL)
            ids[count++] = rsp.id;
    }
    while (count > 0)
        tx->free_ids[tx->nr_free++] = ids[--count];
}

/* Are there slots within the window, and pages, for the largest frame? */
static bool has_room(const struct xv_front_queue *queue)
{
    const struct front_ring *ring = &queue->tx.ring;
    uint32_t in_flight = ring->req_prod_pvt - ring->rsp_cons;

    return in_flight + TX_SLOTS_NEEDED <= queue->tx.window &&
           queue->tx.nr_free >= XV_FRAME_PAGES;
}

static void write_extra(struct front_ring *ring, const struct xv_offload *offload)
{
    struct netif_extra_info extra = {
        .type = XEN_NETIF_EXTRA_TYPE_GSO,
        .u.gso = {.size = offload->gso_size, .type = offload->gso_type},
    };

    shared_copy_to(&netif_tx_slot(ring->sring, ring->req_prod_pvt++)->extra,
                   &extra, sizeof(extra));
}

static uint16_t first_flags(const struct xv_offload *offload)
{
    uint16_t flags = 0;

    if (offload->csum_blank)
        flags |= NETTXF_csum_blank;
    if (offload->data_validated)
        flags |= NETTXF_data_validated;
    if (offload->gso_type != XEN_NETIF_GSO_TYPE_NONE)
        flags |= NETTXF_extra_info;
    return flags;
}

/*
 * Write the requests of a frame that lies in the next free pages. The first
 * slot's size is the whole frame's, the others' their own (netif.h, "Guest
 * transmit").
 */
static void write_requests(struct xv_front_queue *queue, uint32_t len,
                           const struct xv_offload *offload)
{
    struct xv_front_tx *tx = &queue->tx;
    uint16_t flags = first_flags(offload);
    uint32_t left = len;

    while (left > 0) {
        uint16_t id = tx->free_ids[--tx->nr_free];
        uint32_t size = left < 4096 ? left : 4096;
        bool first = left == len;
        struct netif_tx_request req = {
            .gref = tx->gref[id],
            .flags = (uint16_t)(left > size ? flags | NETTXF_more_data : flags),
            .id = id,
            .size = (uint16_t)(first ? len : size),
        };

        tx->in_flight[id] = true;
        shared_copy_to(&netif_tx_slot(tx->ring.sring, tx->ring.req_prod_pvt++)->req,
                       &req, sizeof(req));
        if (first && flags & NETTXF_extra_info)
            write_extra(&tx->ring, offload);
        flags = 0;
        left -= size;
        queue_count(&queue->base, XV_tx_slots, 1);
    }
}

/* Can @len bytes be said in netif, to this backend? */
static bool fits(struct xv_front_queue *queue, uint32_t len)
{
    if (len <= XEN_NETIF_MAX_TX_SIZE && (queue->base.peer.sg || len <= 4096))
        return true;
    queue_count(&queue->base, XV_tx_too_big, 1);
    return false;
}

/* Send one frame. Return: 1 when one was taken from the TAP, else 0. */
static int send_frame(struct xv_front_queue *queue)
{
    struct xv_front_tx *tx = &queue->tx;
    struct virtio_net_hdr vnet;
    struct iovec iov[1 + XV_FRAME_PAGES] = {
        {.iov_base = &vnet, .iov_len = sizeof(vnet)},
    };
    struct xv_offload offload;
    int count = 1;
    uint32_t len;
    int ret;

    for (uint32_t i = 0; i < XV_FRAME_PAGES; i++) {
        uint16_t id = tx->free_ids[tx->nr_free - 1 - i];

        count = queue_append(
            iov, count,
            (struct iovec){.iov_base = gnttab_page(queue->table, tx->frame[id]),
                           .iov_len = 4096});
    }
    len = queue_read(&queue->base, iov, count);
    if (len == 0)
        return 0;
    if (!fits(queue, len))
        goto drop;
    ret = offload_from_vnet(&vnet, iov + 1, count - 1, len,
                            &queue->base.peer, &offload);
    if (ret < 0) {
        queue_count(&queue->base, XV_tx_no_offload, 1);
        goto drop;
    }
    if (ret > 0)
        queue_count(&queue->base, XV_tx_csum_filled, 1);
    if (offload.gso_type != XEN_NETIF_GSO_TYPE_NONE)
        queue_count(&queue->base, XV_tx_gso_packets, 1);
    write_requests(queue, len, &offload);
    tx->window = len > 4096 ? XV_WINDOW_SLOTS : NET_TX_RING_SIZE;
    queue_count(&queue->base, XV_tx_packets, 1);
    queue_count(&queue->base, XV_tx_bytes, len);
    return 1;

drop:
    queue_count(&queue->base, XV_tx_dropped, 1);
    return 1;
}

/* Publish requests, and see whether the backend asked to be told of them. */
static void push_and_notify(struct xv_front_queue *queue)
{
    if (ring_push_requests_and_check_notify(&queue->tx.ring))
        queue_notify_tx(&queue->base);
}

int xv_front_tx(struct xv_queue *base, int budget)
{
    struct xv_front_queue *queue = queue_front(base);
    int frames = 0;

    /* Early: whoever sends little has one page to be in the cache, not the ring's 256. */
    if (!queue_broken(base) && (base->schedule.tap_readable || base->settling.on))
        front_tx_take_responses(queue);
    while (frames < budget && !queue_broken(base)) {
        if (!has_room(queue)) {
            front_tx_take_responses(queue);
            if (queue_broken(base) || !has_room(queue))
                break;
        }
        if (!send_frame(queue))
            break;
        if (++frames % XV_NOTIFY_FRAMES == 0)
            push_and_notify(queue);
        else
            ring_push_requests(&queue->tx.ring);
    }
    if (frames % XV_NOTIFY_FRAMES != 0)
        push_and_notify(queue);
    return frames;
}

bool front_tx_arm(struct xv_front_queue *queue)
{
    struct front_ring *ring = &queue->tx.ring;
    uint32_t in_flight = ring->req_prod_pvt - ring->rsp_cons;

    if (queue->base.settling.on)
        return in_flight > 0 &&
               ring_final_check_for_responses(ring, in_flight) >= in_flight;
    if (has_room(queue))
        return queue->base.schedule.tap_readable;
    /* Half of them answered is worth a wake-up; each one is not. */
    queue_count(&queue->base, XV_tx_ring_full, 1);
    return ring_final_check_for_responses(ring, (in_flight + 1) / 2) >=
           (in_flight + 1) / 2;
}
