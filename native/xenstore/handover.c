/* SPDX-License-Identifier: BSD-2-Clause */
/* A connection as bytes, for the process that takes over in a live update. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "state.h"

struct conn_state {
    uint64_t id;
    uint32_t domid;
    uint32_t privileged;
    uint32_t last_tx_id;
    uint32_t updating; /* it has asked for this update, and waits */
    struct xsd_sockmsg asked;
    uint32_t in_len;
    uint32_t messages;
    uint32_t watches;
    uint32_t sent; /* of the first message */
};

/* Behind it: the payload. */
struct message_state {
    struct xsd_sockmsg header;
    uint32_t event;
};

/* Behind it: the path, which is relative if @skip, and the token. */
struct watch_state {
    uint32_t depth;
    uint16_t skip;
    uint16_t path_len;
    uint16_t token_len;
    uint16_t reserved;
};

int xs_blob_append(struct xs_blob *blob, const void *data, size_t len)
{
    if (blob->len + len > blob->room) {
        size_t room = 2 * (blob->len + len);
        uint8_t *wider = realloc(blob->data, room);

        if (wider == NULL)
            return -ENOMEM;
        blob->data = wider;
        blob->room = room;
    }
    if (len > 0)
        memcpy(blob->data + blob->len, data, len);
    blob->len += len;
    return 0;
}

static int put_message(struct xs_blob *blob, const struct xs_message *message)
{
    struct message_state state = {message->header, message->event};
    int error = xs_blob_append(blob, &state, sizeof(state));

    return error != 0 ? error
                      : xs_blob_append(blob, message->payload,
                                       message->header.len);
}

static int put_watch(struct xs_blob *blob, const struct xs_watch *watch)
{
    struct watch_state state = {
        .depth = watch->depth,
        .skip = watch->skip,
        .path_len = watch->at->path_len,
        .token_len = watch->token_len,
    };
    int error = xs_blob_append(blob, &state, sizeof(state));

    if (error == 0)
        error = xs_blob_append(blob, watch->at->path, watch->at->path_len);
    return error != 0 ? error : xs_blob_append(blob, watch->token, watch->token_len);
}

static bool is_updating(const struct xs_engine *engine,
                        const struct xs_conn *conn)
{
    for (const struct xs_pending *p = engine->unanswered; p; p = p->next)
        if (p->upcall.conn_id == conn->id &&
            p->upcall.kind == XS_UPCALL_LIVE_UPDATE)
            return true;
    return false;
}

int xs_conn_save(const struct xs_engine *engine, const struct xs_conn *conn,
                 bool force, struct xs_blob *blob)
{
    struct conn_state state = {
        .id = conn->id,
        .domid = conn->domid,
        .privileged = conn->privileged,
        .last_tx_id = conn->last_tx_id,
        .updating = conn->waiting && is_updating(engine, conn),
        .asked = conn->asked,
        .in_len = (uint32_t)(conn->in_end - conn->in_begin),
        .sent = (uint32_t)conn->out_sent,
    };
    int error;

    if ((conn->transactions != NULL && !force) ||
        (conn->waiting && !state.updating))
        return -EBUSY;
    for (const struct xs_message *m = conn->out_first; m; m = m->next)
        state.messages++;
    for (const struct xs_watch *w = conn->watches; w; w = w->next)
        state.watches++;
    error = xs_blob_append(blob, &state, sizeof(state));
    if (error == 0 && state.in_len > 0)
        error = xs_blob_append(blob, conn->in + conn->in_begin, state.in_len);
    for (const struct xs_message *m = conn->out_first; m && !error; m = m->next)
        error = put_message(blob, m);
    for (const struct xs_watch *w = conn->watches; w && !error; w = w->next)
        error = put_watch(blob, w);
    return error;
}

struct reader {
    const uint8_t *at;
    size_t left;
};

/* The next @len bytes where they lie, or NULL. */
static const void *take(struct reader *reader, size_t len)
{
    const uint8_t *at = reader->at;

    if (len > reader->left)
        return NULL;
    reader->at += len;
    reader->left -= len;
    return at;
}

static bool get(struct reader *reader, void *data, size_t len)
{
    const void *at = take(reader, len);

    if (at != NULL)
        memcpy(data, at, len);
    return at != NULL;
}

static bool get_message(struct xs_engine *engine, struct xs_conn *conn,
                        struct reader *reader)
{
    struct message_state state;
    const char *payload, *nul;

    if (!get(reader, &state, sizeof(state)) ||
        state.header.len > XS_PAYLOAD_MAX)
        return false;
    payload = take(reader, state.header.len);
    if (payload == NULL)
        return false;
    if (!state.event)
        return xs_conn_post(engine, conn, NULL, state.header.type,
                            state.header.req_id, state.header.tx_id, payload,
                            state.header.len) == 0;
    nul = memchr(payload, '\0', state.header.len);
    if (nul == NULL || payload + state.header.len < nul + 2)
        return false;
    return xs_conn_restore_event(engine, conn, payload, state.header.len);
}

static bool get_watch(struct xs_engine *engine, struct xs_conn *conn,
                      struct reader *reader)
{
    char text[XS_ABS_PATH_MAX + 1];
    struct watch_state state;
    struct xs_watch *watch;
    struct xs_path path;
    const char *token;

    if (!get(reader, &state, sizeof(state)) ||
        state.path_len > XS_ABS_PATH_MAX ||
        !get(reader, text, state.path_len))
        return false;
    text[state.path_len] = '\0';
    token = take(reader, state.token_len);
    if (token == NULL || state.skip > state.path_len ||
        xs_path_parse(&path, text, state.path_len, conn->domid, true) != 0)
        return false;
    path.skip = state.skip;
    watch = xs_watch_add(&engine->watches, conn, &path, token, state.token_len,
                         state.depth);
    if (watch == NULL)
        return false;
    xs_domain_charge(&engine->domains, conn->domain, XS_QUOTA_WATCHES, 1);
    xs_domain_charge(&engine->domains, conn->domain, XS_QUOTA_MEMORY,
                     (int64_t)xs_watch_memory(watch));
    return true;
}

static bool get_input(struct xs_conn *conn, struct reader *reader, size_t len)
{
    size_t room = len > XS_MESSAGE_MAX ? len : XS_MESSAGE_MAX;
    const void *data = take(reader, len);

    if (data == NULL || len == 0)
        return data != NULL;
    conn->in = malloc(room);
    if (conn->in == NULL)
        return false;
    memcpy(conn->in, data, len);
    conn->in_room = room;
    conn->in_end = len;
    return true;
}

/* Somebody waits for the answer that this process is to give. */
static bool expect_answer(struct xs_engine *engine, struct xs_conn *conn,
                          const struct xsd_sockmsg *asked)
{
    struct xs_pending *pending = calloc(1, sizeof(*pending));

    if (pending == NULL)
        return false;
    pending->upcall.conn_id = conn->id;
    pending->upcall.kind = XS_UPCALL_LIVE_UPDATE;
    pending->next = engine->unanswered;
    engine->unanswered = pending;
    conn->waiting = true;
    conn->asked = *asked;
    return true;
}

struct xs_conn *xs_engine_restore(struct xs_engine *engine, const void *data,
                                  size_t len)
{
    struct reader reader = {data, len};
    struct conn_state state;
    struct xs_conn *conn;
    bool good;

    if (!get(&reader, &state, sizeof(state)) || state.domid > UINT16_MAX)
        return NULL;
    conn = xs_engine_connect(engine, (uint16_t)state.domid,
                             state.privileged != 0);
    if (conn == NULL)
        return NULL;
    conn->id = state.id;
    if (engine->last_conn_id < state.id)
        engine->last_conn_id = state.id;
    conn->last_tx_id = state.last_tx_id;
    good = get_input(conn, &reader, state.in_len);
    for (uint32_t i = 0; good && i < state.messages; i++)
        good = get_message(engine, conn, &reader);
    for (uint32_t i = 0; good && i < state.watches; i++)
        good = get_watch(engine, conn, &reader);
    if (good && state.updating)
        good = expect_answer(engine, conn, &state.asked);
    if (!good || (conn->out_first == NULL && state.sent > 0) ||
        (conn->out_first != NULL && state.sent >= conn->out_first->size)) {
        xs_engine_disconnect(engine, conn);
        return NULL;
    }
    conn->out_sent = state.sent;
    xs_conn_wake(engine, conn);
    return conn;
}
