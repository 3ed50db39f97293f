/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The store's thread: one epoll loop over all that is served.
 *
 * A client with something to do is in the active list and gets a turn; the others
 * cost nothing until their descriptor, or the engine, wakes them. Descriptors are
 * watched edge-triggered, and what a client has left to read or to write is its
 * own to remember: no call is made to learn that there is nothing. The command eventfd
 * and the rings' are never read, as each write to them is a new edge.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <limits.h>
#include <sched.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <time.h>
#include <unistd.h>

#include "io.h"

#define EVENTS_MAX 256

/*
 * Looking for more before sleeping: longer than an answered client takes to ask
 * again, shorter than to wake this thread on a halted CPU.
 */
#define LINGER_NS 20000u

static uint64_t clock_ns(void)
{
    struct timespec at;

    clock_gettime(CLOCK_MONOTONIC, &at);
    return (uint64_t)at.tv_sec * 1000000000u + (uint64_t)at.tv_nsec;
}

void xs_io_enter(struct xv_xenstore *store)
{
    /* Who waits for the lock holds the gate, and is the only one who does. */
    pthread_mutex_lock(&store->gate);
    pthread_mutex_lock(&store->lock);
    pthread_mutex_unlock(&store->gate);
    store->now_ms = clock_ns() / 1000000u;
    xs_engine_set_time(store->engine, store->now_ms);
}

void xs_io_leave(struct xv_xenstore *store)
{
    pthread_mutex_unlock(&store->lock);
}

static void signal_fd(int fd)
{
    const uint64_t one = 1;

    if (write(fd, &one, sizeof(one)) < 0)
        return;
}

int xs_io_watch(struct xv_xenstore *store, struct xs_io_source *source,
                uint32_t events)
{
    struct epoll_event event = {.events = events, .data.ptr = source};

    return epoll_ctl(store->epoll_fd, EPOLL_CTL_ADD, source->fd, &event) < 0
               ? -errno
               : 0;
}

int xs_io_rewatch(struct xv_xenstore *store, struct xs_io_source *source,
                  uint32_t events)
{
    struct epoll_event event = {.events = events, .data.ptr = source};

    return epoll_ctl(store->epoll_fd, EPOLL_CTL_MOD, source->fd, &event) < 0
               ? -errno
               : 0;
}

void xs_io_unwatch(struct xv_xenstore *store, struct xs_io_source *source)
{
    epoll_ctl(store->epoll_fd, EPOLL_CTL_DEL, source->fd, NULL);
    source->closed = true;
    SLIST_INSERT_HEAD(&store->closed, source, closed_link);
}

void xs_io_activate(struct xs_io_client *client)
{
    if (client->active)
        return;
    client->active = true;
    TAILQ_INSERT_HEAD(&client->store->active, client, active_link);
}

void xs_io_join(struct xv_xenstore *store, struct xs_io_client *client,
                uint16_t domid)
{
    client->store = store;
    client->domid = domid;
    client->turn = store->turn;
    LIST_INSERT_HEAD(&store->clients, client, link);
}

void xs_io_connect_to(struct xs_io_client *client, struct xs_conn *conn)
{
    client->conn = conn;
    xs_conn_set_context(conn, client);
}

bool xs_io_connect(struct xs_io_client *client, bool privileged)
{
    struct xs_conn *conn =
        xs_engine_connect(client->store->engine, client->domid, privileged);

    if (conn)
        xs_io_connect_to(client, conn);
    return conn != NULL;
}

void xs_io_part(struct xs_io_client *client)
{
    if (client->conn)
        xs_engine_disconnect(client->store->engine, client->conn);
    client->conn = NULL;
    if (client->active)
        TAILQ_REMOVE(&client->store->active, client, active_link);
    client->active = false;
    LIST_REMOVE(client, link);
}

static void handle_event(struct xv_xenstore *store,
                         const struct epoll_event *event)
{
    struct xs_io_source *source = event->data.ptr;

    if (source->closed)
        return;
    switch (source->kind) {
    case XS_IO_COMMAND:
        break;
    case XS_IO_LISTENER:
        xs_io_accept(store, (struct xs_io_listener *)source);
        break;
    case XS_IO_SOCKET:
        xs_socket_event((struct xs_io_client *)source, event->events);
        break;
    case XS_IO_RING:
        xs_ring_event((struct xs_io_client *)source);
        break;
    case XS_IO_READER:
        xs_trace_event(store, (struct xs_io_reader *)source, event->events);
        break;
    }
}

static bool client_turn(struct xs_io_client *client)
{
    return client->source.kind == XS_IO_RING ? xs_ring_turn(client)
                                             : xs_socket_turn(client);
}

static bool client_flush(struct xs_io_client *client)
{
    return client->source.kind == XS_IO_RING ? xs_ring_flush(client)
                                             : xs_socket_flush(client);
}

/* Give each active client one turn; those with more to do go to the end. */
static void run_active(struct xv_xenstore *store)
{
    struct xs_io_client *client;

    store->turn++;
    while ((client = TAILQ_FIRST(&store->active)) != NULL &&
           client->turn != store->turn) {
        TAILQ_REMOVE(&store->active, client, active_link);
        client->active = false;
        client->turn = store->turn;
        if (client_turn(client)) {
            client->active = true;
            TAILQ_INSERT_TAIL(&store->active, client, active_link);
        }
    }
}

/*
 * Send what somebody else's request has left for a client, or close it if that has
 * dropped it. An active client does so itself.
 */
static void look_after_woken(struct xv_xenstore *store)
{
    struct xs_conn *conn;

    while ((conn = xs_engine_woken(store->engine)) != NULL) {
        struct xs_io_client *client = xs_conn_context(conn);

        /* A saved ring is woken when it has its page again. */
        if (client && !client->active && client_flush(client))
            xs_io_activate(client);
    }
}

/* Say that there is an upcall, once for each. */
static void publish_upcall(struct xv_xenstore *store)
{
    if (store->has_upcall)
        return;
    store->has_upcall = xs_engine_next_upcall(store->engine, &store->upcall);
    if (store->has_upcall)
        signal_fd(store->upcall_fd);
}

void xs_io_free_closed(struct xv_xenstore *store)
{
    struct xs_io_source *source;

    while ((source = SLIST_FIRST(&store->closed)) != NULL) {
        SLIST_REMOVE_HEAD(&store->closed, closed_link);
        free(source);
    }
}

/* What follows from what was just done; for the thread and for callers. */
static void settle(struct xv_xenstore *store)
{
    look_after_woken(store);
    publish_upcall(store);
    xs_trace_flush(store);
}

void xs_io_leave_changed(struct xv_xenstore *store)
{
    settle(store);
    signal_fd(store->command.fd);
    xs_io_leave(store);
}

static void turn(struct xv_xenstore *store, const struct epoll_event *events,
                 int count)
{
    /* Backwards, because each goes to the head of the active list. */
    for (int i = count; i-- > 0;)
        handle_event(store, &events[i]);
    if (store->now_ms >= store->accept_at_ms)
        xs_io_accept_again(store);
    if (store->now_ms >= store->listen_at_ms)
        xs_ring_listen_again(store);
    if (store->now_ms >= xs_engine_next_timeout(store->engine))
        xs_engine_timeout(store->engine);
    run_active(store);
    settle(store);
    xs_io_free_closed(store);
}

/* Milliseconds that epoll may wait for, -1 for ever. */
static int patience(struct xv_xenstore *store)
{
    uint64_t at = xs_engine_next_timeout(store->engine);

    if (!TAILQ_EMPTY(&store->active))
        return 0;
    if (at > store->accept_at_ms)
        at = store->accept_at_ms;
    if (at > store->listen_at_ms)
        at = store->listen_at_ms;
    if (at == UINT64_MAX)
        return -1;
    if (at <= store->now_ms)
        return 0;
    return at - store->now_ms > INT_MAX ? INT_MAX : (int)(at - store->now_ms);
}

/*
 * Each look gives the CPU away if somebody wants it: a client on this one runs then,
 * and has asked when the call returns.
 */
static int wait_for_events(const struct xv_xenstore *store,
                           struct epoll_event *events, int timeout)
{
    uint64_t until = clock_ns() + LINGER_NS;
    int count = epoll_wait(store->epoll_fd, events, EVENTS_MAX, 0);

    while (count == 0 && timeout != 0 && clock_ns() < until) {
        sched_yield();
        count = epoll_wait(store->epoll_fd, events, EVENTS_MAX, 0);
    }
    if (count == 0 && timeout != 0)
        count = epoll_wait(store->epoll_fd, events, EVENTS_MAX, timeout);
    return count;
}

static void *thread_main(void *arg)
{
    struct xv_xenstore *store = arg;
    struct epoll_event events[EVENTS_MAX];
    int timeout = 0;
    bool stopping = false;

    while (!stopping) {
        int count = wait_for_events(store, events, timeout);

        xs_io_enter(store);
        turn(store, events, count);
        timeout = patience(store);
        stopping = store->stopping;
        xs_io_leave(store);
    }
    return NULL;
}

int xs_io_start(struct xv_xenstore *store)
{
    sigset_t all, old;
    int ret;

    store->stopping = false;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &old);
    ret = pthread_create(&store->thread, NULL, thread_main, store);
    pthread_sigmask(SIG_SETMASK, &old, NULL);
    if (ret)
        return -ret;
    pthread_setname_np(store->thread, "xenstore");
    store->running = true;
    return 0;
}

void xs_io_stop(struct xv_xenstore *store)
{
    if (!store->running)
        return;
    store->running = false;
    xs_io_enter(store);
    store->stopping = true;
    xs_io_leave_changed(store);
    pthread_join(store->thread, NULL);
}
