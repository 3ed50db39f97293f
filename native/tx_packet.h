/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * A packet in the TX ring, as the backend takes it: every slot copied once, and
 * checked as Linux netback checks it. What a careless frontend may send costs it that
 * packet, what none would send breaks the queue.
 */
#ifndef XV_TX_PACKET_H
#define XV_TX_PACKET_H

#include "queue.h"

/* netback's limit, of the slots after the first, for a frontend that is not malicious. */
#define SLOTS_FATAL 20

/* A packet's slots, copied. */
struct tx_packet {
    struct netif_tx_request slot[1 + SLOTS_FATAL]; /* each with its own size */
    uint32_t nr_slots;
    uint32_t nr_extras;
    struct netif_extra_info extra[XEN_NETIF_EXTRA_TYPE_MAX]; /* by type; 0: none */
    uint32_t size; /* of the whole packet */
};

enum tx_verdict {
    PACKET_GOOD,
    PACKET_ERROR,  /* answer every slot with ERROR */
    PACKET_BROKEN, /* the queue is broken: answer nothing */
    PACKET_WAITS,  /* its frontend has no credit for it: leave it in the ring */
};

/**
 * tx_packet_copy() - Copy a packet's slots, and check them.
 * @queue:	Broken and counted in, if there is cause; its credit pays for the packet
 * @packet:	The copy (output)
 * @cons:	Where the packet begins; where the next one does (output)
 * @prod:	Where requests end
 */
enum tx_verdict tx_packet_copy(struct xv_back_queue *queue,
                               struct tx_packet *packet, uint32_t *cons,
                               uint32_t prod);

/** tx_packet_offload() - What the flags and the GSO extra of a good packet say. */
void tx_packet_offload(const struct tx_packet *packet,
                       struct xv_offload *offload);

#endif
