/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Hop 3 where the frontend's pages cannot be had directly: several frames are read
 * into a buffer of our own, and copied at once into just the pages that they need.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "back_rx.h"

/* Frames of one batch, and the bytes that it has room for. */
#define BATCH_FRAMES 16
#define BATCH_BYTES (256u * 1024)

/* Frames that are copied at once to the pages that the frontend posted. */
struct xv_rx_batch {
    struct {
        uint32_t len;
        struct xv_offload offload;
        uint32_t first_piece; /* one for each page */
    } item[BATCH_FRAMES];
    uint32_t nr_items;
    struct gnttab_copy piece[BATCH_FRAMES * XV_FRAME_PAGES];
    uint32_t nr_pieces;
    uint32_t slots; /* that its frames take, from req_cons on */
    uint32_t used;  /* bytes of @data */
    uint8_t data[BATCH_BYTES];
};

/* Add the frame at the end of the batch's data, which has its slots, to it. */
static void add_frame(struct xv_back_queue *queue, const struct virtio_net_hdr *vnet,
                      uint32_t len)
{
    struct xv_rx_batch *batch = queue->rx.batch;
    uint8_t *frame = batch->data + batch->used;
    struct iovec data = {.iov_base = frame, .iov_len = len};
    struct xv_offload offload;

    if (!back_rx_translate(queue, vnet, &data, 1, len, &offload))
        return;
    batch->item[batch->nr_items].len = len;
    batch->item[batch->nr_items].offload = offload;
    batch->item[batch->nr_items].first_piece = batch->nr_pieces;
    batch->nr_items++;
    for (uint32_t page = 0; page < back_rx_slots_needed(len, false); page++) {
        uint32_t left = len - page * PAGE;
        uint32_t slot = batch->slots + back_rx_data_slot(page, back_rx_is_gso(vnet));

        batch->piece[batch->nr_pieces++] = (struct gnttab_copy){
            .local = frame + page * PAGE,
            .gref = back_rx_slot(&queue->rx, queue->rx.ring.req_cons + slot)->gref,
            .len = (uint16_t)(left < PAGE ? left : PAGE),
        };
    }
    batch->slots += back_rx_slots_needed(len, back_rx_is_gso(vnet));
    batch->used += len;
}

/* Keep the frame at the end of the batch's data until more is posted. */
static void keep_frame(struct xv_back_queue *queue,
                       const struct virtio_net_hdr *vnet, uint32_t len)
{
    struct xv_rx_batch *batch = queue->rx.batch;

    memcpy(queue->rx.held, batch->data + batch->used, len);
    queue->rx.held_vnet = *vnet;
    queue->rx.held_len = len;
}

/* Take the held frame into the batch, if its slots are posted by now. */
static bool take_held(struct xv_back_queue *queue)
{
    struct xv_back_rx *rx = &queue->rx;
    uint32_t slots = back_rx_held_slots(rx);

    if (back_rx_take_requests(queue, slots) < slots)
        return false;
    memcpy(rx->batch->data, rx->held, rx->held_len);
    add_frame(queue, &rx->held_vnet, rx->held_len);
    rx->held_len = 0;
    return true;
}

/* Read a frame into the batch, or into hold. Return: whether there was one. */
static bool read_into_batch(struct xv_back_queue *queue)
{
    struct xv_rx_batch *batch = queue->rx.batch;
    uint32_t posted = back_rx_take_requests(
        queue, batch->slots + back_rx_slots_needed_max(queue));
    struct virtio_net_hdr vnet;
    struct iovec iov[2] = {
        {.iov_base = &vnet, .iov_len = sizeof(vnet)},
        {.iov_base = batch->data + batch->used, .iov_len = FRAME_BYTES},
    };
    bool gso;
    uint32_t len;

    if (queue_broken(&queue->base) || posted == batch->slots)
        return false;
    len = queue_read(&queue->base, iov, 2);
    if (len == 0)
        return false;
    if (!back_rx_fits(queue, len))
        return true;
    /* One that this frontend does not take is dropped, and needs no slots for it. */
    gso = back_rx_is_gso(&vnet) && back_rx_takes_gso(queue);
    if (batch->slots + back_rx_slots_needed(len, gso) <= posted)
        add_frame(queue, &vnet, len);
    else
        keep_frame(queue, &vnet, len);
    return true;
}

/* Answer a frame whose pieces have been copied, or not. */
static void answer_frame(struct xv_back_queue *queue, uint32_t len,
                         const struct xv_offload *offload,
                         const struct gnttab_copy *pieces)
{
    bool good = true;

    for (uint32_t page = 0; page < back_rx_slots_needed(len, false); page++)
        good &= pieces[page].status == GNTST_okay;
    back_rx_respond(queue, len, offload, pieces);
    if (good)
        back_rx_count(queue, len, offload);
    else
        back_rx_drop(queue, XV_rx_bad_gref);
}

int back_rx_copy(struct xv_back_queue *queue, int most)
{
    struct xv_rx_batch *batch = queue->rx.batch;
    int taken = 0;

    if (most > BATCH_FRAMES)
        most = BATCH_FRAMES;
    batch->nr_items = batch->nr_pieces = batch->slots = batch->used = 0;
    if (queue->rx.held_len > 0) {
        if (!take_held(queue))
            return 0;
        taken++;
    }
    while (taken < most && batch->used + FRAME_BYTES <= BATCH_BYTES &&
           queue->rx.held_len == 0 && read_into_batch(queue))
        taken++;
    if (batch->nr_items == 0)
        return taken;
    gnttab_copy(queue->table, GNTTAB_TO_PEER, batch->piece, batch->nr_pieces);
    for (uint32_t i = 0; i < batch->nr_items; i++)
        answer_frame(queue, batch->item[i].len, &batch->item[i].offload,
                     &batch->piece[batch->item[i].first_piece]);
    back_rx_push(queue);
    return taken;
}

int back_rx_prepare(struct xv_back_queue *queue)
{
    if (!queue->table->copying)
        return 0;
    queue->rx.batch = malloc(sizeof(*queue->rx.batch));
    return queue->rx.batch ? 0 : -ENOMEM;
}
