/* SPDX-License-Identifier: BSD-2-Clause */
/* Which function serves which message, and what is done around each request. */
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "request.h"

static const struct row {
    xs_handler *handler;
    bool privileged;
    bool ignores_transaction;
} rows[XS_TYPE_COUNT] = {
    [XS_CONTROL] = {xs_control, .privileged = true},
    [XS_DIRECTORY] = {xs_directory},
    [XS_READ] = {xs_read},
    [XS_GET_PERMS] = {xs_get_perms},
    [XS_WATCH] = {xs_watch_request, .ignores_transaction = true},
    [XS_UNWATCH] = {xs_unwatch_request, .ignores_transaction = true},
    [XS_TRANSACTION_START] = {xs_transaction_start},
    [XS_TRANSACTION_END] = {xs_transaction_end},
    [XS_INTRODUCE] = {xs_introduce, .privileged = true},
    [XS_RELEASE] = {xs_release, .privileged = true},
    [XS_GET_DOMAIN_PATH] = {xs_get_domain_path},
    [XS_WRITE] = {xs_write},
    [XS_MKDIR] = {xs_mkdir},
    [XS_RM] = {xs_rm},
    [XS_SET_PERMS] = {xs_set_perms},
    [XS_IS_DOMAIN_INTRODUCED] = {xs_is_domain_introduced, .privileged = true},
    [XS_RESUME] = {xs_resume, .privileged = true},
    [XS_SET_TARGET] = {xs_set_target, .privileged = true},
    [XS_RESET_WATCHES] = {xs_reset_watches},
    [XS_DIRECTORY_PART] = {xs_directory_part},
    [XS_GET_FEATURE] = {xs_get_feature},
    [XS_SET_FEATURE] = {xs_set_feature, .privileged = true},
    [XS_GET_QUOTA] = {xs_get_quota, .privileged = true},
    [XS_SET_QUOTA] = {xs_set_quota, .privileged = true},
};

/* The names that the wire has for errors (xs_wire.h); another one is EINVAL. */
const char *xs_error_name(int error)
{
    static const struct {
        int number;
        const char *name;
    } names[] = {
        {EINVAL, "EINVAL"},   {EACCES, "EACCES"}, {EEXIST, "EEXIST"},
        {EISDIR, "EISDIR"},   {ENOENT, "ENOENT"}, {ENOMEM, "ENOMEM"},
        {ENOSPC, "ENOSPC"},   {EIO, "EIO"},       {ENOTEMPTY, "ENOTEMPTY"},
        {ENOSYS, "ENOSYS"},   {EROFS, "EROFS"},   {EBUSY, "EBUSY"},
        {EAGAIN, "EAGAIN"},   {EISCONN, "EISCONN"}, {E2BIG, "E2BIG"},
        {EPERM, "EPERM"},
    };

    for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++)
        if (names[i].number == error)
            return names[i].name;
    return "EINVAL";
}

int xs_reply(struct xs_request *request, const void *data, size_t len)
{
    if (len > XS_PAYLOAD_MAX)
        return -E2BIG;
    return xs_conn_post(request->engine, request->conn, request->cause,
                        request->header.type, request->header.req_id,
                        request->header.tx_id, data, len);
}

int xs_reply_ok(struct xs_request *request)
{
    return xs_reply(request, "OK", sizeof("OK"));
}

int xs_reply_number(struct xs_request *request, uint64_t number)
{
    char text[sizeof("18446744073709551615")];

    return xs_reply(request, text,
                    (size_t)snprintf(text, sizeof(text), "%llu",
                                     (unsigned long long)number) +
                        1);
}

unsigned int xs_strings(const struct xs_request *request, const char **string,
                        unsigned int max)
{
    const char *at = request->payload;
    const char *end = at + request->header.len;
    unsigned int count = 0;

    while (at < end) {
        const char *nul = memchr(at, '\0', (size_t)(end - at));

        if (nul == NULL)
            break;
        if (count < max)
            string[count] = at;
        count++;
        at = nul + 1;
    }
    return count;
}

const char *xs_one_string(const struct xs_request *request)
{
    const char *nul = memchr(request->payload, '\0', request->header.len);

    return nul == request->payload + request->header.len - 1 && nul != NULL
               ? request->payload
               : NULL;
}

int xs_number(const char *text, uint64_t max, uint64_t *number)
{
    uint64_t value = 0;

    if (*text == '\0')
        return -EINVAL;
    for (; *text != '\0'; text++) {
        uint64_t digit = (uint64_t)(*text - '0');

        if (*text < '0' || *text > '9' || value > (max - digit) / 10)
            return -EINVAL;
        value = 10 * value + digit;
    }
    *number = value;
    return 0;
}

int xs_domid(const char *text, uint16_t *domid)
{
    uint64_t number;

    if (xs_number(text, UINT16_MAX, &number) != 0)
        return -EINVAL;
    *domid = (uint16_t)number;
    return 0;
}

int xs_request_path(const struct xs_request *request, const char *sent,
                    bool special, struct xs_path *path)
{
    const struct xs_conn *conn = request->conn;
    int error =
        xs_path_parse(path, sent, strlen(sent), conn->domid, special);

    if (error == 0 && !conn->privileged &&
        xs_quota_exceeded(xs_path_quota_len(path->text, path->len),
                          conn->domain->quota[XS_QUOTA_PATH_MAX]))
        error = -EINVAL;
    return error;
}

void xs_request_changed(struct xs_request *request,
                        const struct xs_change *change)
{
    struct xs_transaction *tx = request->tree.tx;
    struct xs_record *record;

    if (tx == NULL) {
        xs_watches_fire(request->engine, request->cause, change);
        return;
    }
    record = xs_transaction_find(tx, change->path, change->len,
                                 xs_path_hash(change->path, change->len));
    if (record == NULL)
        return;
    record->fire_exact =
        change->exact && (!record->fire || record->fire_exact);
    record->fire = true;
}

void xs_request_wrote(struct xs_request *request, uint64_t writes)
{
    struct xs_engine *engine = request->engine;
    struct xs_domain *domain = request->conn->domain;
    uint64_t wait;

    if (request->conn->privileged)
        return;
    xs_rate_debit(&engine->rate, domain, writes, engine->now_ms);
    wait = xs_rate_wait(&engine->rate, domain, engine->now_ms);
    if (wait == 0)
        return;
    if (engine->now_ms + wait < engine->delay_due_ms)
        engine->delay_due_ms = engine->now_ms + wait;
    if (!domain->rate_reported) {
        domain->rate_reported = true;
        xs_engine_log_domain(engine, domain, XS_LOG_RATE,
                             "write rate limit: domain %u is affected",
                             (unsigned int)domain->domid);
    }
}

/* What a client may still use of its domain's memory quota. */
static size_t memory_left(const struct xs_conn *conn)
{
    const struct xs_domain *domain = conn->domain;
    uint32_t quota = domain->quota[XS_QUOTA_MEMORY];
    uint32_t used = domain->used[XS_QUOTA_MEMORY];

    if (conn->privileged || quota == 0)
        return SIZE_MAX / 2;
    return used + 1 < quota ? quota - 1 - used : 0;
}

static int dispatch(struct xs_request *request)
{
    uint32_t type = request->header.type;
    const struct row *row = type < XS_TYPE_COUNT ? &rows[type] : NULL;
    struct xs_transaction *tx = request->conn->transactions;

    if (row == NULL || row->handler == NULL)
        return -ENOSYS;
    if (row->privileged && !request->conn->privileged)
        return -EACCES;
    if (request->header.tx_id != 0 && !row->ignores_transaction) {
        while (tx != NULL && tx->id != request->header.tx_id)
            tx = tx->next;
        if (tx == NULL)
            return -ENOENT;
        tx->memory_max = tx->memory + memory_left(request->conn);
        request->tree.tx = tx;
    }
    return row->handler(request);
}

/* What the transaction's records take more than before counts as its domain's. */
static void charge_transaction(struct xs_request *request, size_t before)
{
    if (request->tree.tx != NULL)
        xs_domain_charge(&request->engine->domains, request->conn->domain,
                         XS_QUOTA_MEMORY,
                         (int64_t)(request->tree.tx->memory - before));
}

static size_t transactions_memory(const struct xs_conn *conn, uint32_t id)
{
    const struct xs_transaction *tx = conn->transactions;

    while (tx != NULL && tx->id != id)
        tx = tx->next;
    return tx == NULL ? 0 : tx->memory;
}

static void serve_one(struct xs_request *request)
{
    struct xs_engine *engine = request->engine;
    struct xs_conn *conn = request->conn;
    uint64_t generation = engine->store.generation;
    size_t memory = request->header.tx_id == 0
                        ? 0
                        : transactions_memory(conn, request->header.tx_id);
    int error;

    if (engine->trace != NULL)
        engine->trace(engine->trace_ctx, conn, XS_TRACE_REQUEST,
                      &request->header, request->payload);
    if (!conn->privileged)
        request->cause = xs_cause_make(engine, conn->domain);
    error = dispatch(request);
    charge_transaction(request, memory);
    if (request->header.tx_id == 0 && engine->transactions > 0 &&
        engine->store.generation > generation)
        xs_request_wrote(request, engine->store.generation - generation);
    xs_store_commit(&engine->store);
    if (error == XS_LATER) {
        conn->waiting = true;
        conn->asked = request->header;
    } else if (error != 0) {
        const char *name = xs_error_name(-error);

        if (xs_conn_post(engine, conn, request->cause, XS_ERROR,
                         request->header.req_id, request->header.tx_id, name,
                         strlen(name) + 1) != 0)
            xs_conn_drop(engine, conn);
    }
    xs_cause_unref(engine, request->cause);
    if (!conn->privileged)
        xs_engine_check_memory(engine, conn->domain);
    if (engine->stalled != NULL)
        xs_engine_check_stalled(engine);
    if (engine->store.generation > generation)
        xs_engine_fold_journal(engine);
}

unsigned int xs_conn_serve(struct xs_engine *engine, struct xs_conn *conn,
                           unsigned int budget)
{
    unsigned int served = 0;

    while (served < budget && xs_conn_ready(engine, conn)) {
        struct xs_request request = {
            .engine = engine,
            .conn = conn,
            .tree = {.store = &engine->store},
        };
        const uint8_t *payload;

        xs_conn_next(conn, &request.header, &payload);
        request.payload = (const char *)payload;
        xs_conn_consume(conn, &request.header);
        serve_one(&request);
        served++;
    }
    if (xs_conn_keep_input(engine, conn) != 0)
        xs_conn_drop(engine, conn);
    return served;
}
