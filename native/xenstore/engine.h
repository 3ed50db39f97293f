/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The store as a machine without I/O: bytes of requests in, bytes of replies and
 * events out. A transport
 *
 *   fills xs_conn_room(), says how much with xs_conn_received(),
 *   calls xs_conn_serve() while xs_conn_ready(),
 *   sends what xs_conn_output() gives and says how much with xs_conn_sent(),
 *
 * and looks after every connection that xs_engine_woken() names, because somebody
 * else's request may have queued events for it or dropped it.
 *
 * Nothing here blocks, and nothing is thread-safe. Times are milliseconds of one
 * monotonic clock, which the caller sets with xs_engine_set_time() at each turn.
 */
#ifndef XV_XENSTORE_ENGINE_H
#define XV_XENSTORE_ENGINE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/uio.h>

#include "abi/xs_wire.h"

struct xs_conn;
struct xs_engine;
struct xs_journal;

/* ---- the engine ---- */

/* A store with its first nodes; NULL without memory. */
struct xs_engine *xs_engine_new(void);
void xs_engine_free(struct xs_engine *engine);

/**
 * xs_engine_use_journal() - Take over what a journal holds, and write to it.
 *
 * Before the first connection. The engine owns @journal from now on.
 *
 * Return: 0; -errno of the replay, and the engine is of no more use.
 */
int xs_engine_use_journal(struct xs_engine *engine, struct xs_journal *journal);

void xs_engine_set_time(struct xs_engine *engine, uint64_t now_ms);

/*
 * When something is due without any input: a delayed request may go on, or an unread
 * event times out; UINT64_MAX for never. xs_engine_timeout() then does it.
 */
uint64_t xs_engine_next_timeout(const struct xs_engine *engine);
void xs_engine_timeout(struct xs_engine *engine);

/* ---- domains, told by who makes them ---- */

/* There is such a domain from now on: permissions may name it. */
int xs_engine_domain_created(struct xs_engine *engine, uint16_t domid);

/*
 * The domain is gone: so are its connections (dropped, see xs_conn_alive()), its
 * nodes and its rights, and @releaseDomain tells, if it was introduced.
 */
void xs_engine_domain_dead(struct xs_engine *engine, uint16_t domid);

/* Bits of server_features that the domain's ring page offers it. */
uint32_t xs_engine_features(const struct xs_engine *engine, uint16_t domid);

/*
 * The domids that the store knows of: that it was told of, that own a node or are
 * named by one; after a restart those that the last process knew. Up to @max are
 * copied; returns how many there are.
 */
size_t xs_engine_domains(const struct xs_engine *engine, uint16_t *domids,
                         size_t max);

/* How many nodes there are. */
size_t xs_engine_nodes(const struct xs_engine *engine);

/* Whether INTRODUCE was served for it; after a restart, by the last process. */
bool xs_engine_introduced(const struct xs_engine *engine, uint16_t domid);

/* ---- what needs the hypervisor ---- */

enum xs_upcall_kind {
    XS_UPCALL_INTRODUCE = 1, /* serve the ring page; or begin anew with it */
    XS_UPCALL_RELEASE,       /* stop serving the ring page */
    XS_UPCALL_LIVE_UPDATE,   /* replace this process */
    XS_UPCALL_LOG,           /* write a line to the log; nobody waits */
};

/*
 * The connection that asked is not served until xs_engine_answer().
 * @text: for XS_UPCALL_LIVE_UPDATE the parameters, each ended by a NUL; for
 *	XS_UPCALL_LOG the line
 */
struct xs_upcall {
    uint64_t conn_id;
    uint32_t kind;
    uint32_t domid;
    uint64_t gfn;
    uint32_t evtchn;
    uint32_t text_len;
    char text[4096];
};

/* The next one that waits, copied and taken away; false if there is none. */
bool xs_engine_next_upcall(struct xs_engine *engine, struct xs_upcall *upcall);

/* Let the request that made an upcall end with success or with an errno. */
void xs_engine_answer(struct xs_engine *engine, uint64_t conn_id, int error);

/* ---- connections ---- */

/* A new client that speaks as @domid; NULL without memory. */
struct xs_conn *xs_engine_connect(struct xs_engine *engine, uint16_t domid,
                                  bool privileged);

/* Forget a client, its watches and its transactions; @conn is freed. */
void xs_engine_disconnect(struct xs_engine *engine, struct xs_conn *conn);

/* As if it had just connected: both queues, watches and transactions go. */
void xs_conn_reset(struct xs_engine *engine, struct xs_conn *conn);

/* Never used twice by one engine. */
uint64_t xs_conn_id(const struct xs_conn *conn);
uint16_t xs_conn_domid(const struct xs_conn *conn);

/* The transport's own pointer. */
void xs_conn_set_context(struct xs_conn *conn, void *context);
void *xs_conn_context(const struct xs_conn *conn);

/* False once the transport has to close it, see xs_conn_broken(). */
bool xs_conn_alive(const struct xs_conn *conn);

/* Whether a message longer than 4096 bytes came: RingError PROTO, or a close. */
bool xs_conn_broken(const struct xs_conn *conn);

/*
 * Where to put bytes from the client, and how many; 0 while requests wait to be
 * served. xs_conn_received() takes what was put there.
 */
size_t xs_conn_room(struct xs_engine *engine, struct xs_conn *conn,
                    void **room);
void xs_conn_received(struct xs_engine *engine, struct xs_conn *conn, size_t len);

/*
 * Whether a whole request waits that may be served now: not while an upcall is
 * open, too many replies are unread, or the domain writes too much.
 */
bool xs_conn_ready(const struct xs_engine *engine, struct xs_conn *conn);

/* Serve up to @budget requests; returns how many were. */
unsigned int xs_conn_serve(struct xs_engine *engine, struct xs_conn *conn,
                           unsigned int budget);

/* What to send, in order, in up to @max pieces; returns the pieces. */
unsigned int xs_conn_output(const struct xs_conn *conn, struct iovec *iov,
                            unsigned int max);

/* The first @len bytes of it are sent. */
void xs_conn_sent(struct xs_engine *engine, struct xs_conn *conn, size_t len);

/* The next connection that has output or was dropped, each once; NULL. */
struct xs_conn *xs_engine_woken(struct xs_engine *engine);

/* ---- trace ---- */

enum xs_trace_kind {
    XS_TRACE_CONNECT = 1,
    XS_TRACE_DISCONNECT,
    XS_TRACE_REQUEST,
    XS_TRACE_REPLY,
    XS_TRACE_EVENT,
};

/*
 * Called for everything in the order in which the engine does it; NULL: for nothing.
 * @msg and @payload are NULL for CONNECT and DISCONNECT, and valid during the call.
 */
typedef void xs_trace_fn(void *ctx, const struct xs_conn *conn,
                         enum xs_trace_kind kind, const struct xsd_sockmsg *msg,
                         const void *payload);
void xs_engine_set_trace(struct xs_engine *engine, xs_trace_fn *fn, void *ctx);

/* ---- handing over to another process (live update) ---- */

/*
 * Append what a connection holds to @blob (its id, queues, watches); the journal has
 * the rest. Whoever asked for the update is answered by the process that restores it.
 * With @force, transactions are left out, and will have been ended there.
 *
 * Return: 0; -EBUSY while it has transactions, or waits for another upcall; -ENOMEM.
 */
struct xs_blob {
    uint8_t *data; /* malloc */
    size_t len;
    size_t room;
};
int xs_blob_append(struct xs_blob *blob, const void *data, size_t len);

int xs_conn_save(const struct xs_engine *engine, const struct xs_conn *conn,
                 bool force, struct xs_blob *blob);

/* A connection out of what xs_conn_save() wrote; NULL if that is damaged. */
struct xs_conn *xs_engine_restore(struct xs_engine *engine, const void *data,
                                  size_t len);

#endif
