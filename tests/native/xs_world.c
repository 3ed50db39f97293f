/* SPDX-License-Identifier: BSD-2-Clause */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "xenstore/engine.h"
#include "xs_no_memory.h"
#include "xs_world.h"

enum { PIECES = 64, DOMAINS = 4 };

struct client {
    struct xs_conn *conn;
    uint16_t domid;
    struct peer peer;
};

struct world {
    struct xs_engine *engine;
    uint64_t random;
    uint64_t now_ms;
    uint64_t replies;   /* when it was last looked */
    unsigned int stuck; /* turns in which none came */
    uint32_t lack;      /* see world_lack_memory() */
    struct peer_counts counts;
    /* The last one is the world's own. */
    struct client client[WORLD_CLIENTS + 1];
};

enum { ALL = WORLD_CLIENTS + 1 };
static const uint16_t domid_of[ALL] = {0, 0, 1, 1, 2, 3, 0};

uint32_t world_random(struct world *world, uint32_t below)
{
    world->random ^= world->random << 13;
    world->random ^= world->random >> 7;
    world->random ^= world->random << 17;
    return (uint32_t)((world->random >> 32) % below);
}

const struct peer_counts *world_counts(const struct world *world)
{
    return &world->counts;
}

static void connect_client(struct world *world, struct client *client)
{
    client->conn =
        xs_engine_connect(world->engine, client->domid, client->domid == 0);
    if (client->conn == NULL)
        abort();
    xs_conn_set_context(client->conn, client);
    peer_begin(&client->peer, &world->counts);
}

static void disconnect_client(struct world *world, struct client *client)
{
    xs_engine_disconnect(world->engine, client->conn);
    peer_end(&client->peer);
}

/* The store has given the connection up, or has lost its domain. */
static void reconnect(struct world *world, struct client *client)
{
    world->counts.ends++;
    disconnect_client(world, client);
    if (xs_engine_domain_created(world->engine, client->domid) != 0)
        abort();
    connect_client(world, client);
}

void world_free(struct world *world)
{
    for (unsigned int i = 0; i < ALL; i++)
        disconnect_client(world, &world->client[i]);
    xs_engine_free(world->engine);
    free(world);
}

/* Read up to @limit bytes. */
static void take(struct world *world, struct client *client, size_t limit)
{
    struct iovec piece[PIECES];
    unsigned int pieces;

    while (limit > 0 &&
           (pieces = xs_conn_output(client->conn, piece, PIECES)) > 0) {
        size_t size = 0;

        for (unsigned int i = 0; i < pieces && size < limit; i++) {
            size_t len = piece[i].iov_len;

            len = len < limit - size ? len : limit - size;
            peer_gets(&client->peer, piece[i].iov_base, len);
            size += len;
        }
        xs_conn_sent(world->engine, client->conn, size);
        limit -= size;
    }
}

/* ---- turns ---- */

static void answer_upcalls(struct world *world)
{
    static const int results[] = {0, 0, 0, ENOENT, EINVAL, EIO};
    static struct xs_upcall upcall;

    while (xs_engine_next_upcall(world->engine, &upcall)) {
        if (upcall.kind == XS_UPCALL_LOG)
            continue;
        world->counts.upcalls++;
        if (upcall.domid >= 1 && upcall.domid < DOMAINS)
            xs_engine_domain_created(world->engine, (uint16_t)upcall.domid);
        xs_engine_answer(world->engine, upcall.conn_id,
                         results[world_random(world, 6)]);
    }
}

/* Look after those whose queues somebody else's request has changed. */
static void visit_woken(struct world *world)
{
    struct xs_conn *conn;

    while ((conn = xs_engine_woken(world->engine)) != NULL) {
        struct client *client = xs_conn_context(conn);

        if (!xs_conn_alive(conn))
            reconnect(world, client);
        else if (world_random(world, 4) != 0)
            take(world, client, world_random(world, 2) ? SIZE_MAX : 100);
    }
}

void world_wait(struct world *world, uint64_t ms)
{
    world->now_ms += ms;
    xs_engine_set_time(world->engine, world->now_ms);
    xs_engine_timeout(world->engine);
    visit_woken(world);
}

static void serve(struct world *world, struct client *client)
{
    bool is_own = client == &world->client[WORLD_CLIENTS];

    while (xs_conn_alive(client->conn) &&
           xs_conn_ready(world->engine, client->conn)) {
        no_memory_for(is_own ? 0 : world->lack);
        xs_conn_serve(world->engine, client->conn,
                      1 + world_random(world, 4));
        no_memory_for(0);
        answer_upcalls(world);
    }
}

/* Whether the connection is still the one with that id, and open. */
static bool may_send(const struct client *client, uint64_t id)
{
    return xs_conn_id(client->conn) == id && xs_conn_alive(client->conn);
}

static void unblock(struct world *world, struct client *client);

static void send_as(struct world *world, struct client *client,
                    const uint8_t *data, size_t len)
{
    uint64_t id = xs_conn_id(client->conn);

    while (len > 0 && may_send(client, id) && !xs_conn_broken(client->conn)) {
        void *room;
        size_t size = xs_conn_room(world->engine, client->conn, &room);

        if (size == 0) {
            unblock(world, client);
            continue;
        }
        size = size < len ? size : len;
        memcpy(room, data, size);
        peer_sends(&client->peer, data, size);
        data += size;
        len -= size;
        xs_conn_received(world->engine, client->conn, size);
        serve(world, client);
    }
}

/* A request that has to succeed, on the connection that is the world's own. */
static void command(struct world *world, uint32_t type, const char *payload,
                    uint32_t len)
{
    struct client *own = &world->client[WORLD_CLIENTS];
    struct xsd_sockmsg header = {.type = type, .len = len};
    uint64_t errors = world->counts.errors;

    send_as(world, own, (const uint8_t *)&header, sizeof(header));
    send_as(world, own, (const uint8_t *)payload, len);
    take(world, own, SIZE_MAX);
    if (!peer_is_answered(&own->peer) || world->counts.errors != errors)
        peer_complain(&own->peer, "refused");
}

/* Requests may have set a quota so low that a domain is stalled for good. */
static void lift_quotas(struct world *world)
{
    static const char *const domains[] = {"", "1", "2", "3"};
    static const char *const names[] = {"memory", "outstanding"};
    char payload[64];

    for (unsigned int i = 0; i < 8; i++) {
        int len = snprintf(payload, sizeof(payload), "%s%c%s%c100000000",
                           domains[i / 2], 0, names[i % 2], 0);
        int skip = i < 2; /* no domid: for all of them */

        command(world, XS_SET_QUOTA, payload + skip,
                (uint32_t)(len - skip + 1));
    }
}

/*
 * Nothing but unread messages, the rate of writes and quotas may delay an
 * answer; remove them all.
 */
static void unblock(struct world *world, struct client *client)
{
    uint64_t due = xs_engine_next_timeout(world->engine);

    world->stuck++;
    if (world->replies != world->counts.replies)
        world->stuck = 0;
    if (world->stuck > 200)
        peer_complain(&client->peer, "never answered");
    if (world->stuck == 100)
        lift_quotas(world);
    world->replies = world->counts.replies;
    for (unsigned int i = 0; i < ALL; i++)
        take(world, &world->client[i], SIZE_MAX);
    if (due != UINT64_MAX && due > world->now_ms)
        world_wait(world, due - world->now_ms);
    serve(world, client);
}

/*
 * All that came before is answered, and then the connection is of no more use.
 */
static void end_too_long(struct world *world, struct client *client)
{
    uint64_t id = xs_conn_id(client->conn);

    while (may_send(client, id) && !peer_is_answered(&client->peer))
        unblock(world, client);
    if (!may_send(client, id))
        return;
    if (!xs_conn_broken(client->conn))
        abort();
    reconnect(world, client);
}

void world_feed(struct world *world, unsigned int index, const uint8_t *data,
                size_t len)
{
    struct client *client = &world->client[index % WORLD_CLIENTS];

    send_as(world, client, data, len);
    if (client->peer.too_long)
        end_too_long(world, client);
    visit_woken(world);
}

void world_check(struct world *world)
{
    for (unsigned int i = 0; i < ALL; i++)
        while (xs_conn_alive(world->client[i].conn) &&
               !peer_is_answered(&world->client[i].peer))
            unblock(world, &world->client[i]);
    visit_woken(world);
    command(world, XS_CONTROL, "check", sizeof("check"));
}

/* What a damaged state makes is dropped at once, if it makes anything. */
static void restore_damaged(struct world *world, const struct xs_blob *blob)
{
    uint8_t *copy = malloc(blob->len);
    size_t len = blob->len;
    struct xs_conn *conn;

    if (copy == NULL)
        abort();
    if (world_random(world, 4) == 0)
        len = world_random(world, (uint32_t)blob->len);
    memcpy(copy, blob->data, blob->len);
    for (uint32_t i = world_random(world, 4); i > 0; i--)
        copy[world_random(world, (uint32_t)blob->len)] =
            (uint8_t)world_random(world, 256);
    conn = xs_engine_restore(world->engine, copy, len);
    if (conn != NULL)
        xs_engine_disconnect(world->engine, conn);
    free(copy);
}

void world_lack_memory(struct world *world, uint32_t one_in)
{
    world->lack = one_in;
}

void world_hand_over(struct world *world, unsigned int index)
{
    struct client *client = &world->client[index % WORLD_CLIENTS];
    struct xs_blob blob = {0};

    if (xs_conn_save(world->engine, client->conn, false, &blob) == 0) {
        xs_engine_disconnect(world->engine, client->conn);
        restore_damaged(world, &blob);
        client->conn = xs_engine_restore(world->engine, blob.data, blob.len);
        if (client->conn == NULL)
            abort();
        xs_conn_set_context(client->conn, client);
    }
    free(blob.data);
    visit_woken(world);
}

uint32_t world_tx_id(const struct world *world, unsigned int index)
{
    return world->client[index % WORLD_CLIENTS].peer.tx_id;
}

/* Domains have their own directory, and all of them one that they share. */
static void set_up(struct world *world)
{
    command(world, XS_WRITE, "/local/domain/1", 16);
    command(world, XS_WRITE, "/local/domain/2", 16);
    command(world, XS_WRITE, "/local/domain/3", 16);
    command(world, XS_WRITE, "/shared", 8);
    command(world, XS_SET_PERMS, "/local/domain/1\0n1", 19);
    command(world, XS_SET_PERMS, "/local/domain/2\0n2", 19);
    command(world, XS_SET_PERMS, "/local/domain/3\0n3", 19);
    command(world, XS_SET_PERMS, "/shared\0b0", 11);
}

struct world *world_new(uint64_t seed)
{
    struct world *world = calloc(1, sizeof(*world));

    if (world == NULL)
        abort();
    world->random = seed * 2 + 1;
    world->engine = xs_engine_new();
    if (world->engine == NULL)
        abort();
    for (uint16_t domid = 1; domid < DOMAINS; domid++)
        if (xs_engine_domain_created(world->engine, domid) != 0)
            abort();
    for (unsigned int i = 0; i < ALL; i++) {
        world->client[i].domid = domid_of[i];
        connect_client(world, &world->client[i]);
    }
    set_up(world);
    return world;
}
