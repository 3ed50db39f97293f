/* SPDX-License-Identifier: BSD-2-Clause */
/* A connection's two queues: bytes of requests in, messages out. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "state.h"

enum { PRIVILEGED_EVENTS_MAX = 32 * 1024 * 1024 };

unsigned int xs_conn_rights(const struct xs_conn *conn,
                            const struct xs_perms *perms)
{
    if (conn->privileged)
        return XS_PERM_ALL;
    return xs_perms_rights(perms, conn->domid, conn->domain->target);
}

void xs_conn_wake(struct xs_engine *engine, struct xs_conn *conn)
{
    if (conn->woken)
        return;
    conn->woken = true;
    conn->woken_next = NULL;
    *engine->last_woken = conn;
    engine->last_woken = &conn->woken_next;
}

struct xs_conn *xs_engine_woken(struct xs_engine *engine)
{
    struct xs_conn *conn = engine->woken;

    if (conn == NULL)
        return NULL;
    engine->woken = conn->woken_next;
    if (engine->woken == NULL)
        engine->last_woken = &engine->woken;
    conn->woken = false;
    return conn;
}

/* ---- what comes in ---- */

/* The engine's buffer is lent to one connection at a time. */
static void release_scratch(struct xs_engine *engine, struct xs_conn *conn)
{
    if (engine->scratch_user == conn)
        engine->scratch_user = NULL;
    conn->in = NULL;
    conn->in_room = conn->in_begin = conn->in_end = 0;
}

int xs_conn_keep_input(struct xs_engine *engine, struct xs_conn *conn)
{
    size_t left = conn->in_end - conn->in_begin;
    size_t room = left > XS_MESSAGE_MAX ? left : XS_MESSAGE_MAX;
    uint8_t *own;

    if (conn->in == NULL)
        return 0;
    if (conn->in != engine->scratch) {
        if (left == 0) {
            free(conn->in);
            release_scratch(engine, conn);
        }
        return 0;
    }
    own = left > 0 ? malloc(room) : NULL;
    if (left > 0 && own == NULL)
        return -ENOMEM;
    if (left > 0)
        memcpy(own, conn->in + conn->in_begin, left);
    release_scratch(engine, conn);
    if (left > 0) {
        conn->in = own;
        conn->in_room = room;
        conn->in_end = left;
    }
    return 0;
}

size_t xs_conn_room(struct xs_engine *engine, struct xs_conn *conn, void **room)
{
    struct xsd_sockmsg header;
    const uint8_t *payload;

    if (!conn->alive || xs_conn_next(conn, &header, &payload) || conn->broken)
        return 0;
    if (conn->in == NULL) {
        struct xs_conn *user = engine->scratch_user;

        if (user != NULL && xs_conn_keep_input(engine, user) != 0)
            return 0;
        engine->scratch_user = conn;
        conn->in = engine->scratch;
        conn->in_room = XS_SCRATCH;
    } else if (conn->in_begin > 0) {
        memmove(conn->in, conn->in + conn->in_begin,
                conn->in_end - conn->in_begin);
        conn->in_end -= conn->in_begin;
        conn->in_begin = 0;
    }
    *room = conn->in + conn->in_end;
    return conn->in_room - conn->in_end;
}

void xs_conn_received(struct xs_engine *engine, struct xs_conn *conn,
                      size_t len)
{
    struct xsd_sockmsg header;
    const uint8_t *payload;

    conn->in_end += len;
    if (conn->in_end == conn->in_begin)
        xs_conn_keep_input(engine, conn);
    else
        xs_conn_next(conn, &header, &payload); /* it may be too long */
}

bool xs_conn_next(struct xs_conn *conn, struct xsd_sockmsg *header,
                  const uint8_t **payload)
{
    size_t left = conn->in_end - conn->in_begin;

    if (conn->broken || left < sizeof(*header))
        return false;
    memcpy(header, conn->in + conn->in_begin, sizeof(*header));
    if (header->len > XS_PAYLOAD_MAX) {
        conn->broken = true;
        return false;
    }
    *payload = conn->in + conn->in_begin + sizeof(*header);
    return left >= sizeof(*header) + header->len;
}

void xs_conn_consume(struct xs_conn *conn, const struct xsd_sockmsg *header)
{
    conn->in_begin += sizeof(*header) + header->len;
}

/* ---- causes ---- */

struct xs_cause *xs_cause_make(struct xs_engine *engine,
                               struct xs_domain *domain)
{
    struct xs_cause *cause = malloc(sizeof(*cause));

    if (cause == NULL)
        return NULL;
    cause->refs = 1;
    cause->domain = xs_domain_ref(domain);
    xs_domain_charge(&engine->domains, domain, XS_QUOTA_OUTSTANDING, 1);
    return cause;
}

void xs_cause_unref(struct xs_engine *engine, struct xs_cause *cause)
{
    struct xs_domain *domain;

    if (cause == NULL || --cause->refs > 0)
        return;
    domain = cause->domain;
    xs_domain_charge(&engine->domains, domain, XS_QUOTA_OUTSTANDING, -1);
    /* Requests of theirs may have waited for this. */
    for (struct xs_conn *conn = domain->conns; conn != NULL;
         conn = conn->kin_next)
        if (conn->in_end > conn->in_begin)
            xs_conn_wake(engine, conn);
    xs_domain_unref(domain);
    free(cause);
}

/* ---- what goes out ---- */

static struct xs_message *make_message(uint32_t type, uint32_t req_id,
                                       uint32_t tx_id, size_t len)
{
    struct xs_message *message = malloc(sizeof(*message) + len);

    if (message == NULL)
        return NULL;
    message->next = message->same = NULL;
    message->cause = NULL;
    message->deadline_ms = UINT64_MAX;
    message->hash = 0;
    message->event = false;
    message->size = (uint32_t)(sizeof(message->header) + len);
    message->header.type = type;
    message->header.req_id = req_id;
    message->header.tx_id = tx_id;
    message->header.len = (uint32_t)len;
    return message;
}

static void queue(struct xs_engine *engine, struct xs_conn *conn,
                  struct xs_message *message, struct xs_cause *cause)
{
    if (cause != NULL) {
        cause->refs++;
        message->cause = cause;
    }
    if (conn->out_first == NULL)
        xs_conn_wake(engine, conn);
    *conn->out_last = message;
    conn->out_last = &message->next;
    conn->unread += message->size;
    xs_domain_charge(&engine->domains, conn->domain, XS_QUOTA_MEMORY,
                     message->size);
}

int xs_conn_post(struct xs_engine *engine, struct xs_conn *conn,
                 struct xs_cause *cause, uint32_t type, uint32_t req_id,
                 uint32_t tx_id, const void *payload, size_t len)
{
    struct xs_message *message;

    if (!conn->alive)
        return 0;
    message = make_message(type, req_id, tx_id, len);
    if (message == NULL)
        return -ENOMEM;
    if (len > 0)
        memcpy(message->payload, payload, len);
    queue(engine, conn, message, cause);
    if (engine->trace != NULL)
        engine->trace(engine->trace_ctx, conn, XS_TRACE_REPLY,
                      &message->header, message->payload);
    return 0;
}

/* Who leaves events unread without end is let go, which it notices (XSA-326). */
static bool too_much_unread(struct xs_engine *engine, struct xs_conn *conn,
                            size_t more)
{
    if (conn->privileged) {
        if (conn->unread + more <= PRIVILEGED_EVENTS_MAX)
            return false;
        xs_engine_log(engine, XS_LOG_MEMORY,
                      "a client of domain %u does not read its watch events, "
                      "disconnected",
                      (unsigned int)conn->domid);
        /* Its watches go with it, and not in the middle of their report. */
        conn->alive = false;
        xs_conn_wake(engine, conn);
        return true;
    }
    return xs_quota_exceeded(conn->domain->used[XS_QUOTA_MEMORY] + more,
                             conn->domain->quota[XS_QUOTA_MEMORY]);
}

static bool waits_already(const struct xs_conn *conn,
                          const struct xs_message *event)
{
    const struct xs_message *other;

    if (conn->event_bucket == NULL)
        return false;
    other = conn->event_bucket[event->hash & conn->event_mask];
    while (other != NULL &&
           (other->hash != event->hash || other->size != event->size ||
            memcmp(other->payload, event->payload, event->header.len) != 0))
        other = other->same;
    return other != NULL;
}

static void widen_event_buckets(struct xs_conn *conn)
{
    uint32_t mask = conn->event_bucket ? 2 * conn->event_mask + 1 : 7;
    struct xs_message **bucket = calloc(mask + 1, sizeof(*bucket));

    if (bucket == NULL)
        return;
    for (struct xs_message *m = conn->out_first; m != NULL; m = m->next) {
        if (m->event) {
            m->same = bucket[m->hash & mask];
            bucket[m->hash & mask] = m;
        }
    }
    free(conn->event_bucket);
    conn->event_bucket = bucket;
    conn->event_mask = mask;
}

static void remember_event(struct xs_conn *conn, struct xs_message *event)
{
    if (conn->event_bucket == NULL || conn->events > conn->event_mask)
        widen_event_buckets(conn);
    conn->events++;
    event->event = true;
    if (conn->event_bucket != NULL) {
        event->same = conn->event_bucket[event->hash & conn->event_mask];
        conn->event_bucket[event->hash & conn->event_mask] = event;
    }
}

static void forget_event(struct xs_conn *conn, struct xs_message *event)
{
    struct xs_message **at;

    if (conn->event_bucket != NULL) {
        at = &conn->event_bucket[event->hash & conn->event_mask];
        while (*at != NULL && *at != event)
            at = &(*at)->same;
        if (*at == event)
            *at = event->same;
    }
    conn->events--;
}

/* Queue an event for good, with its time to be read from now on. */
static void queue_event(struct xs_engine *engine, struct xs_conn *conn,
                        struct xs_message *event, struct xs_cause *cause)
{
    if (!conn->privileged) {
        event->deadline_ms = engine->now_ms + XS_EVENT_TIMEOUT_MS;
        if (event->deadline_ms < engine->event_due_ms)
            engine->event_due_ms = event->deadline_ms;
    }
    queue(engine, conn, event, cause);
    remember_event(conn, event);
}

bool xs_conn_restore_event(struct xs_engine *engine, struct xs_conn *conn,
                           const void *payload, size_t len)
{
    struct xs_message *event = make_message(XS_WATCH_EVENT, 0, 0, len);

    if (event == NULL)
        return false;
    memcpy(event->payload, payload, len);
    event->hash = xs_path_hash(payload, len);
    queue_event(engine, conn, event, NULL);
    return true;
}

void xs_conn_post_event(struct xs_engine *engine, struct xs_conn *conn,
                        struct xs_cause *cause, const char *path,
                        size_t path_len, const char *token, size_t token_len)
{
    size_t len = path_len + 1 + token_len + 1;
    struct xs_message *event;

    if (!conn->alive || len > XS_PAYLOAD_MAX)
        return;
    event = make_message(XS_WATCH_EVENT, 0, 0, len);
    if (event == NULL)
        return;
    memcpy(event->payload, path, path_len);
    event->payload[path_len] = '\0';
    memcpy(event->payload + path_len + 1, token, token_len);
    event->payload[len - 1] = '\0';
    event->hash = xs_path_hash((const char *)event->payload, len);
    if ((path[0] != '@' && waits_already(conn, event)) ||
        too_much_unread(engine, conn, event->size)) {
        free(event);
        return;
    }
    queue_event(engine, conn, event, cause);
    if (engine->trace != NULL)
        engine->trace(engine->trace_ctx, conn, XS_TRACE_EVENT, &event->header,
                      event->payload);
}

static void free_message(struct xs_engine *engine, struct xs_conn *conn,
                         struct xs_message *message)
{
    if (message->event)
        forget_event(conn, message);
    conn->unread -= message->size;
    xs_domain_charge(&engine->domains, conn->domain, XS_QUOTA_MEMORY,
                     -(int64_t)message->size);
    xs_cause_unref(engine, message->cause);
    free(message);
}

static void unlink_first(struct xs_engine *engine, struct xs_conn *conn)
{
    struct xs_message *message = conn->out_first;

    conn->out_first = message->next;
    if (conn->out_first == NULL)
        conn->out_last = &conn->out_first;
    conn->out_sent = 0;
    free_message(engine, conn, message);
}

unsigned int xs_conn_output(const struct xs_conn *conn, struct iovec *iov,
                            unsigned int max)
{
    const struct xs_message *message = conn->out_first;
    size_t skip = conn->out_sent;
    unsigned int count = 0;

    for (; message != NULL && count < max; message = message->next) {
        /* Header and payload lie side by side. */
        iov[count].iov_base = (uint8_t *)&message->header + skip;
        iov[count].iov_len = message->size - skip;
        skip = 0;
        count++;
    }
    return count;
}

void xs_conn_sent(struct xs_engine *engine, struct xs_conn *conn, size_t len)
{
    while (len > 0 && conn->out_first != NULL) {
        size_t left = conn->out_first->size - conn->out_sent;

        if (len < left) {
            conn->out_sent += len;
            return;
        }
        len -= left;
        unlink_first(engine, conn);
    }
    if (conn->events == 0 && conn->event_bucket != NULL) {
        free(conn->event_bucket);
        conn->event_bucket = NULL;
    }
    if (engine->stalled != NULL)
        xs_engine_check_stalled(engine);
}

uint64_t xs_conn_expire(struct xs_engine *engine, struct xs_conn *conn,
                        uint64_t now_ms)
{
    struct xs_message **at = &conn->out_first;

    /* What is half sent has to be sent whole. */
    if (*at != NULL && conn->out_sent > 0)
        at = &(*at)->next;
    while (*at != NULL) {
        struct xs_message *message = *at;

        if (message->deadline_ms == UINT64_MAX) {
            at = &message->next;
            continue;
        }
        if (message->deadline_ms > now_ms)
            return message->deadline_ms;
        *at = message->next;
        if (conn->out_last == &message->next)
            conn->out_last = at;
        free_message(engine, conn, message);
    }
    return UINT64_MAX;
}

void xs_conn_empty(struct xs_engine *engine, struct xs_conn *conn)
{
    while (conn->out_first != NULL)
        unlink_first(engine, conn);
    free(conn->event_bucket);
    conn->event_bucket = NULL;
    if (conn->in != engine->scratch)
        free(conn->in);
    release_scratch(engine, conn);
    conn->broken = false;
    conn->waiting = false;
}
