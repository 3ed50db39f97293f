/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Hop 3, backend: the host's TAP -> RX ring.
 *
 * A frame is read from the TAP straight into the pages that the frontend posted.
 * Its length is known only afterwards, so room for the largest one is offered.
 * The GSO extra-info takes the second slot (netif.h, "Guest receive"): where GSO
 * was negotiated, the second slot's page is therefore offered last.
 *
 * With fewer requests posted than the largest frame may need, the frame is read
 * into a private buffer and held until it fits: what was taken is not dropped.
 *
 * Where the pages cannot be had directly, back_rx_copy.c has its own way.
 */
#include <string.h>

#include "back_rx.h"

/* Copy the request at mapped_prod, and map its page where that can be done. */
static void map_request(struct xv_back_queue *queue)
{
    struct xv_back_rx *rx = &queue->rx;
    struct xv_rx_slot *slot = back_rx_slot(rx, rx->mapped_prod);
    struct netif_rx_request req;

    shared_copy_from(&req, &netif_rx_slot(rx->ring.sring, rx->mapped_prod)->req,
                     sizeof(req));
    rx->mapped_prod++;
    slot->id = req.id;
    slot->gref = req.gref;
    slot->page = NULL;
    slot->status = GNTST_okay;
    if (!rx->batch)
        slot->status =
            (int16_t)gnttab_map(queue->table, req.gref, false, &slot->page);
}

static void write_response(struct xv_back_queue *queue, const void *rsp)
{
    struct back_ring *ring = &queue->rx.ring;

    shared_copy_to(netif_rx_slot(ring->sring, ring->rsp_prod_pvt++), rsp,
                   sizeof(struct netif_rx_response));
}

/* Give up the page of the oldest request, before its response tells of it. */
static struct xv_rx_slot *consume(struct xv_back_queue *queue)
{
    struct xv_rx_slot *slot = back_rx_slot(&queue->rx, queue->rx.ring.req_cons++);

    if (slot->page)
        gnttab_unmap(queue->table, slot->gref, false);
    slot->page = NULL;
    return slot;
}

/* See whether the frontend asked to be told of the responses. */
static void notify(struct xv_back_queue *queue)
{
    queue->rx.untold = 0;
    if (ring_push_responses_and_check_notify(&queue->rx.ring))
        queue_notify_rx(&queue->base);
}

void back_rx_tell(struct xv_back_queue *queue)
{
    if (queue->rx.untold > 0)
        notify(queue);
}

void back_rx_push(struct xv_back_queue *queue)
{
    ring_push_responses(&queue->rx.ring);
    if (++queue->rx.untold >= XV_NOTIFY_FRAMES)
        notify(queue);
}

/* Answer the requests before @end, the last of which has a bad grant. */
static void refuse_requests(struct xv_back_queue *queue, uint32_t end)
{
    while (queue->rx.ring.req_cons != end) {
        struct xv_rx_slot *slot = consume(queue);
        struct netif_rx_response rsp = {
            .id = slot->id,
            .status = slot->status == GNTST_okay ? GNTST_general_error
                                                 : slot->status,
        };

        write_response(queue, &rsp);
    }
    queue_count(&queue->base, XV_rx_bad_gref, 1);
    back_rx_push(queue);
}

uint32_t back_rx_take_requests(struct xv_back_queue *queue, uint32_t want)
{
    struct xv_back_rx *rx = &queue->rx;
    uint32_t prod = shared_acquire(&rx->ring.sring->req_prod);

    /* Requests that were taken before their frame came cannot be taken back. */
    if (ring_request_prod_overflow(&rx->ring, prod) ||
        prod - rx->ring.req_cons < rx->mapped_prod - rx->ring.req_cons) {
        queue_break(&queue->base, XV_RX_IMPOSSIBLE_REQUESTS, prod,
                    rx->ring.req_cons, rx->ring.nr_ents);
        return 0;
    }
    while (rx->mapped_prod - rx->ring.req_cons < want && rx->mapped_prod != prod) {
        uint32_t idx = rx->mapped_prod;

        map_request(queue);
        if (back_rx_slot(rx, idx)->status != GNTST_okay)
            refuse_requests(queue, idx + 1);
    }
    return rx->mapped_prod - rx->ring.req_cons;
}

static void *slot_page(struct xv_back_queue *queue, uint32_t slot)
{
    return back_rx_slot(&queue->rx, queue->rx.ring.req_cons + slot)->page;
}

/* Without GSO the second slot holds data: close the gap that was left for it. */
static void close_gap(struct xv_back_queue *queue, uint32_t len)
{
    for (uint32_t page = 1; page < back_rx_slots_needed(len, false); page++) {
        uint32_t size = len - page * PAGE;

        memcpy(slot_page(queue, page), slot_page(queue, page + 1),
               size < PAGE ? size : PAGE);
    }
}

static uint16_t first_flags(const struct xv_offload *offload)
{
    uint16_t flags = 0;

    if (offload->csum_blank)
        flags |= NETRXF_csum_blank;
    if (offload->data_validated)
        flags |= NETRXF_data_validated;
    if (offload->gso_type != XEN_NETIF_GSO_TYPE_NONE)
        flags |= NETRXF_extra_info;
    return flags;
}

/* What became of a page of a frame; all went well where nothing was copied. */
static int16_t page_status(const struct gnttab_copy *pieces, uint32_t page)
{
    return pieces ? pieces[page].status : (int16_t)GNTST_okay;
}

void back_rx_respond(struct xv_back_queue *queue, uint32_t len,
                            const struct xv_offload *offload,
                     const struct gnttab_copy *pieces)
{
    bool gso = offload->gso_type != XEN_NETIF_GSO_TYPE_NONE;
    uint16_t flags = first_flags(offload);
    uint32_t left = len;

    while (left > 0) {
        uint32_t size = left < PAGE ? left : PAGE;
        struct xv_rx_slot *slot = consume(queue);
        int16_t status = page_status(pieces, (len - left) / PAGE);
        struct netif_rx_response rsp = {
            .id = slot->id,
            .flags = (uint16_t)(left > size ? flags | NETRXF_more_data : flags),
            .status = status == GNTST_okay ? (int16_t)size : status,
        };

        write_response(queue, &rsp);
        if (gso && left == len) {
            struct netif_extra_info extra = {
                .type = XEN_NETIF_EXTRA_TYPE_GSO,
                .u.gso = {.size = offload->gso_size, .type = offload->gso_type},
            };

            consume(queue);
            write_response(queue, &extra);
        }
        flags = 0;
        left -= size;
        queue_count(&queue->base, XV_rx_slots, 1);
    }
}

void back_rx_drop(struct xv_back_queue *queue, enum xv_counter cause)
{
    queue_count(&queue->base, cause, 1);
    queue_count(&queue->base, XV_rx_dropped, 1);
}

bool back_rx_fits(struct xv_back_queue *queue, uint32_t len)
{
    if (len <= XEN_NETIF_MAX_TX_SIZE && (queue->base.peer.sg || len <= PAGE))
        return true;
    back_rx_drop(queue, XV_rx_too_big);
    return false;
}

void back_rx_count(struct xv_back_queue *queue, uint32_t len,
                        const struct xv_offload *offload)
{
    if (offload->gso_type != XEN_NETIF_GSO_TYPE_NONE)
        queue_count(&queue->base, XV_rx_gso_packets, 1);
    queue_count(&queue->base, XV_rx_packets, 1);
    queue_count(&queue->base, XV_rx_bytes, len);
}

bool back_rx_translate(struct xv_back_queue *queue,
                      const struct virtio_net_hdr *vnet, const struct iovec *data,
                      int count, uint32_t len, struct xv_offload *offload)
{
    int ret =
        offload_from_vnet(vnet, data, count, len, &queue->base.peer, offload);

    if (ret < 0) {
        back_rx_drop(queue, XV_rx_no_offload);
        return false;
    }
    if (ret > 0)
        queue_count(&queue->base, XV_rx_csum_filled, 1);
    return true;
}

/* Hand over a frame that lies in the pages of the oldest requests. */
static void deliver(struct xv_back_queue *queue,
                    const struct virtio_net_hdr *vnet, uint32_t len)
{
    bool gso = back_rx_is_gso(vnet);
    uint32_t pages = back_rx_slots_needed(len, false);
    struct iovec data[XV_FRAME_PAGES];
    struct xv_offload offload;

    for (uint32_t page = 0; page < pages; page++)
        data[page] = (struct iovec){
            .iov_base = slot_page(queue, back_rx_data_slot(page, gso)),
            .iov_len = PAGE,
        };
    if (!back_rx_translate(queue, vnet, data, (int)pages, len, &offload))
        return;
    back_rx_respond(queue, len, &offload, NULL);
    back_rx_push(queue);
    back_rx_count(queue, len, &offload);
}

/* Read a frame into the posted pages. Return: whether there was one. */
static bool receive_direct(struct xv_back_queue *queue, uint32_t slots)
{
    bool skip_second = back_rx_takes_gso(queue);
    uint32_t pages = skip_second ? slots - 1 : slots;
    struct virtio_net_hdr vnet;
    struct iovec iov[1 + XV_FRAME_PAGES + 1] = {
        {.iov_base = &vnet, .iov_len = sizeof(vnet)},
    };
    int count = 1;
    uint32_t len;

    for (uint32_t page = 0; page < pages; page++)
        count = queue_append(
            iov, count,
            (struct iovec){
                .iov_base = slot_page(queue, back_rx_data_slot(page, skip_second)),
                .iov_len = PAGE});
    /* A longer frame shows by its length; without this it would be cut. */
    iov[count++] = (struct iovec){.iov_base = queue->rx.held, .iov_len = PAGE};
    len = queue_read(&queue->base, iov, count);
    if (len == 0)
        return false;
    if (!back_rx_fits(queue, len))
        return true;
    if (skip_second && !back_rx_is_gso(&vnet))
        close_gap(queue, len);
    deliver(queue, &vnet, len);
    return true;
}

bool back_rx_hold(struct xv_back_queue *queue)
{
    struct xv_back_rx *rx = &queue->rx;
    struct iovec iov[2] = {
        {.iov_base = &rx->held_vnet, .iov_len = sizeof(rx->held_vnet)},
        {.iov_base = rx->held, .iov_len = FRAME_BYTES},
    };
    uint32_t len = queue_read(&queue->base, iov, 2);

    if (len == 0)
        return false;
    if (back_rx_fits(queue, len))
        rx->held_len = len;
    return true;
}

/* Deliver the held frame once enough is posted. Return: whether it is gone. */
static bool release_held(struct xv_back_queue *queue)
{
    struct xv_back_rx *rx = &queue->rx;
    bool gso = back_rx_is_gso(&rx->held_vnet);
    uint32_t len = rx->held_len;

    if (back_rx_take_requests(queue, back_rx_held_slots(rx)) < back_rx_held_slots(rx))
        return false;
    for (uint32_t page = 0; page < back_rx_slots_needed(len, false); page++) {
        uint32_t size = len - page * PAGE;

        memcpy(slot_page(queue, back_rx_data_slot(page, gso)), rx->held + page * PAGE,
               size < PAGE ? size : PAGE);
    }
    deliver(queue, &rx->held_vnet, len);
    rx->held_len = 0;
    return true;
}

/* Move one frame, if there is one and a place for it. Return: whether it did. */
static bool receive(struct xv_back_queue *queue)
{
    uint32_t needed = back_rx_slots_needed_max(queue);
    uint32_t mapped;

    if (queue->rx.held_len > 0)
        return release_held(queue);
    if (!queue->base.schedule.tap_readable)
        return false;
    mapped = back_rx_take_requests(queue, needed);
    if (mapped >= needed)
        return receive_direct(queue, needed);
    if (queue_broken(&queue->base) || mapped == 0)
        return false;
    return back_rx_hold(queue);
}

int xv_back_rx(struct xv_queue *base, int budget)
{
    struct xv_back_queue *queue = queue_back(base);
    uint32_t answered = queue->rx.ring.rsp_prod_pvt;
    int frames = 0;
    int moved = 1;

    while (frames < budget && moved > 0 && !queue_broken(base)) {
        moved = queue->rx.batch ? back_rx_copy(queue, budget - frames)
                                : receive(queue);
        frames += moved;
    }
    back_rx_tell(queue);
    if (!queue_broken(base))
        back_rx_watch(queue, queue->rx.ring.rsp_prod_pvt != answered,
                      queue->rx.held_len > 0 ||
                          (moved == 0 && base->schedule.tap_readable));
    return frames;
}

bool back_rx_arm(struct xv_back_queue *queue)
{
    struct xv_back_rx *rx = &queue->rx;
    uint32_t want = back_rx_wanted(rx);

    if (rx->held_len == 0) {
        if (queue->base.settling.on)
            return false;
        if (!queue->base.schedule.tap_readable && !rx->stall.stalled)
            return false;
    }
    queue_count(&queue->base, XV_rx_no_slots, 1);
    return ring_final_check_for_requests(&rx->ring, want) >= want;
}

void back_rx_unmap(struct xv_back_queue *queue)
{
    while (queue->rx.ring.req_cons != queue->rx.mapped_prod)
        consume(queue);
}
