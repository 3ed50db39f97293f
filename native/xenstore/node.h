/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * A node, and a table of nodes by path: one lookup however deep a path reaches.
 * No permission, quota or watch is applied here.
 */
#ifndef XV_XENSTORE_NODE_H
#define XV_XENSTORE_NODE_H

#include <stdint.h>

#include "path.h"
#include "perms.h"

struct xs_node {
    struct xs_node *next; /* in its bucket */
    struct xs_perms *perms;
    char *children; /* names, oldest first, each ended by a NUL */
    uint8_t *value;
    uint64_t generation;
    uint32_t hash;
    uint32_t children_len;
    uint32_t children_room;
    uint32_t value_len;
    uint16_t path_len;
    char path[]; /* ends with a NUL */
};

/* A node of its own without children; it takes its own reference of @perms. */
struct xs_node *xs_node_make(const char *path, size_t path_len, uint32_t hash,
                             struct xs_perms *perms, const void *value,
                             size_t value_len);
struct xs_node *xs_node_copy(const struct xs_node *node);
void xs_node_free(struct xs_node *node);

static inline uint16_t xs_node_owner(const struct xs_node *node)
{
    return node->perms->entry[0].domid;
}

/* What the node counts for a memory quota, in bytes. */
size_t xs_node_memory(const struct xs_node *node);

/* Each returns 0 or -ENOMEM, with the node as it was. */
int xs_node_set_value(struct xs_node *node, const void *value, size_t len);
int xs_node_add_child(struct xs_node *node, const char *name);

/* Takes its own reference of @perms. */
void xs_node_set_perms(struct xs_node *node, struct xs_perms *perms);

bool xs_node_has_child(const struct xs_node *node, const char *name);

/* Whether there was such a child. */
bool xs_node_remove_child(struct xs_node *node, const char *name);

/* ---- a table ---- */

struct xs_table {
    struct xs_node **bucket;
    uint32_t mask;
    uint32_t count;
};

int xs_table_init(struct xs_table *table);

/* Frees the nodes in it. */
void xs_table_clear(struct xs_table *table);

struct xs_node *xs_table_find(const struct xs_table *table, const char *path,
                              size_t len, uint32_t hash);

/* The table owns the node, whose path must not be there yet. */
void xs_table_add(struct xs_table *table, struct xs_node *node);

/* The node is the caller's again. */
void xs_table_remove(struct xs_table *table, struct xs_node *node);

/* The first node, or the one after @node, in no order; NULL at the end. */
struct xs_node *xs_table_next(const struct xs_table *table,
                              const struct xs_node *node);

#endif
