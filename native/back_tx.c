/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Hop 2, backend: TX ring -> the host's TAP.
 *
 * Packets are copied and checked slot by slot (tx_packet.c). The headers of a good
 * frame are copied, the rest is written to the TAP straight from the frontend's pages.
 * Where those cannot be had directly, the payload of several packets is copied at once
 * into a buffer of our own first.
 */
#include <errno.h>
#include <stdlib.h>

#include "tx_packet.h"

/* Packets of one batch, and the bytes that it has room for. */
#define BATCH_PACKETS 16
#define BATCH_BYTES (256u * 1024)

/* Packets whose payload is copied at once. */
struct xv_tx_batch {
    struct {
        struct tx_packet packet;
        enum tx_verdict verdict;
        uint32_t end;         /* req_cons after it */
        uint32_t first_piece; /* one for each slot that is not empty */
        uint32_t nr_pieces;
    } item[BATCH_PACKETS];
    uint32_t nr_items;
    uint32_t next; /* the first item that is still to be forwarded */
    struct gnttab_copy piece[BATCH_PACKETS * (1 + SLOTS_FATAL)];
    uint32_t nr_pieces;
    uint32_t used; /* bytes of @data */
    uint8_t data[BATCH_BYTES];
};

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
            return false;
        }
        frame->data[frame->count++] = (struct iovec){
            .iov_base = (uint8_t *)page + slot->offset,
            .iov_len = slot->size,
        };
    }
    return true;
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

/* Write a frame to the TAP. *again: the TAP cannot take it now. */
static int write_frame(struct xv_back_queue *queue, const struct tx_packet *packet,
                       struct xv_frame *frame, bool *again)
{
    bool fixup = false;

    tx_packet_offload(packet, &frame->offload);
    switch (queue_write(&queue->base, frame, &fixup)) {
    case XV_WRITTEN:
        count_frame(&queue->base, frame, fixup);
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

static int refuse_gref(struct xv_back_queue *queue)
{
    queue_count(&queue->base, XV_tx_bad_gref, 1);
    queue_count(&queue->base, XV_tx_dropped, 1);
    return NETIF_RSP_ERROR;
}

/* Write a good packet to the TAP, from the frontend's own pages. */
static int forward(struct xv_back_queue *queue, const struct tx_packet *packet,
                   bool *again)
{
    struct xv_frame frame;
    int status;

    if (!map_slots(queue, packet, &frame))
        return refuse_gref(queue);
    status = write_frame(queue, packet, &frame, again);
    unmap_slots(queue, packet, packet->nr_slots);
    return status;
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

/* See whether the frontend asked to be told of the responses. */
static void notify(struct xv_back_queue *queue)
{
    queue->tx.untold = 0;
    if (ring_push_responses_and_check_notify(&queue->tx.ring))
        queue_notify_tx(&queue->base);
}

/* Take a packet off the ring that ends before @cons. */
static void finish(struct xv_back_queue *queue, const struct tx_packet *packet,
                   uint32_t cons, int status)
{
    struct back_ring *ring = &queue->tx.ring;

    ring->req_cons = cons;
    respond(queue, packet, status);
    /* One by one: a frontend with a full ring goes on while we write. */
    ring_push_responses(ring);
    if (++queue->tx.untold >= XV_NOTIFY_FRAMES)
        notify(queue);
}

/* Move one packet. Return: how many were moved, 0 or 1. */
static int take_one(struct xv_back_queue *queue, uint32_t prod)
{
    uint32_t cons = queue->tx.ring.req_cons;
    struct tx_packet packet;
    int status = NETIF_RSP_ERROR;
    bool again = false;

    switch (tx_packet_copy(queue, &packet, &cons, prod)) {
    case PACKET_BROKEN:
    case PACKET_WAITS:
        return 0;
    case PACKET_ERROR:
        queue_count(&queue->base, XV_tx_dropped, 1);
        break;
    case PACKET_GOOD:
        status = forward(queue, &packet, &again);
        break;
    }
    if (again) {
        credit_give_back(&queue->tx.credit, packet.size);
        return 0;
    }
    finish(queue, &packet, cons, status);
    return 1;
}

/* Have the payload of the batch's newest packet copied. */
static void add_pieces(struct xv_tx_batch *batch, const struct tx_packet *packet)
{
    for (uint32_t i = 0; i < packet->nr_slots; i++) {
        const struct netif_tx_request *slot = &packet->slot[i];

        if (slot->size == 0)
            continue;
        batch->piece[batch->nr_pieces++] =
            (struct gnttab_copy){.local = batch->data + batch->used,
                                 .gref = slot->gref,
                                 .offset = slot->offset,
                                 .len = slot->size};
        batch->used += slot->size;
    }
}

/* Copy and check up to @most packets, and their payload. */
static void fill_batch(struct xv_back_queue *queue, uint32_t prod, uint32_t most)
{
    struct xv_tx_batch *batch = queue->tx.batch;
    uint32_t cons = queue->tx.ring.req_cons;

    batch->nr_items = batch->next = batch->nr_pieces = batch->used = 0;
    while (cons != prod && batch->nr_items < most &&
           batch->used + XEN_NETIF_MAX_TX_SIZE <= BATCH_BYTES) {
        uint32_t number = batch->nr_items;

        batch->item[number].first_piece = batch->nr_pieces;
        batch->item[number].verdict =
            tx_packet_copy(queue, &batch->item[number].packet, &cons, prod);
        if (batch->item[number].verdict == PACKET_BROKEN ||
            batch->item[number].verdict == PACKET_WAITS)
            break; /* those before it are good all the same */
        if (batch->item[number].verdict == PACKET_GOOD)
            add_pieces(batch, &batch->item[number].packet);
        batch->item[number].nr_pieces =
            batch->nr_pieces - batch->item[number].first_piece;
        batch->item[number].end = cons;
        batch->nr_items++;
    }
    gnttab_copy(queue->table, GNTTAB_FROM_PEER, batch->piece, batch->nr_pieces);
}

/* Write a packet of the batch to the TAP, from the batch's buffer. */
static int forward_copy(struct xv_back_queue *queue, const struct tx_packet *packet,
                        const struct gnttab_copy *pieces, uint32_t nr_pieces,
                        bool *again)
{
    struct xv_frame frame = {.len = packet->size, .count = 1};

    for (uint32_t i = 0; i < nr_pieces; i++)
        if (pieces[i].status != GNTST_okay)
            return refuse_gref(queue);
    frame.data[0] = (struct iovec){.iov_base = pieces[0].local,
                                   .iov_len = packet->size};
    return write_frame(queue, packet, &frame, again);
}

/*
 * Move up to @most packets by one batch of copies, or what a full TAP has left of
 * the last one. Return: how many were moved.
 */
static int take_batch(struct xv_back_queue *queue, uint32_t prod, uint32_t most)
{
    struct xv_tx_batch *batch = queue->tx.batch;
    int moved = 0;

    if (batch->next == batch->nr_items)
        fill_batch(queue, prod, most < BATCH_PACKETS ? most : BATCH_PACKETS);
    for (; batch->next < batch->nr_items && moved < (int)most;
         batch->next++, moved++) {
        uint32_t i = batch->next;
        int status = NETIF_RSP_ERROR;
        bool again = false;

        if (batch->item[i].verdict == PACKET_GOOD)
            status = forward_copy(queue, &batch->item[i].packet,
                                  &batch->piece[batch->item[i].first_piece],
                                  batch->item[i].nr_pieces, &again);
        else
            queue_count(&queue->base, XV_tx_dropped, 1);
        if (again)
            break;
        finish(queue, &batch->item[i].packet, batch->item[i].end, status);
    }
    return moved;
}

int back_tx_prepare(struct xv_back_queue *queue)
{
    if (!queue->table->copying)
        return 0;
    queue->tx.batch = malloc(sizeof(*queue->tx.batch));
    if (!queue->tx.batch)
        return -ENOMEM;
    queue->tx.batch->nr_items = queue->tx.batch->next = 0;
    return 0;
}

int xv_back_tx(struct xv_queue *base, int budget)
{
    struct xv_back_queue *queue = queue_back(base);
    struct back_ring *ring = &queue->tx.ring;
    int frames = 0;

    while (frames < budget && !queue_broken(base) &&
           base->schedule.tap_writable) {
        uint32_t prod = shared_acquire(&ring->sring->req_prod);
        int taken;

        if (ring_request_prod_overflow(ring, prod)) {
            queue_break(base, XV_TX_IMPOSSIBLE_REQUESTS, prod, ring->req_cons,
                        ring->nr_ents);
            break;
        }
        if (ring->req_cons == prod)
            break;
        taken = queue->tx.batch
                    ? take_batch(queue, prod, (uint32_t)(budget - frames))
                    : take_one(queue, prod);
        if (taken == 0)
            break;
        frames += taken;
    }
    if (queue->tx.untold > 0)
        notify(queue);
    return frames;
}

bool back_tx_arm(struct xv_back_queue *queue)
{
    if (!queue->base.schedule.tap_writable)
        return false; /* EPOLLOUT wakes us */
    if (credit_waits(&queue->tx.credit, queue->base.schedule.now_ms))
        return false; /* the timer does, and no notification need */
    return ring_final_check_for_requests(&queue->tx.ring, 1) > 0;
}
