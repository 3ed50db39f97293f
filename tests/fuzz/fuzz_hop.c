/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * A hop against a peer that does what the input says, between the hop's turns and in the
 * middle of them. Which hop, the program's name says.
 *
 * An input is features 1 (enum victim_features), start 1, and then bytes for what is to
 * be done, each followed by its arguments: enum peer_op, or enum script_op after those.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

#include "domain.h"
#include "during.h"
#include "frames.h"
#include "harness.h"
#include "network.h"
#include "peer.h"
#include "ring.h"
#include "victim.h"

enum script_op {
    SCRIPT_RUN = PEER_OPS, /* budget 1: let the hop have a turn */
    SCRIPT_LATER,  /* nth 1, len 1, bytes: what the peer does at the nth look at memory */
    SCRIPT_SEND,   /* count 1, kind 1, len 2, offload 1: frames come in by the TAP */
    SCRIPT_LEAVE,  /* nobody reads what the TAP was given, until this comes again */
    SCRIPT_CLOCK,  /* ms 2: time goes by */
    SCRIPT_ARM,    /* the queue is about to sleep */
    SCRIPT_CREDIT, /* bytes 2, ms 1: a backend's rate limit */
    SCRIPT_OPS
};

/* A queue that was broken is made again, so that all of an input is used. */
enum { LATER_MAX = 8, TURNS_MAX = 256, LIVES_MAX = 16 };

/* Something that the peer does in the middle of a turn. */
struct later {
    uint32_t nth; /* look at memory from the beginning of the turn */
    struct input ops;
};

static struct script {
    struct victim victim;
    struct peer peer;
    struct later later[LATER_MAX];
    uint32_t nr_later;
    uint32_t looks; /* at memory, in this turn */
    uint32_t turns;
    uint32_t lives;
    uint8_t features;
    uint32_t start;
    bool running;
    bool leave;
    uint64_t now_ms;
} script;

static void act_later(struct input ops)
{
    while (ops.left > 0)
        peer_act(&script.peer, input_u8(&ops) % PEER_OPS, &ops);
}

void fuzz_during(void)
{
    if (!script.running)
        return;
    script.looks++;
    for (uint32_t i = 0; i < script.nr_later; i++)
        if (script.later[i].nth == script.looks)
            act_later(script.later[i].ops);
}

static const struct hop *hop;

__attribute__((constructor)) static void choose_hop(void)
{
    hop = hop_find(program_invocation_short_name);
    if (!hop) {
        fprintf(stderr, "no such hop: %s\n", program_invocation_short_name);
        exit(2);
    }
}

/* Where the rings are when a backend takes them up. */
static uint32_t start_of(uint8_t byte)
{
    return byte < 128 ? byte : (uint32_t)byte - 256;
}

static void init_ring(uint32_t frame)
{
    struct xen_sring *sring = (void *)domain_page(frame);

    shared_ring_init(sring);
    sring->req_prod = sring->rsp_prod = script.start;
    sring->req_event = sring->rsp_event = script.start + 1;
}

/* Both ends on new rings, in whatever else there is in memory. */
static void begin(void)
{
    init_ring(DOMAIN_TX_RING_FRAME);
    init_ring(DOMAIN_RX_RING_FRAME);
    domain_grant_rings();
    peer_init(&script.peer, hop->role == XV_BACK, script.start);
    script.peer.tx = hop->tx;
    if (!victim_create(&script.victim, hop, script.features))
        fuzz_fail("a queue on good rings", 0, 1);
}

static void run(int budget)
{
    if (script.turns == TURNS_MAX || script.lives == LIVES_MAX)
        return;
    script.turns++;
    script.looks = 0;
    script.running = true;
    victim_turn(&script.victim, budget);
    script.running = false;
    script.nr_later = 0;
    if (!script.leave)
        network_receive();
    if (!queue_broken(script.victim.queue) || ++script.lives == LIVES_MAX)
        return;
    victim_destroy(&script.victim);
    begin();
}

static void add_later(struct input *input)
{
    struct later later = {.nth = 1u + input_u8(input)};

    later.ops = input_part(input, input_u8(input));
    if (script.nr_later < LATER_MAX)
        script.later[script.nr_later++] = later;
}

/* Offload: 0 none, 1 a blank checksum, 2 to be segmented, else what the bytes say. */
static void send_frames(struct input *input)
{
    uint32_t count = input_u8(input);
    uint8_t kind = input_u8(input);
    uint32_t len = input_u16(input) + 1u;
    uint8_t offload = input_u8(input);
    struct virtio_net_hdr vnet = {0};

    if (offload % 4 == 1 || offload % 4 == 2)
        frame_vnet(kind, offload % 4 == 2, &vnet);
    else if (offload % 4 == 3)
        vnet = (struct virtio_net_hdr){
            .flags = input_u8(input),
            .gso_type = input_u8(input),
            .gso_size = input_u16(input),
            .csum_start = input_u16(input),
            .csum_offset = input_u16(input),
        };
    for (uint32_t i = 0; i <= count; i++)
        network_send(&vnet, kind, len);
}

static void set_credit(struct input *input)
{
    uint32_t bytes = input_u16(input);
    uint32_t ms = input_u8(input);

    if (script.victim.hop->role == XV_BACK)
        xv_queue_set_credit(script.victim.queue, bytes, ms * 1000u);
}

static void act(uint8_t op, struct input *input)
{
    switch ((enum script_op)op) {
    case SCRIPT_RUN:
        run(1 + input_u8(input) % 64);
        break;
    case SCRIPT_LATER:
        add_later(input);
        break;
    case SCRIPT_SEND:
        send_frames(input);
        break;
    case SCRIPT_LEAVE:
        script.leave = !script.leave;
        break;
    case SCRIPT_CLOCK:
        script.now_ms += input_u16(input);
        xv_queue_set_now(script.victim.queue, script.now_ms);
        break;
    case SCRIPT_ARM:
        xv_queue_arm(script.victim.queue);
        break;
    case SCRIPT_CREDIT:
        set_credit(input);
        break;
    case SCRIPT_OPS:
        break;
    default:
        peer_act(&script.peer, op, input);
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct input input = {data, size};

    fuzz_counts->inputs++;
    domain_reset();
    network_reset();
    script = (struct script){.features = input_u8(&input)};
    if (hop->role == XV_BACK)
        script.start = start_of(input_u8(&input));
    begin();
    while (input.left > 0)
        act(input_u8(&input) % SCRIPT_OPS, &input);
    run(64);
    network_receive();
    victim_destroy(&script.victim);
    return 0;
}
