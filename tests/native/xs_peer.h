/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * What a client of the store may expect. The bytes that it sends are cut into
 * messages in the plainest way; each must get one reply, in order, with its
 * req_id and tx_id, and nothing else may come but events. Otherwise the
 * program ends with abort().
 */
#ifndef XV_XS_PEER_H
#define XV_XS_PEER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "abi/xs_wire.h"

enum { PEER_PAYLOAD_MAX = 4096 };

struct peer_counts {
    uint64_t messages; /* that came whole */
    uint64_t replies;
    uint64_t errors; /* of the replies */
    uint64_t events;
    uint64_t upcalls;
    uint64_t ends; /* connections that the store gave up */
};

struct peer_expected;

struct peer {
    struct peer_counts *counts;
    uint32_t tx_id; /* of the transaction that was begun last */
    bool too_long;  /* a message of more than 4096 bytes was announced */
    struct peer_expected *first, **last; /* replies to come, oldest first */

    /* What was sent, not whole yet. */
    uint8_t header[sizeof(struct xsd_sockmsg)];
    size_t header_len;
    size_t payload_left;

    /* What came, not whole yet. */
    uint8_t got[sizeof(struct xsd_sockmsg) + PEER_PAYLOAD_MAX];
    size_t got_len;
};

/* Begin a connection, and forget what was expected of it. */
void peer_begin(struct peer *peer, struct peer_counts *counts);
void peer_end(struct peer *peer);

void peer_sends(struct peer *peer, const uint8_t *data, size_t len);
void peer_gets(struct peer *peer, const uint8_t *data, size_t len);

/* Whether every message that was sent has its reply. */
static inline bool peer_is_answered(const struct peer *peer)
{
    return peer->first == NULL;
}

/* End the program because the oldest message has no reply. */
void peer_complain(const struct peer *peer, const char *why);

#endif
