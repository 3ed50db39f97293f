/* SPDX-License-Identifier: BSD-2-Clause */
#include <errno.h>
#include <string.h>

#include "journal.h"
#include "store.h"

int xs_store_init(struct xs_store *store, struct xs_domains *domains)
{
    memset(store, 0, sizeof(*store));
    store->domains = domains;
    return xs_table_init(&store->nodes);
}

void xs_store_clear(struct xs_store *store)
{
    xs_table_clear(&store->nodes);
    if (store->journal != NULL)
        xs_journal_close(store->journal);
}

int xs_store_first_nodes(struct xs_store *store)
{
    static const struct xs_perm none[] = {{.domid = 0}};
    static const struct xs_perm any[] = {
        {.domid = 0}, {.domid = XS_DOMID_ANY, .access = XS_PERM_READ}};
    static const struct {
        const char *path;
        const char *child;
        bool readable;
    } first[] = {
        {"/", "tool", false},
        {"/tool", "xenstored", false},
        {"/tool/xenstored", NULL, false},
        {"@introduceDomain", NULL, false},
        {"@releaseDomain", NULL, true},
    };

    for (size_t i = 0; i < sizeof(first) / sizeof(first[0]); i++) {
        size_t len = strlen(first[i].path);
        struct xs_perms *perms =
            first[i].readable ? xs_perms_make(any, 2) : xs_perms_make(none, 1);
        struct xs_node *node;

        if (perms == NULL)
            return -ENOMEM;
        node = xs_node_make(first[i].path, len,
                            xs_path_hash(first[i].path, len), perms, NULL, 0);
        xs_perms_unref(perms);
        if (node == NULL)
            return -ENOMEM;
        if (first[i].child != NULL &&
            xs_node_add_child(node, first[i].child) != 0) {
            xs_node_free(node);
            return -ENOMEM;
        }
        node->generation = ++store->generation;
        xs_store_add(store, node);
    }
    return 0;
}

struct xs_node *xs_store_parent(const struct xs_store *store,
                                const struct xs_node *node)
{
    size_t len = xs_path_parent_len(node->path, node->path_len);

    if (len == 0 || node->path[0] != '/')
        return NULL;
    return xs_store_find(store, node->path, len);
}

static uint64_t journal_bytes(const struct xs_node *node)
{
    return xs_journal_room(node->path_len, node->perms->count,
                           node->value_len);
}

static void count(struct xs_store *store, const struct xs_node *node, int sign)
{
    uint16_t owner = xs_node_owner(node);

    xs_charge(store->domains, owner, XS_QUOTA_NODES, sign);
    xs_charge(store->domains, owner, XS_QUOTA_MEMORY,
              sign * (int64_t)xs_node_memory(node));
    store->live_bytes += (uint64_t)sign * journal_bytes(node);
}

void xs_store_add(struct xs_store *store, struct xs_node *node)
{
    xs_table_add(&store->nodes, node);
    count(store, node, 1);
}

void xs_store_remove(struct xs_store *store, struct xs_node *node)
{
    count(store, node, -1);
    xs_table_remove(&store->nodes, node);
    xs_node_free(node);
}

void xs_store_begin_edit(struct xs_store *store, const struct xs_node *node)
{
    count(store, node, -1);
}

void xs_store_end_edit(struct xs_store *store, const struct xs_node *node)
{
    count(store, node, 1);
}

void xs_store_log_put(struct xs_store *store, const struct xs_node *node)
{
    if (store->journal != NULL)
        xs_journal_put(store->journal, node->path, node->path_len,
                       node->generation, node->perms->entry,
                       node->perms->count, node->value, node->value_len);
}

void xs_store_log_touch(struct xs_store *store, const struct xs_node *node)
{
    if (store->journal != NULL)
        xs_journal_touch(store->journal, node->path, node->path_len,
                         node->generation);
}

void xs_store_log_drop(struct xs_store *store, const struct xs_node *node)
{
    if (store->journal != NULL)
        xs_journal_drop(store->journal, node->path, node->path_len);
}

int xs_store_reserve(struct xs_store *store, size_t bytes, size_t records)
{
    if (store->journal == NULL)
        return 0;
    return xs_journal_reserve(store->journal,
                              bytes + records * xs_journal_room(0, 0, 0));
}

void xs_store_commit(struct xs_store *store)
{
    if (store->journal != NULL)
        xs_journal_commit(store->journal);
}
