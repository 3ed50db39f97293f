/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * A store with clients of all sorts, for programs that send it nonsense. What
 * is not as xs_peer.h has it ends the program with abort().
 */
#ifndef XV_XS_WORLD_H
#define XV_XS_WORLD_H

#include <stddef.h>
#include <stdint.h>

#include "xs_peer.h"

enum { WORLD_CLIENTS = 6 }; /* two of domain 0, two of 1, one each of 2 and 3 */

struct world;

struct world *world_new(uint64_t seed);
void world_free(struct world *world);

/* Bytes from a client. It reads what it is sent, if not always at once. */
void world_feed(struct world *world, unsigned int client, const uint8_t *data,
                size_t len);

/* The transaction that the client began last; 0 if none. */
uint32_t world_tx_id(const struct world *world, unsigned int client);

/* Let time go by, in milliseconds. */
void world_wait(struct world *world, uint64_t ms);

/* While clients are served, one allocation in @one_in fails; 0: none. */
void world_lack_memory(struct world *world, uint32_t one_in);

/*
 * Save a client and go on with what is restored of it, as the next process
 * would in a live update; not while it has a transaction. And restore it from
 * damaged bytes, which may give anything but a crash.
 */
void world_hand_over(struct world *world, unsigned int client);

/*
 * Everybody reads all, every message is answered, and CONTROL check finds
 * nothing.
 */
void world_check(struct world *world);

const struct peer_counts *world_counts(const struct world *world);

/* A number of 0..@below - 1 from the world's seed. */
uint32_t world_random(struct world *world, uint32_t below);

#endif
