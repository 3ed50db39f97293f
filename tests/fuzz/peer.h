/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The other end of the queue that is fuzzed: it writes what an input says into memory
 * that it shares with its victim, where and when it likes.
 */
#ifndef XV_FUZZ_PEER_H
#define XV_FUZZ_PEER_H

#include <stdbool.h>
#include <stdint.h>

#include "abi/netif.h"
#include "input.h"

/*
 * What it can do. After the byte for one of them come its arguments, each as many bytes
 * as it says, the lowest first.
 */
enum peer_op {
    PEER_SLOT,    /* a slot (below): write the next one, if the ring has room */
    PEER_SLOTS,   /* count 1, a slot: write so many alike */
    PEER_RAW,     /* 12, or 8 in the RX ring: write the next slot, as it is */
    PEER_PUSH,    /* publish what was written */
    PEER_REWRITE, /* back 1, word 1, value 4: change one word of an earlier slot */
    PEER_INDEX,   /* which 1, by 4: add to a word of the ring's header */
    PEER_PAGE,    /* page 1, offset 2, count 1, bytes: write into a payload page */
    PEER_FRAME,   /* page 1, offset 2, kind 1: write a good frame's headers there */
    PEER_GRANT,   /* gref 2, flags 1, domid 1, frame 1: change a grant's entry */
    PEER_RING,    /* go on with the other ring */
    PEER_OPS
};

/*
 * A slot is
 *   TX request:   page 1, offset 2, flags 1, size 2
 *   TX response:  id 2, which is added to the right one; status 1
 *   RX request:   page 1
 *   RX response:  offset 2, flags 1, status 2
 * where a page is a number that says a gref.
 */
struct peer {
    bool front; /* it writes requests */
    bool tx;    /* it writes the TX ring now */
    uint32_t tx_prod; /* how far it has written */
    uint32_t rx_prod;
};

/** peer_init() - Begin at index @start of both rings, in TX. */
void peer_init(struct peer *peer, bool front, uint32_t start);

/** peer_sring() - The page of the ring that it writes now. */
struct xen_sring *peer_sring(const struct peer *peer);

/**
 * peer_act() - Do one thing.
 * @peer:	Who does it; a frontend also grants
 * @op:		What
 * @input:	Its arguments
 */
void peer_act(struct peer *peer, enum peer_op op, struct input *input);

#endif
