/* SPDX-License-Identifier: BSD-2-Clause */
/* What the journal holds, out of it and into it. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "journal.h"
#include "state.h"

enum { FOLD_FROM = 1024 * 1024 }; /* bytes; a shorter journal is left alone */

struct domain_note {
    uint16_t domid;
    uint16_t target;
    uint8_t exists;
    uint8_t introduced;
    uint8_t has_features;
    uint8_t reserved;
    uint32_t features;
    uint32_t own_quotas;
    uint32_t quota[XS_QUOTAS];
};

struct quota_note {
    uint32_t quota;
    uint32_t value;
};

static int note(struct xs_journal *journal, enum xs_note kind,
                const void *data, size_t len)
{
    int error;

    if (journal == NULL)
        return 0;
    error = xs_journal_reserve(journal, xs_journal_room(0, 0, len));
    if (error == 0)
        xs_journal_note(journal, kind, data, len);
    return error;
}

static int note_domain(struct xs_journal *journal,
                       const struct xs_domain *domain)
{
    struct domain_note data = {
        .domid = domain->domid,
        .target = domain->target,
        .exists = domain->exists,
        .introduced = domain->introduced,
        .has_features = domain->has_features,
        .features = domain->features,
        .own_quotas = domain->own_quotas,
    };

    memcpy(data.quota, domain->quota, sizeof(data.quota));
    return note(journal, XS_NOTE_DOMAIN, &data, sizeof(data));
}

int xs_engine_note_domain(struct xs_engine *engine,
                          const struct xs_domain *domain)
{
    return note_domain(engine->store.journal, domain);
}

int xs_engine_note_forget(struct xs_engine *engine, uint16_t domid)
{
    uint32_t data = domid;

    return note(engine->store.journal, XS_NOTE_FORGET, &data, sizeof(data));
}

int xs_engine_note_quota(struct xs_engine *engine, enum xs_quota quota,
                         uint32_t value)
{
    struct quota_note data = {.quota = quota, .value = value};

    return note(engine->store.journal, XS_NOTE_DEFAULT_QUOTA, &data,
                sizeof(data));
}

/* ---- out of the journal ---- */

static void saw_generation(struct xs_store *store, uint64_t generation)
{
    if (generation > store->generation)
        store->generation = generation;
}

static struct xs_node *replace(struct xs_store *store, struct xs_node *node,
                               struct xs_perms *perms, const void *value,
                               size_t value_len)
{
    int error;

    xs_store_begin_edit(store, node);
    error = xs_node_set_value(node, value, value_len);
    if (error == 0)
        xs_node_set_perms(node, perms);
    xs_store_end_edit(store, node);
    return error == 0 ? node : NULL;
}

static struct xs_node *make(struct xs_store *store, const char *path,
                            size_t path_len, struct xs_perms *perms,
                            const void *value, size_t value_len)
{
    struct xs_node *node =
        xs_node_make(path, path_len, xs_path_hash(path, path_len), perms, value,
                     value_len);
    struct xs_node *parent = node == NULL ? NULL : xs_store_parent(store, node);
    int error = 0;

    if (node == NULL)
        return NULL;
    if (parent != NULL) {
        xs_store_begin_edit(store, parent);
        error = xs_node_add_child(parent, xs_path_name(node->path, path_len));
        xs_store_end_edit(store, parent);
    }
    if (error != 0 || (parent == NULL && path[0] != '@' && path_len > 1)) {
        xs_node_free(node);
        return NULL;
    }
    xs_store_add(store, node);
    return node;
}

static bool is_path(const char *path, size_t len)
{
    struct xs_path parsed;

    return len > 0 && (path[0] == '/' || path[0] == '@') &&
           xs_path_parse(&parsed, path, len, 0, true) == 0;
}

static int on_put(void *ctx, const char *path, size_t path_len,
                  uint64_t generation, const struct xs_perm *entry,
                  uint32_t count, const void *value, size_t value_len)
{
    struct xs_engine *engine = ctx;
    struct xs_store *store = &engine->store;
    struct xs_perms *perms;
    struct xs_node *node;

    if (count == 0 || !is_path(path, path_len))
        return -EILSEQ;
    perms = xs_perms_make(entry, count);
    if (perms == NULL)
        return -ENOMEM;
    node = xs_store_find(store, path, path_len);
    node = node != NULL
               ? replace(store, node, perms, value, value_len)
               : make(store, path, path_len, perms, value, value_len);
    xs_perms_unref(perms);
    if (node == NULL)
        return -EILSEQ;
    node->generation = generation;
    saw_generation(store, generation);
    return 0;
}

static int on_touch(void *ctx, const char *path, size_t path_len,
                    uint64_t generation)
{
    struct xs_engine *engine = ctx;
    struct xs_node *node = xs_store_find(&engine->store, path, path_len);

    if (node == NULL)
        return -EILSEQ;
    node->generation = generation;
    saw_generation(&engine->store, generation);
    return 0;
}

/* What is gone already went with its directory. */
static int on_drop(void *ctx, const char *path, size_t path_len)
{
    struct xs_engine *engine = ctx;
    struct xs_tree tree = {.store = &engine->store};
    struct xs_node *node = xs_store_find(&engine->store, path, path_len);
    struct xs_nodes nodes;
    int error;

    if (node == NULL)
        return 0;
    if (xs_path_is_root(path_len) || path[0] != '/')
        return -EILSEQ;
    error = xs_tree_list(&tree, node, true, &nodes);
    if (error != 0)
        return error;
    error = xs_tree_remove(&tree, &nodes);
    free(nodes.node);
    return error;
}

static int on_domain(struct xs_engine *engine, const struct domain_note *data)
{
    struct xs_domain *domain = xs_engine_domain(engine, data->domid);

    if (domain == NULL)
        return -ENOMEM;
    domain->target = data->target;
    domain->exists = data->exists;
    domain->introduced = data->introduced;
    domain->has_features = data->has_features;
    domain->features = data->features & XS_FEATURES;
    domain->own_quotas = data->own_quotas;
    for (unsigned int i = 0; i < XS_QUOTAS; i++)
        if (domain->own_quotas & 1u << i)
            domain->quota[i] = data->quota[i];
    return 0;
}

static void on_forget(struct xs_engine *engine, uint32_t domid)
{
    struct xs_domain *domain =
        domid > UINT16_MAX
            ? NULL
            : xs_domain_find(&engine->domains, (uint16_t)domid);

    if (domain == NULL || domid == 0)
        return;
    if (domain->sharing)
        xs_rate_leave(&engine->rate, domain);
    xs_domain_forget(&engine->domains, domain);
}

static int on_note(void *ctx, uint32_t kind, const void *data, size_t len)
{
    struct xs_engine *engine = ctx;
    struct domain_note domain;
    struct quota_note quota;
    uint32_t domid;

    if (kind == XS_NOTE_DOMAIN && len == sizeof(domain)) {
        memcpy(&domain, data, sizeof(domain));
        return on_domain(engine, &domain);
    }
    if (kind == XS_NOTE_FORGET && len == sizeof(domid)) {
        memcpy(&domid, data, sizeof(domid));
        on_forget(engine, domid);
        return 0;
    }
    if (kind == XS_NOTE_DEFAULT_QUOTA && len == sizeof(quota)) {
        memcpy(&quota, data, sizeof(quota));
        if (quota.quota < XS_QUOTAS) {
            xs_domains_set_quota(&engine->domains, quota.quota, quota.value);
            return 0;
        }
    }
    return -EILSEQ;
}

/* ---- into the journal ---- */

static int write_nodes(struct xs_journal *journal, struct xs_node **node,
                       size_t count)
{
    int error = 0;

    for (size_t i = 0; error == 0 && i < count; i++) {
        const struct xs_node *n = node[i];

        error = xs_journal_reserve(
            journal,
            xs_journal_room(n->path_len, n->perms->count, n->value_len));
        if (error == 0)
            xs_journal_put(journal, n->path, n->path_len, n->generation,
                           n->perms->entry, n->perms->count, n->value,
                           n->value_len);
    }
    return error;
}

static int write_all_nodes(struct xs_engine *engine,
                           struct xs_journal *journal)
{
    struct xs_store *store = &engine->store;
    struct xs_tree tree = {.store = store};
    struct xs_node *root = xs_store_find(store, "/", 1);
    struct xs_nodes nodes;
    int error = xs_tree_list(&tree, root, false, &nodes);

    if (error != 0)
        return error;
    for (struct xs_node *node = xs_table_next(&store->nodes, NULL);
         error == 0 && node != NULL; node = xs_table_next(&store->nodes, node))
        if (node->path[0] == '@')
            error = xs_nodes_append(&nodes, node);
    if (error == 0)
        error = write_nodes(journal, nodes.node, nodes.count);
    free(nodes.node);
    return error;
}

static int write_all(struct xs_engine *engine, struct xs_journal *journal)
{
    int error = write_all_nodes(engine, journal);

    for (unsigned int i = 0; error == 0 && i < XS_QUOTAS; i++) {
        struct quota_note data = {i, engine->domains.quota[i]};

        error = note(journal, XS_NOTE_DEFAULT_QUOTA, &data, sizeof(data));
    }
    for (uint32_t domid = 0; error == 0 && domid <= UINT16_MAX; domid++) {
        const struct xs_domain *domain =
            xs_domain_find(&engine->domains, (uint16_t)domid);

        if (domain != NULL)
            error = note_domain(journal, domain);
    }
    return error;
}

int xs_engine_use_journal(struct xs_engine *engine, struct xs_journal *journal)
{
    static const struct xs_journal_sink sink = {
        .put = on_put, .touch = on_touch, .drop = on_drop, .note = on_note};
    struct xs_store *store = &engine->store;
    int error;

    if (!xs_journal_empty(journal)) {
        /* The first nodes are in it as well, and may have changed since. */
        xs_table_clear(&store->nodes);
        if (xs_table_init(&store->nodes) != 0) {
            xs_journal_close(journal);
            return -ENOMEM;
        }
        xs_domain_find(&engine->domains, 0)->used[XS_QUOTA_NODES] = 0;
        xs_domain_find(&engine->domains, 0)->used[XS_QUOTA_MEMORY] = 0;
        store->live_bytes = 0;
        error = xs_journal_replay(journal, &sink, engine);
        if (error == 0 && !xs_store_is_consistent(store))
            error = -EILSEQ;
    } else {
        error = write_all(engine, journal);
        xs_journal_commit(journal);
    }
    store->journal = journal;
    return error;
}

void xs_engine_fold_journal(struct xs_engine *engine)
{
    struct xs_store *store = &engine->store;
    struct xs_journal *fresh;
    uint64_t size;

    if (store->journal == NULL)
        return;
    size = xs_journal_size(store->journal);
    if (size < FOLD_FROM || size < 2 * store->live_bytes ||
        size < engine->fold_from)
        return;
    engine->fold_from = 2 * size; /* if this fails, not with every write */
    if (xs_journal_rewrite(store->journal, &fresh) != 0)
        return;
    if (write_all(engine, fresh) != 0) {
        xs_journal_abandon(fresh);
        return;
    }
    if (xs_journal_replace(&store->journal, fresh) == 0)
        engine->fold_from = 0;
    else
        xs_engine_log(engine, XS_LOG_PRINT,
                      "XenStore's journal cannot be replaced by a shorter one");
}
