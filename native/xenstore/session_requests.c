/* SPDX-License-Identifier: BSD-2-Clause */
/* The requests on what a connection holds: its watches and its transactions. */
#include <errno.h>
#include <string.h>

#include "request.h"

enum { DEPTH_MAX = INT32_MAX };

static int watch_depth(const struct xs_request *request, unsigned int strings,
                       const char *text, uint32_t *depth)
{
    uint32_t features =
        xs_engine_features(request->engine, request->conn->domid);
    uint64_t number;

    *depth = XS_NO_DEPTH;
    if (strings == 2)
        return 0;
    if (strings != 3 || !(features & XS_FEATURE_WATCH_DEPTH) ||
        xs_number(text, DEPTH_MAX, &number) != 0)
        return -EINVAL;
    *depth = (uint32_t)number;
    return 0;
}

int xs_watch_request(struct xs_request *request)
{
    struct xs_engine *engine = request->engine;
    struct xs_conn *conn = request->conn;
    struct xs_domain *domain = conn->domain;
    const char *string[3];
    unsigned int strings = xs_strings(request, string, 3);
    struct xs_watch *watch;
    struct xs_path path;
    size_t token_len;
    uint32_t depth;
    int error = strings < 2 ? -EINVAL
                            : watch_depth(request, strings, string[2], &depth);

    if (error == 0)
        error = xs_request_path(request, string[0], true, &path);
    if (error != 0)
        return error;
    token_len = strlen(string[1]);
    if (xs_watch_find(&engine->watches, conn, &path, string[1], token_len))
        return -EEXIST;
    if (!conn->privileged &&
        xs_quota_exceeded(domain->used[XS_QUOTA_WATCHES] + 1,
                          domain->quota[XS_QUOTA_WATCHES]))
        return -ENOSPC;
    watch = xs_watch_add(&engine->watches, conn, &path, string[1], token_len,
                         depth);
    if (watch == NULL)
        return -ENOMEM;
    xs_domain_charge(&engine->domains, domain, XS_QUOTA_WATCHES, 1);
    xs_domain_charge(&engine->domains, domain, XS_QUOTA_MEMORY,
                     (int64_t)xs_watch_memory(watch));
    error = xs_reply_ok(request);
    /* Not linked to the request: who sets a watch need not have read it. */
    if (error == 0)
        xs_watch_report(engine, NULL, watch, path.text, path.len);
    return error;
}

static void end_watch(struct xs_engine *engine, struct xs_watch *watch)
{
    struct xs_domain *domain = watch->conn->domain;

    xs_domain_charge(&engine->domains, domain, XS_QUOTA_WATCHES, -1);
    xs_domain_charge(&engine->domains, domain, XS_QUOTA_MEMORY,
                     -(int64_t)xs_watch_memory(watch));
    xs_watch_remove(&engine->watches, watch);
}

int xs_unwatch_request(struct xs_request *request)
{
    struct xs_engine *engine = request->engine;
    const char *string[2];
    struct xs_watch *watch;
    struct xs_path path;
    int error;

    if (xs_strings(request, string, 2) != 2)
        return -EINVAL;
    error = xs_request_path(request, string[0], true, &path);
    if (error != 0)
        return error;
    watch = xs_watch_find(&engine->watches, request->conn, &path, string[1],
                          strlen(string[1]));
    if (watch == NULL)
        return -ENOENT;
    end_watch(engine, watch);
    return xs_reply_ok(request);
}

/* An id that none of the open transactions has; never 0. */
static uint32_t next_tx_id(struct xs_conn *conn)
{
    const struct xs_transaction *tx;

    do {
        conn->last_tx_id++;
        if (conn->last_tx_id == 0)
            conn->last_tx_id = 1;
        for (tx = conn->transactions; tx != NULL; tx = tx->next)
            if (tx->id == conn->last_tx_id)
                break;
    } while (tx != NULL);
    return conn->last_tx_id;
}

int xs_transaction_start(struct xs_request *request)
{
    struct xs_engine *engine = request->engine;
    struct xs_conn *conn = request->conn;
    struct xs_domain *domain = conn->domain;
    struct xs_transaction *tx;

    if (request->tree.tx != NULL)
        return -EBUSY;
    if (!conn->privileged &&
        xs_quota_exceeded(domain->used[XS_QUOTA_TRANSACTIONS] + 1,
                          domain->quota[XS_QUOTA_TRANSACTIONS]))
        return -ENOSPC;
    tx = xs_transaction_make(
        next_tx_id(conn),
        conn->privileged ? 0 : domain->quota[XS_QUOTA_TRANSACTION_NODES]);
    if (tx == NULL)
        return -ENOMEM;
    tx->next = conn->transactions;
    conn->transactions = tx;
    engine->transactions++;
    xs_domain_charge(&engine->domains, domain, XS_QUOTA_TRANSACTIONS, 1);
    xs_domain_charge(&engine->domains, domain, XS_QUOTA_MEMORY,
                     (int64_t)tx->memory);
    return xs_reply_number(request, tx->id);
}

/* Take a transaction from its connection. */
static void unlink_transaction(struct xs_engine *engine, struct xs_conn *conn,
                               struct xs_transaction *tx)
{
    struct xs_transaction **link = &conn->transactions;

    while (*link != tx)
        link = &(*link)->next;
    *link = tx->next;
    engine->transactions--;
    xs_domain_charge(&engine->domains, conn->domain, XS_QUOTA_TRANSACTIONS, -1);
    xs_domain_charge(&engine->domains, conn->domain, XS_QUOTA_MEMORY,
                     -(int64_t)tx->memory);
}

static void end_transaction(struct xs_engine *engine, struct xs_conn *conn,
                            struct xs_transaction *tx)
{
    unlink_transaction(engine, conn, tx);
    xs_transaction_free(tx);
}

/* Other transactions may have used up the quota since the nodes were created. */
static int check_nodes(const struct xs_request *request,
                       const struct xs_transaction *tx)
{
    const struct xs_conn *conn = request->conn;

    if (!conn->privileged && tx->created &&
        xs_transaction_owned(tx, conn->domid) > 0 &&
        xs_quota_exceeded(
            (uint64_t)xs_tree_owned(&request->tree, conn->domid),
            conn->domain->quota[XS_QUOTA_NODES]))
        return -ENOSPC;
    return 0;
}

static void fire_changes(struct xs_request *request,
                         const struct xs_transaction *tx)
{
    for (struct xs_record *r = tx->first; r != NULL; r = r->after) {
        const struct xs_node *now;

        if (!r->fire)
            continue;
        now = xs_store_find(&request->engine->store, r->path, r->path_len);
        if (now == NULL && r->seen_perms == NULL)
            continue; /* made and removed within */
        xs_watches_fire(request->engine, request->cause,
                        &(struct xs_change){
                            .path = r->path,
                            .len = r->path_len,
                            .perms = now == NULL ? NULL : now->perms,
                            .old_perms = r->seen_perms,
                            .exact = r->fire_exact,
                        });
    }
}

static int commit(struct xs_request *request, struct xs_transaction *tx)
{
    struct xs_engine *engine = request->engine;
    int error = tx->failed ? -ENOMEM : check_nodes(request, tx);

    if (error == 0)
        error = xs_transaction_commit(tx, &engine->store);
    if (error != 0)
        return error;
    if (engine->transactions > 1) /* others than this one */
        xs_request_wrote(request, 1);
    fire_changes(request, tx);
    return 0;
}

int xs_transaction_end(struct xs_request *request)
{
    struct xs_transaction *tx = request->tree.tx;
    const char *flag = xs_one_string(request);
    int error = 0;

    if (flag == NULL || (strcmp(flag, "T") != 0 && strcmp(flag, "F") != 0))
        return -EINVAL;
    if (tx == NULL)
        return -ENOENT;
    if (*flag == 'T')
        error = commit(request, tx);
    request->tree.tx = NULL;
    end_transaction(request->engine, request->conn, tx);
    return error != 0 ? error : xs_reply_ok(request);
}

void xs_conn_drop_session(struct xs_engine *engine, struct xs_conn *conn)
{
    while (conn->watches != NULL)
        end_watch(engine, conn->watches);
    while (conn->transactions != NULL)
        end_transaction(engine, conn, conn->transactions);
}

int xs_reset_watches(struct xs_request *request)
{
    request->tree.tx = NULL; /* it goes with the others (XSA-484) */
    xs_conn_drop_session(request->engine, request->conn);
    return xs_reply_ok(request);
}
