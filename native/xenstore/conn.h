/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * One client of the store: what it holds, and what waits to be sent to it. engine.h
 * has what a transport sees of it.
 */
#ifndef XV_XENSTORE_CONN_H
#define XV_XENSTORE_CONN_H

#include "domain.h"
#include "engine.h"
#include "transaction.h"
#include "watch.h"

enum {
    XS_PAYLOAD_MAX = 4096,
    XS_MESSAGE_MAX = sizeof(struct xsd_sockmsg) + XS_PAYLOAD_MAX,
    XS_EVENT_TIMEOUT_MS = 20 * 1000, /* that a domain may leave one unread */
};

/*
 * A request is outstanding until its reply and every event that it caused are sent:
 * a domain whose requests others leave unread is not served (XSA-326).
 */
struct xs_cause {
    uint32_t refs;
    struct xs_domain *domain;
};

struct xs_message {
    struct xs_message *next;
    struct xs_message *same; /* in its bucket of events */
    struct xs_cause *cause;
    uint64_t deadline_ms; /* UINT64_MAX: none */
    uint32_t hash;
    uint32_t size; /* of header and payload */
    bool event;
    struct xsd_sockmsg header;
    uint8_t payload[];
};

struct xs_conn {
    struct xs_conn *next, *prev;       /* of all */
    struct xs_conn *kin_next, *kin_prev; /* of its domain */
    struct xs_conn *woken_next;
    struct xs_domain *domain;
    void *context;
    uint64_t id;
    uint16_t domid;
    bool privileged;
    bool alive;
    bool broken;
    bool woken;
    bool waiting; /* for the answer to an upcall, of the request @asked */
    struct xsd_sockmsg asked;

    /* What came and is not served: its own, or the engine's for a moment. */
    uint8_t *in;
    size_t in_room, in_begin, in_end;

    struct xs_message *out_first, **out_last;
    size_t out_sent; /* of the first message */
    size_t unread;   /* bytes that wait */
    struct xs_message **event_bucket;
    uint32_t event_mask, events;

    struct xs_watch *watches, **last_watch;
    struct xs_transaction *transactions;
    uint32_t last_tx_id;
};


/* What the connection may do with a node of that list. */
unsigned int xs_conn_rights(const struct xs_conn *conn,
                            const struct xs_perms *perms);

/* Queue a reply; an unprivileged request is outstanding from now on. */
int xs_conn_post(struct xs_engine *engine, struct xs_conn *conn,
                 struct xs_cause *cause, uint32_t type, uint32_t req_id,
                 uint32_t tx_id, const void *payload, size_t len);

/*
 * Queue a WATCH_EVENT, unless the same one still waits. One that does not fit into a
 * message is dropped (XSA-324); so is one beyond the memory quota (XSA-326).
 */
void xs_conn_post_event(struct xs_engine *engine, struct xs_conn *conn,
                        struct xs_cause *cause, const char *path,
                        size_t path_len, const char *token, size_t token_len);

/* An event that another process had queued, whatever the quotas say now. */
bool xs_conn_restore_event(struct xs_engine *engine, struct xs_conn *conn,
                           const void *payload, size_t len);

/* Drop events that wait for too long; returns when the next one is too old. */
uint64_t xs_conn_expire(struct xs_engine *engine, struct xs_conn *conn,
                        uint64_t now_ms);

/*
 * Whether a whole request waits. Its header is copied; its payload is left in place
 * until xs_conn_consume().
 */
bool xs_conn_next(struct xs_conn *conn, struct xsd_sockmsg *header,
                  const uint8_t **payload);
void xs_conn_consume(struct xs_conn *conn, const struct xsd_sockmsg *header);

/* Have the bytes that are left in a buffer of the connection's own. */
int xs_conn_keep_input(struct xs_engine *engine, struct xs_conn *conn);

/* Drop all that waits in either direction. */
void xs_conn_empty(struct xs_engine *engine, struct xs_conn *conn);

/* Have xs_engine_woken() name it. */
void xs_conn_wake(struct xs_engine *engine, struct xs_conn *conn);

/* End every watch and every transaction. */
void xs_conn_drop_session(struct xs_engine *engine, struct xs_conn *conn);

/* Let the transport close; nothing is served or queued from now on. */
void xs_conn_drop(struct xs_engine *engine, struct xs_conn *conn);

struct xs_cause *xs_cause_make(struct xs_engine *engine,
                               struct xs_domain *domain);
void xs_cause_unref(struct xs_engine *engine, struct xs_cause *cause);

#endif
