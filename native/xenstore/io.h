/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * What the files of the store's I/O share: loop.c (the thread), server.c (its face),
 * listener.c, socket_transport.c, ring_transport.c, trace_stream.c, live_state.c.
 *
 * Everything in here is called with the store's lock held.
 */
#ifndef XV_XENSTORE_IO_H
#define XV_XENSTORE_IO_H

#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/queue.h>

#include "engine.h"
#include "evtchn.h"
#include "server.h"
#include "state.h"

/*
 * Requests of one client in a turn. The others wait no longer for it than a wake-up
 * takes, tens of microseconds, and a turn's system calls are shared by enough
 * requests to be a small part of their cost.
 */
#define XS_IO_BUDGET 16u

enum xs_io_kind {
    XS_IO_COMMAND,
    XS_IO_LISTENER,
    XS_IO_SOCKET,
    XS_IO_RING,
    XS_IO_READER,
};

/*
 * What an epoll event belongs to; the first member of what it is. A closed one is
 * freed only when no event of a batch can name it any more.
 */
struct xs_io_source {
    enum xs_io_kind kind;
    int fd;
    bool closed;
    SLIST_ENTRY(xs_io_source) closed_link;
};

/* A connection of the engine, by whatever it comes. */
struct xs_io_client {
    struct xs_io_source source;
    struct xv_xenstore *store;
    struct xs_conn *conn; /* NULL: a ring that is not served */
    uint16_t domid;
    bool active;
    uint32_t turn; /* in which it was served last */
    LIST_ENTRY(xs_io_client) link;
    TAILQ_ENTRY(xs_io_client) active_link;
};

/* A listening socket: for clients, or for readers of the trace. */
struct xs_io_listener {
    struct xs_io_source source;
    bool for_readers;
    bool privileged;
    uint16_t domid;
    LIST_ENTRY(xs_io_listener) link;
};

#define XS_IO_TRACE_SIZE (4u * 1024 * 1024)

/* One who reads the trace. */
struct xs_io_reader {
    struct xs_io_source source;
    bool blocked;         /* there is no room to send */
    bool awaiting;        /* EPOLLOUT, which tells when there is */
    uint64_t lost;        /* records, since the last one that was kept */
    uint32_t begin, used; /* of @buffer, a ring of XS_IO_TRACE_SIZE */
    uint8_t *buffer;
    LIST_ENTRY(xs_io_reader) link;
};

/* What the last process left of a ring that is not served again yet. */
struct xs_io_saved_ring {
    uint16_t domid;
    uint32_t req_cons;
    uint32_t rsp_prod;
    struct xs_conn *conn; /* NULL: the ring is broken */
    SLIST_ENTRY(xs_io_saved_ring) link;
};

struct xv_xenstore {
    pthread_t thread;
    bool running;
    pthread_mutex_t gate; /* see xs_io_enter() */
    pthread_mutex_t lock;
    int epoll_fd;
    int upcall_fd;
    struct xs_io_source command; /* eventfd: the thread is to look around */
    bool stopping;

    struct xs_engine *engine;
    uint64_t now_ms;
    uint32_t turn;
    LIST_HEAD(, xs_io_client) clients;
    TAILQ_HEAD(, xs_io_client) active; /* those that have something to do */
    LIST_HEAD(, xs_io_listener) listeners;
    uint64_t accept_at_ms; /* accept() is tried again; UINT64_MAX: it works */
    bool accept_failed;    /* that is logged; not over while somebody waits */
    uint64_t listen_at_ms; /* to rings that notified for nothing; UINT64_MAX: to all */
    LIST_HEAD(, xs_io_reader) readers; /* of the trace */
    SLIST_HEAD(, xs_io_saved_ring) saved_rings;
    SLIST_HEAD(, xs_io_source) closed;

    bool has_upcall;
    struct xs_upcall upcall; /* the next one, if there is one */
};

/* ---- loop.c ---- */

/*
 * Take the lock, and set the clock. Whoever wants in while another is inside comes
 * next, so that the thread cannot keep callers out however busy it is.
 */
void xs_io_enter(struct xv_xenstore *store);
void xs_io_leave(struct xv_xenstore *store);

/* Leave after a change: let the thread do what follows from it. */
void xs_io_leave_changed(struct xv_xenstore *store);

/* Begin the thread; end it, if it runs. Without the lock. */
int xs_io_start(struct xv_xenstore *store);
void xs_io_stop(struct xv_xenstore *store);

/* Watch a source's descriptor; or change what for. */
int xs_io_watch(struct xv_xenstore *store, struct xs_io_source *source,
                uint32_t events);
int xs_io_rewatch(struct xv_xenstore *store, struct xs_io_source *source,
                  uint32_t events);

/* Stop watching; the source is freed when that is safe. */
void xs_io_unwatch(struct xv_xenstore *store, struct xs_io_source *source);
void xs_io_free_closed(struct xv_xenstore *store);

/* Give a client a turn, before those that had the last one. */
void xs_io_activate(struct xs_io_client *client);

/* Be one of the clients; leave them, and the engine. */
void xs_io_join(struct xv_xenstore *store, struct xs_io_client *client,
                uint16_t domid);
void xs_io_part(struct xs_io_client *client);

/* Have a new connection to the engine, false without memory; or that one. */
bool xs_io_connect(struct xs_io_client *client, bool privileged);
void xs_io_connect_to(struct xs_io_client *client, struct xs_conn *conn);

/* ---- listener.c: who connects ---- */

/* Both take over @fd, even if they fail. */
int xs_io_listen(struct xv_xenstore *store, int fd, uint16_t domid,
                 bool privileged);
int xs_io_listen_for_readers(struct xv_xenstore *store, int fd);
void xs_io_accept(struct xv_xenstore *store, struct xs_io_listener *listener);

/* Connections by socket of those who speak as @domid. */
uint32_t xs_io_sockets_of(const struct xv_xenstore *store, uint16_t domid);

/* A descriptor is free again, or time has passed. */
void xs_io_accept_again(struct xv_xenstore *store);
void xs_io_close_listeners(struct xv_xenstore *store);

/* ---- socket_transport.c ---- */

/* Both take over @fd, the second @conn, even if they fail. */
int xs_socket_open(struct xv_xenstore *store, int fd, uint16_t domid,
                   bool privileged);
int xs_socket_restore(struct xv_xenstore *store, int fd, struct xs_conn *conn);
void xs_socket_event(struct xs_io_client *client, uint32_t events);

/* Receive, serve, send; or just send. Return: whether it needs a turn at once. */
bool xs_socket_turn(struct xs_io_client *client);
bool xs_socket_flush(struct xs_io_client *client);
void xs_socket_close(struct xs_io_client *client);

/* ---- ring_transport.c ---- */

int xs_ring_open(struct xv_xenstore *store, uint16_t domid, void *page,
                 const struct evtchn *evtchn, bool served);
void xs_ring_event(struct xs_io_client *client);
void xs_ring_listen_again(struct xv_xenstore *store);
bool xs_ring_turn(struct xs_io_client *client);
bool xs_ring_flush(struct xs_io_client *client);
int xs_ring_reset(struct xs_io_client *client);
void xs_ring_close(struct xs_io_client *client);
void xs_ring_indices(const struct xs_io_client *client, uint32_t *req_cons,
                     uint32_t *rsp_prod);

/* ---- trace_stream.c ---- */

int xs_trace_open(struct xv_xenstore *store, int fd);
void xs_trace_event(struct xv_xenstore *store, struct xs_io_reader *reader,
                    uint32_t events);
/* Send what was recorded in this turn. */
void xs_trace_flush(struct xv_xenstore *store);
void xs_trace_close_all(struct xv_xenstore *store);

/* ---- live_state.c: from one process to the next ---- */

/* Take over all that the last process has left in @fd. */
int xs_io_restore(struct xv_xenstore *store, int fd);

/* What is left of a domain's ring, the caller's from now on; false: nothing. */
bool xs_io_take_saved_ring(struct xv_xenstore *store, uint16_t domid,
                           struct xs_io_saved_ring *ring);

#endif
