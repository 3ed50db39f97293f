/* SPDX-License-Identifier: BSD-2-Clause */
#include "tx_packet.h"

/* netback's limit, of the slots after the first, for a packet that is dropped. */
#define SLOTS_DROP XEN_NETIF_NR_SLOTS_MIN

static void copy_request(const struct back_ring *ring, uint32_t idx,
                         struct netif_tx_request *req)
{
    shared_copy_from(req, &netif_tx_slot(ring->sring, idx)->req, sizeof(*req));
}

/* Copy the extras that follow the first slot (xenvif_get_extras). */
static enum tx_verdict copy_extras(struct xv_back_queue *queue,
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
static enum tx_verdict copy_slots(struct xv_back_queue *queue,
                               struct tx_packet *packet, uint32_t *cons,
                               uint32_t prod)
{
    struct netif_tx_request *first = &packet->slot[0];
    enum tx_verdict verdict = PACKET_GOOD;
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
static enum tx_verdict check_gso(struct xv_back_queue *queue,
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

/* Has the frontend credit for a packet of this size? It is paid for then. */
static bool pay(struct xv_back_queue *queue, uint32_t size)
{
    struct xv_credit *credit = &queue->tx.credit;
    uint64_t now_ms = queue->base.schedule.now_ms;
    bool waited = credit_waits(credit, now_ms);

    if (credit_take(credit, size, now_ms))
        return true;
    if (!waited)
        queue_count(&queue->base, XV_tx_credit_exceeded, 1);
    return false;
}

enum tx_verdict tx_packet_copy(struct xv_back_queue *queue,
                               struct tx_packet *packet, uint32_t *cons,
                               uint32_t prod)
{
    struct netif_tx_request *first = &packet->slot[0];
    enum tx_verdict verdict = PACKET_GOOD;

    packet->nr_slots = 1;
    packet->nr_extras = 0;
    for (int type = 0; type < XEN_NETIF_EXTRA_TYPE_MAX; type++)
        packet->extra[type].type = 0;
    copy_request(&queue->tx.ring, (*cons)++, first);
    packet->size = first->size;
    if (!pay(queue, packet->size))
        return PACKET_WAITS;
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

void tx_packet_offload(const struct tx_packet *packet,
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
