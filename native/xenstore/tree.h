/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The nodes that a request works on: the store's, or a transaction's view of them.
 * No permission, quota or watch is applied here.
 */
#ifndef XV_XENSTORE_TREE_H
#define XV_XENSTORE_TREE_H

#include "transaction.h"

struct xs_tree {
    struct xs_store *store;
    struct xs_transaction *tx; /* NULL: the store itself */
};

/**
 * xs_tree_find() - Look up a node, which a transaction remembers.
 * @node:	The node or, if there is none, NULL (output); until the next change
 *
 * Return: 0; -ENOSPC when the transaction has seen too many; -ENOMEM.
 */
int xs_tree_find(const struct xs_tree *tree, const char *path, size_t len,
                 uint32_t hash, struct xs_node **node);

/* Each returns 0, -ENOMEM or -ENOSPC, with nothing changed then. */
int xs_tree_set_value(const struct xs_tree *tree, struct xs_node *node,
                      const void *value, size_t len);
int xs_tree_set_perms(const struct xs_tree *tree, struct xs_node *node,
                      struct xs_perms *perms);

/**
 * xs_tree_create() - Add a node, and what is missing between it and @above.
 * @above:	The nearest node above that exists
 * @perms:	Of every new node
 */
int xs_tree_create(const struct xs_tree *tree, const struct xs_path *path,
                   struct xs_node *above, struct xs_perms *perms,
                   const void *value, size_t value_len);

/* Nodes, as xs_tree_list() finds them; @node is malloc()ed. */
struct xs_nodes {
    struct xs_node **node;
    size_t count;
    size_t room;
};

int xs_nodes_append(struct xs_nodes *nodes, struct xs_node *node);

/**
 * xs_tree_list() - A node and all below it.
 * @up:		Each after those below it; otherwise each before them
 *
 * Without recursion: the depth is the client's choice (XSA-418).
 */
int xs_tree_list(const struct xs_tree *tree, struct xs_node *top, bool up,
                 struct xs_nodes *nodes);

/* Append a node's children to @nodes, in their order; 0, -ENOMEM, -ENOSPC. */
int xs_tree_children(const struct xs_tree *tree, const struct xs_node *node,
                     struct xs_nodes *nodes);

/* Drop what xs_tree_list() found, the top being last; they are gone on success. */
int xs_tree_remove(const struct xs_tree *tree, struct xs_nodes *nodes);

/* How many nodes the domain owns in this view. */
int32_t xs_tree_owned(const struct xs_tree *tree, uint16_t domid);

/* Whether every child is there, every node has its directory, and counts are right. */
bool xs_store_is_consistent(struct xs_store *store);

#endif
