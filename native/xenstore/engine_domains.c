/* SPDX-License-Identifier: BSD-2-Clause */
/* Domains come and go: what that means for nodes, rights and connections. */
#include <errno.h>
#include <stdlib.h>

#include "state.h"

static const char introduce_domain[] = "@introduceDomain";
static const char release_domain[] = "@releaseDomain";

struct xs_domain *xs_engine_domain(struct xs_engine *engine, uint16_t domid)
{
    struct xs_domain *domain = xs_domain_get(&engine->domains, domid);

    if (domain != NULL && domid != 0 && !domain->sharing) {
        domain->sharing = true;
        xs_rate_join(&engine->rate, domain, engine->now_ms);
    }
    return domain;
}

int xs_engine_domain_created(struct xs_engine *engine, uint16_t domid)
{
    struct xs_domain *domain = xs_engine_domain(engine, domid);
    int error;

    if (domain == NULL)
        return -ENOMEM;
    domain->exists = true;
    error = xs_engine_note_domain(engine, domain);
    xs_store_commit(&engine->store);
    return error;
}

uint32_t xs_engine_features(const struct xs_engine *engine, uint16_t domid)
{
    const struct xs_domain *domain = xs_domain_find(&engine->domains, domid);

    return domain != NULL && domain->has_features ? domain->features
                                                  : XS_FEATURES;
}

bool xs_engine_introduced(const struct xs_engine *engine, uint16_t domid)
{
    const struct xs_domain *domain = xs_domain_find(&engine->domains, domid);

    return domain != NULL && domain->introduced;
}

size_t xs_engine_nodes(const struct xs_engine *engine)
{
    return engine->store.nodes.count;
}

size_t xs_engine_domains(const struct xs_engine *engine, uint16_t *domids,
                         size_t max)
{
    size_t count = 0;

    for (uint32_t domid = 0; domid <= UINT16_MAX; domid++) {
        if (xs_domain_find(&engine->domains, (uint16_t)domid) == NULL)
            continue;
        if (count < max)
            domids[count] = (uint16_t)domid;
        count++;
    }
    return count;
}

void xs_engine_introduce(struct xs_engine *engine, uint16_t domid)
{
    struct xs_domain *domain = xs_engine_domain(engine, domid);
    bool again;

    if (domain == NULL)
        return;
    again = domain->introduced;
    domain->exists = domain->introduced = true;
    xs_engine_note_domain(engine, domain);
    xs_store_commit(&engine->store);
    if (!again)
        xs_watches_fire_special(engine, NULL, introduce_domain, domid);
}

/* The domain's nodes that are not below another one of its own. */
static int find_tops(struct xs_engine *engine, uint16_t domid,
                     struct xs_nodes *tops)
{
    struct xs_tree tree = {.store = &engine->store};
    struct xs_node *root = xs_store_find(&engine->store, "/", 1);
    struct xs_nodes stack = {0};
    struct xs_nodes own = {0};
    int error;

    error = root == NULL ? 0 : xs_tree_children(&tree, root, &stack);
    while (error == 0 && stack.count > 0) {
        struct xs_node *node = stack.node[--stack.count];

        if (xs_node_owner(node) != domid)
            error = xs_tree_children(&tree, node, &stack);
        else
            error = xs_nodes_append(&own, node);
    }
    free(stack.node);
    *tops = own;
    return error;
}

static void remove_subtree(struct xs_engine *engine, struct xs_node *top)
{
    struct xs_tree tree = {.store = &engine->store};
    struct xs_nodes nodes;

    if (xs_tree_list(&tree, top, true, &nodes) != 0)
        return;
    /* While permissions can still be seen. */
    for (size_t i = 0; i < nodes.count; i++)
        xs_watches_fire(engine, NULL,
                        &(struct xs_change){
                            .path = nodes.node[i]->path,
                            .len = nodes.node[i]->path_len,
                            .perms = nodes.node[i]->perms,
                            .exact = nodes.node[i] != top,
                        });
    xs_tree_remove(&tree, &nodes);
    free(nodes.node);
}

static void remove_nodes(struct xs_engine *engine,
                         const struct xs_domain *domain)
{
    struct xs_nodes tops;

    if (domain->used[XS_QUOTA_NODES] == 0)
        return;
    if (find_tops(engine, domain->domid, &tops) == 0)
        for (size_t i = 0; i < tops.count; i++)
            remove_subtree(engine, tops.node[i]);
    free(tops.node);
}

/* Its domid may be used again, by a domain without its rights (XSA-322). */
static void remove_rights(struct xs_engine *engine, uint16_t domid)
{
    struct xs_store *store = &engine->store;
    struct xs_tree tree = {.store = store};

    for (struct xs_node *node = xs_table_next(&store->nodes, NULL);
         node != NULL; node = xs_table_next(&store->nodes, node)) {
        struct xs_perms *perms;

        if (!xs_perms_name(node->perms, domid))
            continue;
        perms = xs_perms_without(node->perms, domid);
        if (perms == NULL)
            continue;
        xs_tree_set_perms(&tree, node, perms);
        xs_perms_unref(perms);
    }
    for (struct xs_conn *conn = engine->conns; conn; conn = conn->next)
        for (struct xs_transaction *tx = conn->transactions; tx; tx = tx->next)
            xs_transaction_forget_domain(tx, domid);
}

static void remove_targets(struct xs_engine *engine, uint16_t domid)
{
    for (uint32_t stub = 0; stub <= UINT16_MAX; stub++) {
        struct xs_domain *domain =
            xs_domain_find(&engine->domains, (uint16_t)stub);

        if (domain != NULL && domain->target == domid) {
            domain->target = XS_NO_DOMID;
            xs_engine_note_domain(engine, domain);
        }
    }
}

static void unstall(struct xs_engine *engine, struct xs_domain *domain)
{
    struct xs_domain **link = &engine->stalled;

    while (*link != NULL && *link != domain)
        link = &(*link)->stalled_next;
    if (*link == domain)
        *link = domain->stalled_next;
}

void xs_engine_domain_dead(struct xs_engine *engine, uint16_t domid)
{
    struct xs_domain *domain = xs_domain_find(&engine->domains, domid);
    bool introduced;

    if (domain == NULL || domid == 0)
        return;
    introduced = domain->introduced;
    for (struct xs_conn *conn = domain->conns; conn; conn = conn->kin_next)
        xs_conn_drop(engine, conn);
    remove_nodes(engine, domain);
    remove_rights(engine, domid);
    remove_targets(engine, domid);
    if (domain->sharing)
        xs_rate_leave(&engine->rate, domain);
    unstall(engine, domain);
    xs_engine_note_forget(engine, domid);
    xs_domain_forget(&engine->domains, domain);
    xs_store_commit(&engine->store);
    if (introduced)
        xs_watches_fire_special(engine, NULL, release_domain, domid);
}

void xs_engine_check_stalled(struct xs_engine *engine)
{
    struct xs_domain *domain = engine->stalled;

    while (domain != NULL) {
        struct xs_domain *next = domain->stalled_next;

        xs_engine_check_memory(engine, domain);
        if (!domain->hard_reported) {
            unstall(engine, domain);
            for (struct xs_conn *conn = domain->conns; conn;
                 conn = conn->kin_next)
                xs_conn_wake(engine, conn);
        }
        domain = next;
    }
}

void xs_engine_check_memory(struct xs_engine *engine, struct xs_domain *domain)
{
    uint32_t used = domain->used[XS_QUOTA_MEMORY];
    bool hard = xs_quota_exceeded(used, domain->quota[XS_QUOTA_MEMORY]);
    bool soft = xs_quota_exceeded(used, domain->quota[XS_QUOTA_SOFT_MEMORY]);
    const char *what = NULL;

    if (hard && !domain->hard_reported)
        what = "exceeds hard memory quota, Xenstore interface to domain stalled";
    else if (!hard && domain->hard_reported)
        what = "below hard memory quota again";
    else if (soft && !domain->soft_reported)
        what = "exceeds soft memory quota";
    else if (!soft && domain->soft_reported)
        what = "below soft memory quota again";
    if (hard && !domain->hard_reported) {
        domain->stalled_next = engine->stalled;
        engine->stalled = domain;
    }
    domain->hard_reported = hard;
    domain->soft_reported = soft;
    if (what != NULL)
        xs_engine_log_domain(engine, domain, XS_LOG_MEMORY, "Domain %u %s",
                             (unsigned int)domain->domid, what);
}
