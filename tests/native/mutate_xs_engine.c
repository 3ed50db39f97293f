/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Sends the store's engine mutations of valid messages:
 *
 *     mutate CORPUS SEED COUNT LACK
 *
 * CORPUS is a file of messages one after the other. One allocation in LACK
 * fails, or none if it is 0. A new store begins after every 20,000 messages,
 * and the old one must have freed all that it took.
 */
#include <inttypes.h>
#include <malloc.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "abi/xs_wire.h"
#include "xs_no_memory.h"
#include "xs_world.h"

enum {
    HEADER = sizeof(struct xsd_sockmsg),
    PAYLOAD_MAX = 4096,
    CORPUS_MAX = 4096,
    STORE_LIFE = 20000,
    CHECK_EVERY = 1000,
    MEMORY_MAX = 256 << 20,
};

struct message {
    struct xsd_sockmsg header;
    uint8_t payload[PAYLOAD_MAX];
};

static struct message corpus[CORPUS_MAX];
static unsigned int corpus_count;

static void load(const char *path)
{
    FILE *file = fopen(path, "rb");

    if (file == NULL)
        abort();
    while (corpus_count < CORPUS_MAX &&
           fread(&corpus[corpus_count].header, HEADER, 1, file) == 1) {
        uint32_t len = corpus[corpus_count].header.len;

        if (len > PAYLOAD_MAX ||
            fread(corpus[corpus_count].payload, 1, len, file) != len)
            abort();
        corpus_count++;
    }
    fclose(file);
    if (corpus_count == 0)
        abort();
}

/* Put @len bytes, or as many as there is room for, into the payload at @at. */
static void insert(struct message *message, uint32_t at, const uint8_t *data,
                   uint32_t len)
{
    uint32_t rest = message->header.len - at;

    if (len > PAYLOAD_MAX - message->header.len)
        len = PAYLOAD_MAX - message->header.len;
    memmove(message->payload + at + len, message->payload + at, rest);
    memmove(message->payload + at, data, len);
    message->header.len += len;
}

static void erase(struct message *message, uint32_t at, uint32_t len)
{
    uint32_t rest = message->header.len - at;

    if (len > rest)
        len = rest;
    memmove(message->payload + at, message->payload + at + len, rest - len);
    message->header.len -= len;
}

/* One change of the payload; its length in the header stays right. */
static void mutate_payload(struct world *world, struct message *message)
{
    static const uint8_t telling[] = {0, 0, '/', '@', 'n', '1', 0x80, 0xff};
    uint32_t len = message->header.len;
    uint32_t at = world_random(world, len + 1);
    const struct message *other =
        &corpus[world_random(world, corpus_count)];
    uint8_t byte = telling[world_random(world, sizeof(telling))];
    uint8_t many[512];

    switch (world_random(world, 6)) {
    case 0:
        if (at < len)
            message->payload[at] = (uint8_t)world_random(world, 256);
        break;
    case 1:
        insert(message, at, &byte, 1);
        break;
    case 2:
        erase(message, at, 1 + world_random(world, 4));
        break;
    case 3:
        insert(message, at, other->payload, other->header.len);
        break;
    case 4:
        message->header.len = at;
        insert(message, at, other->payload, other->header.len);
        break;
    default:
        memset(many, byte, sizeof(many));
        insert(message, at, many, world_random(world, sizeof(many)));
    }
}

static void mutate_header(struct world *world, struct message *message)
{
    static const uint32_t edges[] = {0,      4096,   4097,       5000,
                                     0xffff, 65536u, 0x80000000, 0xffffffff};
    uint32_t edge = edges[world_random(world, 8)];

    switch (world_random(world, 8)) {
    case 0:
        message->header.type = world_random(world, 32);
        break;
    case 1:
        message->header.type = edge;
        break;
    case 2:
        message->header.req_id = edge;
        break;
    case 3:
        message->header.tx_id = edge;
        break;
    case 4:
        if (world_random(world, 32) == 0)
            message->header.len = edge;
        break;
    default:
        message->header.tx_id = world_random(world, 4);
    }
}

/* Send it; what the length says and what comes may differ. */
static void send_message(struct world *world, unsigned int client,
                         const struct message *message, uint32_t payload_len)
{
    const uint8_t *bytes = (const uint8_t *)message;
    uint32_t len = HEADER + payload_len;
    uint32_t first = len;

    if (world_random(world, 8) == 0)
        first = world_random(world, len);
    world_feed(world, client, bytes, first);
    world_feed(world, client, bytes + first, len - first);
}

/* The privileged ones, which get further, more often than the others. */
static unsigned int random_client(struct world *world)
{
    return world_random(world, world_random(world, 2) ? 2 : WORLD_CLIENTS);
}

static void send_one(struct world *world)
{
    struct message message = corpus[world_random(world, corpus_count)];
    unsigned int client = random_client(world);
    uint32_t changes = world_random(world, 2) * world_random(world, 4);
    uint32_t payload_len;

    for (uint32_t i = 0; i < changes; i++)
        mutate_payload(world, &message);
    payload_len = message.header.len;
    if (message.header.tx_id != 0)
        message.header.tx_id = world_tx_id(world, client);
    if (world_random(world, 4) == 0)
        mutate_header(world, &message);
    send_message(world, client, &message, payload_len);
    if (world_random(world, 16) == 0)
        world_hand_over(world, world_random(world, WORLD_CLIENTS));
    if (world_random(world, 64) == 0)
        world_wait(world, world_random(world, 1000));
    if (world_random(world, 1000) == 0)
        world_wait(world, world_random(world, 60000));
}

static size_t in_use(void)
{
    struct mallinfo2 info = mallinfo2();

    return info.uordblks + info.hblkhd;
}

static void add(struct peer_counts *sum, const struct peer_counts *counts)
{
    sum->messages += counts->messages;
    sum->replies += counts->replies;
    sum->errors += counts->errors;
    sum->events += counts->events;
    sum->upcalls += counts->upcalls;
    sum->ends += counts->ends;
}

/* One store's life; returns the bytes that it left behind. */
static size_t live(uint64_t seed, uint64_t count, uint32_t lack,
                   struct peer_counts *sum)
{
    size_t before = in_use();
    struct world *world = world_new(seed);

    world_lack_memory(world, lack);
    for (uint64_t i = 0; i < count; i++) {
        send_one(world);
        if (i % CHECK_EVERY == 0) {
            world_check(world);
            if (in_use() - before > MEMORY_MAX)
                abort();
        }
    }
    world_check(world);
    add(sum, world_counts(world));
    world_free(world);
    return in_use() - before;
}

int main(int argc, char **argv)
{
    struct peer_counts sum = {0};
    uint64_t seed, count;
    uint32_t lack;
    size_t left = 0;

    if (argc != 5)
        return 2;
    load(argv[1]);
    seed = strtoull(argv[2], NULL, 10);
    count = strtoull(argv[3], NULL, 10);
    lack = (uint32_t)strtoul(argv[4], NULL, 10);
    for (uint64_t done = 0; done < count; done += STORE_LIFE) {
        uint64_t part = count - done < STORE_LIFE ? count - done : STORE_LIFE;

        left += live(seed + done, part, lack, &sum);
    }
    printf("{\"messages\": %" PRIu64 ", \"replies\": %" PRIu64
           ", \"errors\": %" PRIu64 ", \"events\": %" PRIu64
           ", \"upcalls\": %" PRIu64 ", \"ends\": %" PRIu64
           ", \"failed\": %" PRIu64 ", \"left\": %zu}\n",
           sum.messages, sum.replies, sum.errors, sum.events, sum.upcalls,
           sum.ends, no_memory_count(), left);
    return 0;
}
