/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The nodes that everybody sees, and the journal that they outlive the process in.
 * The permissions of the special watch names are kept as nodes without a parent.
 *
 * A change gives a node the next generation; generations are never used twice, which
 * is what transactions rely on.
 */
#ifndef XV_XENSTORE_STORE_H
#define XV_XENSTORE_STORE_H

#include "domain.h"
#include "node.h"

struct xs_journal;

struct xs_store {
    struct xs_table nodes;
    struct xs_domains *domains;
    struct xs_journal *journal; /* NULL: nothing is kept */
    uint64_t generation;        /* the last one used */
    uint64_t live_bytes;        /* of journal that the nodes need, about */
};

int xs_store_init(struct xs_store *store, struct xs_domains *domains);
void xs_store_clear(struct xs_store *store);

/* The nodes that a store begins with. */
int xs_store_first_nodes(struct xs_store *store);

static inline struct xs_node *xs_store_find(const struct xs_store *store,
                                            const char *path, size_t len)
{
    return xs_table_find(&store->nodes, path, len, xs_path_hash(path, len));
}

/* The node above, or NULL for the root and special names. */
struct xs_node *xs_store_parent(const struct xs_store *store,
                                const struct xs_node *node);

/* Put a node into the table, or take one out, with all that is counted. */
void xs_store_add(struct xs_store *store, struct xs_node *node);
void xs_store_remove(struct xs_store *store, struct xs_node *node);

/*
 * Around a change of a node in place: what it counts is taken off, and on again. The
 * second writes it to the journal.
 */
void xs_store_begin_edit(struct xs_store *store, const struct xs_node *node);
void xs_store_end_edit(struct xs_store *store, const struct xs_node *node);

/* Write a node, its generation alone, or its end with all below, to the journal. */
void xs_store_log_put(struct xs_store *store, const struct xs_node *node);
void xs_store_log_touch(struct xs_store *store, const struct xs_node *node);
void xs_store_log_drop(struct xs_store *store, const struct xs_node *node);

/* See to it that a change of @bytes of paths and values can be logged; -ENOSPC. */
int xs_store_reserve(struct xs_store *store, size_t bytes, size_t records);

/* What was changed is true from now on. */
void xs_store_commit(struct xs_store *store);

#endif
