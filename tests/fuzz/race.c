/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * A hop at work while its peer, a thread of its own, rewrites the memory that they share:
 * indices, slots, grants and payload.
 *
 *   race HOP FEATURES SECONDS SEED
 *
 * FEATURES is a number, enum victim_features. What has to hold is what victim.h and
 * network.h check after each turn, and that the hop comes back: one that does not is
 * ended by SIGALRM. A queue that its peer broke is made again.
 */
#include <inttypes.h>
#include <pthread.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "barrier.h"
#include "domain.h"
#include "frames.h"
#include "harness.h"
#include "network.h"
#include "peer.h"
#include "ring.h"
#include "victim.h"

/* Far more than a turn takes, even of a process that gets little of a CPU. */
#define TURN_MAX_S 30

/* Taken in any case, on a machine however busy. */
#define SLOTS_MIN 1000

#define BUDGET 64
#define ARGUMENTS_MAX 16
#define LIFE_TURNS 2000 /* after which a queue that is not broken is made again, too */

static const struct hop *hop;
static uint8_t features;
static bool ended;

/* What came of it. */
static struct {
    uint64_t turns, lives, frames, refused, acts;
} counts;

/* At least 0 and below @bound; xorshift64*. */
static uint32_t random_below(uint64_t *state, uint32_t bound)
{
    *state ^= *state >> 12;
    *state ^= *state << 25;
    *state ^= *state >> 27;
    return (uint32_t)((*state * 0x2545f4914f6cdd1du) >> 33) % bound;
}

/* ---- the peer ---- */

/* One thing in so many is any nonsense: a queue has to live for a while in between. */
#define NONSENSE_ONE_IN 256

static enum peer_op random_op(uint64_t *state)
{
    static const enum peer_op ops[] = {PEER_SLOT, PEER_SLOTS, PEER_PUSH, PEER_PUSH,
                                       PEER_FRAME, PEER_PAGE, PEER_REWRITE, PEER_GRANT};

    return ops[random_below(state, sizeof(ops) / sizeof(ops[0]))];
}

static void put_u16(uint8_t *at, uint32_t value)
{
    at[0] = (uint8_t)value;
    at[1] = (uint8_t)(value >> 8);
}

/* A good slot, as peer.h says: what is likely is a frame of one. */
static void good_slot(uint64_t *state, uint8_t *slot)
{
    uint8_t flags = (uint8_t)(random_below(state, 16) ? random_below(state, 4) : 4);
    uint32_t size = 60 + random_below(state, 1400);

    if (hop->role == XV_BACK) {
        slot[0] = (uint8_t)random_below(state, 240);
        slot[3] = flags;
        put_u16(slot + 4, size);
    } else if (!hop->tx) {
        slot[2] = flags;
        put_u16(slot + 3, size);
    }
}

/* Another good value for a word of a slot that is there; its number, then the value. */
static void good_word(uint64_t *state, uint8_t *word)
{
    uint8_t *value = word + 1;
    uint32_t size = 60 + random_below(state, 1400);

    if (hop->role == XV_FRONT) { /* flags and status in RX; what TX does not use */
        word[0] = hop->tx ? 2 : 1;
        put_u16(value + 2, size);
    } else if (!hop->tx) {
        word[0] = 1;
        put_u16(value, DOMAIN_RX_GREF + random_below(state, 256));
    } else if (random_below(state, 2)) {
        word[0] = 2; /* id and size */
        put_u16(value + 2, size);
    } else {
        word[0] = 0;
        put_u16(value, DOMAIN_TX_GREF + random_below(state, 256));
    }
}

static void good_arguments(uint64_t *state, enum peer_op op, uint8_t *bytes)
{
    memset(bytes, 0, ARGUMENTS_MAX);
    switch (op) {
    case PEER_SLOTS:
        bytes[0] = (uint8_t)random_below(state, 32);
        good_slot(state, bytes + 1);
        break;
    case PEER_SLOT:
        good_slot(state, bytes);
        break;
    case PEER_REWRITE:
        bytes[0] = (uint8_t)random_below(state, 64);
        good_word(state, bytes + 1);
        break;
    case PEER_FRAME:
        bytes[0] = (uint8_t)random_below(state, DOMAIN_DATA_PAGES);
        bytes[3] = (uint8_t)random_below(state, FRAME_KINDS);
        break;
    case PEER_PAGE: /* a few bytes of the headers */
        bytes[0] = (uint8_t)random_below(state, DOMAIN_DATA_PAGES);
        bytes[1] = (uint8_t)(12 + random_below(state, 60));
        bytes[3] = 1 + (uint8_t)random_below(state, 2);
        bytes[4] = (uint8_t)random_below(state, 256);
        break;
    case PEER_GRANT: /* another page, by the same gref */
        put_u16(bytes, DOMAIN_TX_GREF + random_below(state, 512));
        bytes[2] = GTF_permit_access;
        bytes[4] = (uint8_t)random_below(state, DOMAIN_DATA_PAGES);
        break;
    default:
        break;
    }
}

static void act(struct peer *peer, uint64_t *state)
{
    uint8_t bytes[ARGUMENTS_MAX];
    struct input input = {bytes, sizeof(bytes)};
    enum peer_op op = random_op(state);

    if (random_below(state, NONSENSE_ONE_IN) > 0) {
        good_arguments(state, op, bytes);
    } else {
        op = (enum peer_op)random_below(state, PEER_RING);
        for (size_t i = 0; i < sizeof(bytes); i++)
            bytes[i] = (uint8_t)random_below(state, 256);
    }
    peer_act(peer, op, &input);
}

/* Go by the ring as it is now: its victim may have begun again meanwhile. */
static void follow(struct peer *peer)
{
    const struct xen_sring *sring = peer_sring(peer);
    uint32_t *prod = peer->tx ? &peer->tx_prod : &peer->rx_prod;
    uint32_t rsp_prod = shared_read(&sring->rsp_prod);

    if (peer->front && *prod - rsp_prod > NET_TX_RING_SIZE)
        *prod = rsp_prod;
    else if (!peer->front && shared_read(&sring->req_prod) - *prod > NET_TX_RING_SIZE)
        *prod = rsp_prod;
}

static void *peer_main(void *seed)
{
    uint64_t state = *(uint64_t *)seed;
    struct peer peer;

    peer_init(&peer, hop->role == XV_BACK, 0);
    peer.tx = hop->tx;
    while (!__atomic_load_n(&ended, __ATOMIC_RELAXED)) {
        follow(&peer);
        act(&peer, &state);
        counts.acts++;
    }
    return NULL;
}

/* ---- the victim ---- */

static void begin_rings(void)
{
    static const uint32_t frames[] = {DOMAIN_TX_RING_FRAME, DOMAIN_RX_RING_FRAME};

    domain_grant_rings();
    for (int i = 0; hop->role == XV_BACK && i < 2; i++) {
        struct xen_sring *sring = (void *)domain_page(frames[i]);
        uint32_t rsp_prod = shared_read(&sring->rsp_prod);

        shared_write(&sring->req_prod, rsp_prod);
    }
}

/* A queue whose peer may refuse it even its rings. */
static void make_queue(struct victim *victim)
{
    for (;;) {
        begin_rings();
        if (victim_create(victim, hop, features))
            break;
        counts.refused++;
        sched_yield();
    }
    counts.lives++;
}

static void send_some(uint64_t *state)
{
    uint8_t kind = (uint8_t)random_below(state, FRAME_KINDS);
    uint32_t len = 1 + random_below(state, random_below(state, 4) ? 1500 : 65535);
    struct virtio_net_hdr vnet = {0};
    uint32_t offload = random_below(state, 3);

    if (offload > 0)
        frame_vnet(kind, offload == 2, &vnet);
    for (uint32_t i = random_below(state, 32); i > 0; i--)
        network_send(&vnet, kind, len);
}

static uint64_t now_ms(void)
{
    struct timespec now;

    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * 1000 + (uint64_t)now.tv_nsec / 1000000;
}

static void run(uint64_t seconds, uint64_t seed)
{
    uint64_t end = now_ms() + seconds * 1000;
    uint64_t state = seed;
    struct victim victim;

    make_queue(&victim);
    while (now_ms() < end || fuzz_counts->slots < SLOTS_MIN) {
        uint64_t before = fuzz_counts->slots;

        if (queue_broken(victim.queue) || counts.turns % LIFE_TURNS == 0) {
            victim_destroy(&victim);
            make_queue(&victim);
        }
        send_some(&state);
        alarm(TURN_MAX_S);
        victim_turn(&victim, BUDGET);
        if (random_below(&state, 4) == 0)
            xv_queue_arm(victim.queue);
        alarm(0);
        counts.frames += network_receive();
        counts.turns++;
        if (fuzz_counts->slots == before)
            sched_yield(); /* on one CPU, the peer's turn */
    }
    victim_destroy(&victim);
}

int main(int argc, char **argv)
{
    pthread_t peer;
    uint64_t seed;

    if (argc != 5 || !(hop = hop_find(argv[1]))) {
        fprintf(stderr, "race HOP FEATURES SECONDS SEED\n");
        return 2;
    }
    features = (uint8_t)strtoul(argv[2], NULL, 0);
    seed = strtoull(argv[4], NULL, 10) * 2 + 1; /* never 0 */
    domain_reset();
    if (pthread_create(&peer, NULL, peer_main, &seed) != 0)
        return 2;
    run(strtoull(argv[3], NULL, 10), seed ^ 0x9e3779b97f4a7c15);
    __atomic_store_n(&ended, true, __ATOMIC_RELAXED);
    pthread_join(peer, NULL);
    printf("{\"hop\": \"%s\", \"features\": %u, \"turns\": %" PRIu64 ", \"slots\": %" PRIu64
           ", \"frames\": %" PRIu64 ", \"queues\": %" PRIu64 ", \"refused\": %" PRIu64
           ", \"writes\": %" PRIu64 "}\n",
           hop->name, features, counts.turns, fuzz_counts->slots, counts.frames,
           counts.lives, counts.refused, counts.acts);
    return 0;
}
