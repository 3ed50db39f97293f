/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * A hop that is fuzzed, in a queue of its own: how it is run, and what has to hold after
 * each turn, whatever its peer did. hops.c has the table.
 */
#ifndef XV_FUZZ_VICTIM_H
#define XV_FUZZ_VICTIM_H

#include "queue.h"

struct hop {
    const char *name;
    enum xv_role role;
    bool both_rings; /* not TX alone, or RX alone */
    bool tx;         /* its peer begins with the TX ring */
    int (*run)(struct xv_queue *queue, int budget);
};

/** hop_find() - The hop of that name, or NULL. */
const struct hop *hop_find(const char *name);

/* What the two ends have agreed on: a bit each, so that a byte says all. */
enum victim_features {
    VICTIM_SG = 1,
    VICTIM_CSUM_V4 = 2,
    VICTIM_CSUM_V6 = 4,
    VICTIM_GSO_V4 = 8,
    VICTIM_GSO_V6 = 16,
    VICTIM_RX_NOTIFY = 32,
    VICTIM_COPYING = 64, /* a backend's payload is granted and copied */
    VICTIM_SPLIT = 128,  /* event channels */
};

/* The end whose hop is fuzzed, in the memory of domain.h and on the TAP of network.h. */
struct victim {
    const struct hop *hop;
    struct xv_gnttab *table;           /* the frontend's */
    struct xv_gnttab_peer *peer_table; /* the backend's */
    struct xv_queue *queue;
    struct xv_queue_stats stats;
    uint32_t tx_cons, rx_cons; /* what it had taken when it was last looked at */
};

/**
 * victim_create() - Have a queue on the rings as they are in memory.
 * @victim:	New (output)
 * @hop:	What it is for
 * @features:	enum victim_features
 *
 * Return: false when it does not want the rings.
 */
bool victim_create(struct victim *victim, const struct hop *hop, uint8_t features);

/**
 * victim_turn() - Run the hop once, count the slots that it took, and check it.
 * @victim:	Whose TAP is readable and writable, as far as it knows
 * @budget:	Frames, at least 1
 */
void victim_turn(struct victim *victim, int budget);

/** victim_destroy() - Free it; it must let go of every page. */
void victim_destroy(struct victim *victim);

#endif
