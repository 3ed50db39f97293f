/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * A domain on its ring page (xenstore-ring.txt), which it writes at the same time,
 * and whose event channel it holds too.
 *
 * A ring that breaks a rule is told so in its page and not served until the domain
 * asks for a reconnection, or somebody begins anew with it; nobody else notices.
 */
#include <errno.h>
#include <stdlib.h>
#include <sys/epoll.h>

#include "barrier.h"
#include "io.h"
#include "lateeoi.h"
#include "xs_ring.h"

#define PIECES_MAX 64

/* Words of the page, as xs_wire.h has them. */
enum { CONNECTED = 0, RECONNECT = 1 };
enum { ERROR_NONE = 0, ERROR_COMM = 1, ERROR_RINGIDX = 2, ERROR_PROTO = 3 };
enum { FEATURE_RECONNECTION = 1 };

struct ring {
    struct xs_io_client client;
    struct xenstore_domain_interface *page;
    struct evtchn evtchn;
    struct lateeoi eoi;
    bool deaf; /* its event channel wakes nobody */
    uint32_t req_cons;
    uint32_t rsp_prod;
    uint32_t features;
    bool moved; /* an index, since the domain was notified */
    bool more;  /* requests may wait in the page, unannounced */
};

static struct ring *ring_of(struct xs_io_client *client)
{
    return (struct ring *)client;
}

static void notify(struct ring *ring)
{
    xen_mb(); /* all that we wrote /before/ the domain wakes */
    evtchn_notify(&ring->evtchn);
    ring->moved = false;
}

/* Stop serving, and say why. */
static void fail(struct ring *ring, uint32_t error)
{
    struct xs_io_client *client = &ring->client;
    struct xs_engine *engine = client->store->engine;

    xs_engine_log_domain(engine, client->conn->domain, XS_LOG_PRINT,
                         "XenStore ring of domain %u is given up, error %u",
                         (unsigned int)client->domid, (unsigned int)error);
    xs_engine_disconnect(engine, client->conn);
    client->conn = NULL;
    shared_release(&ring->page->error, error);
    notify(ring);
}

static void offer_features(struct ring *ring)
{
    const struct xs_io_client *client = &ring->client;

    ring->features = xs_engine_features(client->store->engine, client->domid);
    shared_release(&ring->page->server_features, ring->features);
}

/*
 * Begin with a client that has neither watches nor transactions. Return: 0;
 * -ENOMEM, and the ring is not served.
 */
static int begin(struct ring *ring)
{
    struct xs_io_client *client = &ring->client;

    if (client->conn)
        xs_conn_reset(client->store->engine, client->conn);
    else if (!xs_io_connect(client, client->domid == 0))
        return -ENOMEM;
    ring->more = true;
    offer_features(ring);
    shared_release(&ring->page->error, ERROR_NONE);
    shared_release(&ring->page->connection, CONNECTED);
    notify(ring);
    return 0;
}

/* Empty both queues, by the indices that are ours to move. */
static void empty_queues(struct ring *ring)
{
    ring->req_cons = shared_acquire(&ring->page->req_prod);
    ring->rsp_prod = shared_acquire(&ring->page->rsp_cons);
    shared_release(&ring->page->req_cons, ring->req_cons);
    shared_release(&ring->page->rsp_prod, ring->rsp_prod);
}

/* Serve a page as it is; a domain that waits for us knows of nothing in the queues. */
static int take_up(struct ring *ring)
{
    if (shared_acquire(&ring->page->connection) == RECONNECT)
        empty_queues(ring);
    ring->req_cons = shared_read(&ring->page->req_cons);
    ring->rsp_prod = shared_read(&ring->page->rsp_prod);
    return begin(ring);
}

/*
 * Have the domain connect again to a page that a dead process has served: a message
 * may be cut there, and nobody knows of its watches. False if it is about to.
 */
static bool abandon(struct ring *ring)
{
    struct xenstore_domain_interface *page = ring->page;

    if (shared_acquire(&page->connection) == RECONNECT)
        return false;
    offer_features(ring);
    if (shared_read(&page->error) == ERROR_NONE)
        shared_release(&page->error, ERROR_COMM);
    notify(ring);
    return true;
}

/* Go on with a ring where the last process has left it; false if it has not. */
static bool go_on(struct ring *ring)
{
    struct xs_io_client *client = &ring->client;
    struct xs_io_saved_ring saved;

    if (!xs_io_take_saved_ring(client->store, client->domid, &saved))
        return false;
    ring->req_cons = saved.req_cons;
    ring->rsp_prod = saved.rsp_prod;
    ring->more = true;
    offer_features(ring);
    if (saved.conn)
        xs_io_connect_to(client, saved.conn);
    return true;
}

int xs_ring_open(struct xv_xenstore *store, uint16_t domid, void *page,
                 const struct evtchn *evtchn, bool served)
{
    struct ring *new = calloc(1, sizeof(*new));
    int ret;

    if (!new)
        return -ENOMEM;
    new->client.source.kind = XS_IO_RING;
    new->client.source.fd = evtchn->end.pending_fd;
    new->page = page;
    new->evtchn = *evtchn;
    ret = xs_io_watch(store, &new->client.source, EPOLLIN | EPOLLET);
    if (ret < 0) {
        free(new);
        return ret;
    }
    xs_io_join(store, &new->client, domid);
    if (!go_on(new) && !(served && abandon(new)))
        ret = take_up(new);
    if (ret < 0)
        xs_ring_close(&new->client);
    else
        xs_io_activate(&new->client);
    return ret;
}

int xs_ring_reset(struct xs_io_client *client)
{
    struct ring *ring = ring_of(client);
    struct xenstore_domain_interface *page = ring->page;

    shared_release(&page->req_cons, 0);
    shared_release(&page->req_prod, 0);
    shared_release(&page->rsp_cons, 0);
    shared_release(&page->rsp_prod, 0);
    ring->req_cons = ring->rsp_prod = 0;
    return begin(ring);
}

void xs_ring_close(struct xs_io_client *client)
{
    xs_io_part(client);
    xs_io_unwatch(client->store, &client->source);
}

void xs_ring_indices(const struct xs_io_client *client, uint32_t *req_cons,
                     uint32_t *rsp_prod)
{
    const struct ring *ring = (const struct ring *)client;

    *req_cons = ring->req_cons;
    *rsp_prod = ring->rsp_prod;
}

/* Put what waits into the page, as far as there is room. Return: 0; -EIO. */
static int push(struct ring *ring)
{
    struct xs_io_client *client = &ring->client;
    struct iovec iov[PIECES_MAX];
    unsigned int count;

    while ((count = xs_conn_output(client->conn, iov, PIECES_MAX)) > 0) {
        for (unsigned int i = 0; i < count; i++) {
            int put = xs_ring_put(ring->page, &ring->rsp_prod, iov[i].iov_base,
                                  (uint32_t)iov[i].iov_len);

            if (put < 0)
                return put;
            if (put > 0)
                ring->moved = true;
            xs_conn_sent(client->store->engine, client->conn, (size_t)put);
            if ((size_t)put < iov[i].iov_len)
                return 0;
        }
    }
    return 0;
}

/* Take what the engine has room for. Return: 0; -EIO. */
static int pull(struct ring *ring)
{
    struct xs_io_client *client = &ring->client;
    struct xs_engine *engine = client->store->engine;
    void *data;
    size_t room = xs_conn_room(engine, client->conn, &data);
    int taken;

    if (room == 0) {
        ring->more = true;
        return 0;
    }
    if (room > XENSTORE_RING_SIZE)
        room = XENSTORE_RING_SIZE;
    taken = xs_ring_take(ring->page, &ring->req_cons, data, (uint32_t)room);
    if (taken < 0)
        return taken;
    xs_conn_received(engine, client->conn, (size_t)taken);
    ring->moved = ring->moved || taken > 0;
    /* A domain that adds more notifies, so that only a small room hides some. */
    ring->more = (size_t)taken == room && room < XENSTORE_RING_SIZE;
    return 0;
}

/* Tell the domain of all that has moved. Return: whether there is more to do. */
static bool end_turn(struct ring *ring, int ret)
{
    struct xs_io_client *client = &ring->client;
    struct xs_engine *engine = client->store->engine;
    void *data;

    if (ret == 0 && xs_conn_broken(client->conn))
        fail(ring, ERROR_PROTO);
    else if (ret < 0)
        fail(ring, ERROR_RINGIDX);
    else if (!xs_conn_alive(client->conn))
        fail(ring, ERROR_COMM);
    else if (ring->moved)
        notify(ring);
    if (!client->conn)
        return false;
    return xs_conn_ready(engine, client->conn) ||
           (ring->more && xs_conn_room(engine, client->conn, &data) > 0);
}

/*
 * A domain notifies of what it has put and of what it has taken: each is what we then
 * take, or had put before. One that does so more often is not listened to for a while.
 */
static void judge_events(struct ring *ring)
{
    struct xs_io_client *client = &ring->client;
    struct xv_xenstore *store = client->store;
    bool deaf;

    lateeoi_judge(&ring->eoi, ring->req_cons + ring->rsp_prod, store->now_ms);
    deaf = ring->eoi.until_ms != 0;
    if (deaf && ring->eoi.until_ms < store->listen_at_ms)
        store->listen_at_ms = ring->eoi.until_ms;
    if (deaf == ring->deaf)
        return;
    ring->deaf = deaf;
    xs_io_rewatch(store, &client->source, (deaf ? 0 : EPOLLIN) | EPOLLET);
}

void xs_ring_event(struct xs_io_client *client)
{
    lateeoi_fired(&ring_of(client)->eoi);
    xs_io_activate(client);
}

void xs_ring_listen_again(struct xv_xenstore *store)
{
    struct xs_io_client *client;

    store->listen_at_ms = UINT64_MAX;
    LIST_FOREACH(client, &store->clients, link)
        if (client->source.kind == XS_IO_RING && ring_of(client)->deaf)
            xs_io_activate(client);
}

bool xs_ring_flush(struct xs_io_client *client)
{
    struct ring *ring = ring_of(client);
    bool more = end_turn(ring, push(ring));

    judge_events(ring);
    return more;
}

static bool turn(struct ring *ring)
{
    struct xs_io_client *client = &ring->client;
    struct xs_engine *engine = client->store->engine;
    int ret;

    if ((ring->features & FEATURE_RECONNECTION) &&
        shared_acquire(&ring->page->connection) == RECONNECT) {
        empty_queues(ring);
        begin(ring);
    }
    if (!client->conn)
        return false;
    ret = push(ring);
    if (ret == 0)
        ret = pull(ring);
    if (ret == 0 && xs_conn_ready(engine, client->conn)) {
        xs_conn_serve(engine, client->conn, XS_IO_BUDGET);
        ret = push(ring);
    }
    return end_turn(ring, ret);
}

bool xs_ring_turn(struct xs_io_client *client)
{
    bool more = turn(ring_of(client));

    judge_events(ring_of(client));
    return more;
}
