/* SPDX-License-Identifier: BSD-2-Clause */
/* What both ways of hop 3, direct (back_rx.c) and by copies (back_rx_copy.c), share. */
#ifndef XV_BACK_RX_H
#define XV_BACK_RX_H

#include "queue.h"

#define PAGE 4096u
#define FRAME_BYTES (XV_FRAME_PAGES * PAGE)

/** back_rx_slot() - The copy of the request at @idx. */
static inline struct xv_rx_slot *back_rx_slot(struct xv_back_rx *rx, uint32_t idx)
{
    return &rx->slot[idx & (NET_RX_RING_SIZE - 1)];
}

/** back_rx_is_gso() - Does a frame with this header need an extra-info slot? */
static inline bool back_rx_is_gso(const struct virtio_net_hdr *vnet)
{
    return vnet->gso_type != VIRTIO_NET_HDR_GSO_NONE;
}

/** back_rx_slots_needed() - Slots that a frame of @len bytes takes. */
static inline uint32_t back_rx_slots_needed(uint32_t len, bool gso)
{
    return (len + PAGE - 1) / PAGE + (gso ? 1 : 0);
}

/** back_rx_takes_gso() - Does the frontend take frames with an extra-info slot? */
static inline bool back_rx_takes_gso(const struct xv_back_queue *queue)
{
    return queue->base.peer.gso_tcpv4 || queue->base.peer.gso_tcpv6;
}

/** back_rx_slots_needed_max() - Slots that the largest frame takes. */
static inline uint32_t
back_rx_slots_needed_max(const struct xv_back_queue *queue)
{
    if (!queue->base.peer.sg)
        return 1;
    return XV_FRAME_PAGES + (back_rx_takes_gso(queue) ? 1 : 0);
}

/** back_rx_data_slot() - The slot, counted from the first, of page number @page. */
static inline uint32_t back_rx_data_slot(uint32_t page, bool gso)
{
    return gso && page > 0 ? page + 1 : page;
}

/** back_rx_held_slots() - Slots that the frame which is held needs. */
static inline uint32_t back_rx_held_slots(const struct xv_back_rx *rx)
{
    return back_rx_slots_needed(rx->held_len, back_rx_is_gso(&rx->held_vnet));
}

/**
 * back_rx_wanted() - Buffers to wait for: those of the frame that is held.
 *
 * A frontend that is stalled owes those of the frame for which it is, which may have
 * been dropped since: one that always has a single buffer would evade it (XSA-392).
 */
static inline uint32_t back_rx_wanted(const struct xv_back_rx *rx)
{
    if (rx->held_len > 0)
        return back_rx_held_slots(rx);
    return rx->stall.stalled ? rx->stall.needed : 1;
}

/**
 * back_rx_take_requests() - Have requests copied and, for the direct way, mapped.
 * @queue:	Broken when there cannot be as many as its frontend says
 * @want:	How many, from req_cons on
 *
 * One whose page is refused is answered with the grant's status, as netback does.
 *
 * Return: how many there are.
 */
uint32_t back_rx_take_requests(struct xv_back_queue *queue, uint32_t want);

/** back_rx_fits() - Can @len bytes be said to this frontend? Dropped if not. */
bool back_rx_fits(struct xv_back_queue *queue, uint32_t len);

/**
 * back_rx_translate() - Say in netif's words what the kernel says of a frame.
 * @queue:	Whose frame; it is dropped when that cannot be said
 * @vnet:	What the kernel says
 * @data:	The frame, in memory that may be written; a checksum is completed there
 * @count:	Elements of @data
 * @len:	Bytes of the frame
 * @offload:	The same in netif's words (output)
 */
bool back_rx_translate(struct xv_back_queue *queue,
                       const struct virtio_net_hdr *vnet, const struct iovec *data,
                       int count, uint32_t len, struct xv_offload *offload);

/**
 * back_rx_respond() - Answer the oldest requests, which a frame has used.
 * @queue:	Whose responses; they are not pushed
 * @len:	Bytes of the frame
 * @offload:	Of the frame
 * @pieces:	Its copies, a page each, with what became of them; NULL: all went well
 */
void back_rx_respond(struct xv_back_queue *queue, uint32_t len,
                     const struct xv_offload *offload,
                     const struct gnttab_copy *pieces);

/** back_rx_tell() - Notify of what was pushed, if that was asked for. */
void back_rx_tell(struct xv_back_queue *queue);

/** back_rx_push() - Publish responses; whoever calls this calls back_rx_tell() in the end. */
void back_rx_push(struct xv_back_queue *queue);

/** back_rx_count() - Count a frame that was handed over. */
void back_rx_count(struct xv_back_queue *queue, uint32_t len,
                   const struct xv_offload *offload);

/** back_rx_drop() - Count a frame that was not, by cause. */
void back_rx_drop(struct xv_back_queue *queue, enum xv_counter cause);

/** back_rx_hold() - Read a frame into the private buffer. Return: was there one? */
bool back_rx_hold(struct xv_back_queue *queue);

/**
 * back_rx_watch() - Look after a frontend that may be short of buffers.
 * @queue:	After a turn of hop 3
 * @delivered:	Requests were answered in it
 * @blocked:	It ended because a frame, as it seems, has no buffers
 */
void back_rx_watch(struct xv_back_queue *queue, bool delivered, bool blocked);

/**
 * back_rx_copy() - Move frames by one batch of copies.
 * @queue:	With a batch from back_rx_prepare()
 * @most:	How many frames at most, at least 1
 *
 * Return: frames taken from the TAP or out of hold.
 */
int back_rx_copy(struct xv_back_queue *queue, int most);

#endif
