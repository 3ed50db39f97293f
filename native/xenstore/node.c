/* SPDX-License-Identifier: BSD-2-Clause */
#define _GNU_SOURCE /* memmem */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "node.h"

enum { FIRST_BUCKETS = 64, FIRST_CHILDREN_ROOM = 32 };

/* What malloc takes beside the bytes asked for, about. */
enum { ALLOCATION = 16 };

struct xs_node *xs_node_make(const char *path, size_t path_len, uint32_t hash,
                             struct xs_perms *perms, const void *value,
                             size_t value_len)
{
    struct xs_node *node = calloc(1, sizeof(*node) + path_len + 1);

    if (node == NULL)
        return NULL;
    memcpy(node->path, path, path_len);
    node->path_len = (uint16_t)path_len;
    node->hash = hash;
    if (xs_node_set_value(node, value, value_len) != 0) {
        free(node);
        return NULL;
    }
    node->perms = xs_perms_ref(perms);
    return node;
}

struct xs_node *xs_node_copy(const struct xs_node *node)
{
    struct xs_node *copy = xs_node_make(node->path, node->path_len, node->hash,
                                        node->perms, node->value,
                                        node->value_len);

    if (copy == NULL)
        return NULL;
    copy->generation = node->generation;
    if (node->children_len > 0) {
        copy->children = malloc(node->children_len);
        if (copy->children == NULL) {
            xs_node_free(copy);
            return NULL;
        }
        memcpy(copy->children, node->children, node->children_len);
        copy->children_len = copy->children_room = node->children_len;
    }
    return copy;
}

void xs_node_free(struct xs_node *node)
{
    if (node == NULL)
        return;
    xs_perms_unref(node->perms);
    free(node->children);
    free(node->value);
    free(node);
}

size_t xs_node_memory(const struct xs_node *node)
{
    return sizeof(*node) + node->path_len + 1 + node->value_len +
           node->children_len + ALLOCATION;
}

int xs_node_set_value(struct xs_node *node, const void *value, size_t len)
{
    uint8_t *copy = NULL;

    if (len > 0) {
        copy = realloc(node->value, len);
        if (copy == NULL)
            return -ENOMEM;
        memcpy(copy, value, len);
    } else {
        free(node->value);
    }
    node->value = copy;
    node->value_len = (uint32_t)len;
    return 0;
}

int xs_node_add_child(struct xs_node *node, const char *name)
{
    size_t len = strlen(name) + 1;
    size_t needed = node->children_len + len;

    if (needed > node->children_room) {
        size_t room = node->children_room ? 2 * (size_t)node->children_room
                                          : FIRST_CHILDREN_ROOM;
        char *children;

        if (room < needed)
            room = needed;
        children = realloc(node->children, room);
        if (children == NULL)
            return -ENOMEM;
        node->children = children;
        node->children_room = (uint32_t)room;
    }
    memcpy(node->children + node->children_len, name, len);
    node->children_len = (uint32_t)needed;
    return 0;
}

void xs_node_set_perms(struct xs_node *node, struct xs_perms *perms)
{
    xs_perms_ref(perms);
    xs_perms_unref(node->perms);
    node->perms = perms;
}

/* Where @name stands among the children, or NULL. */
static char *find_child(const struct xs_node *node, const char *name,
                        size_t len)
{
    char *at = node->children;
    char *end = at + node->children_len;

    while (at != NULL && (size_t)(end - at) >= len) {
        char *found = memmem(at, (size_t)(end - at), name, len);

        if (found == NULL || found == node->children || found[-1] == '\0')
            return found;
        at = found + 1; /* it was the end of a longer name */
    }
    return NULL;
}

bool xs_node_has_child(const struct xs_node *node, const char *name)
{
    return find_child(node, name, strlen(name) + 1) != NULL;
}

bool xs_node_remove_child(struct xs_node *node, const char *name)
{
    size_t len = strlen(name) + 1;
    char *found = find_child(node, name, len);

    if (found == NULL)
        return false;
    memmove(found, found + len,
            node->children_len - (size_t)(found - node->children) - len);
    node->children_len -= (uint32_t)len;
    if (node->children_len == 0) {
        free(node->children);
        node->children = NULL;
        node->children_room = 0;
    }
    return true;
}

/* ---- the table ---- */

static struct xs_node **bucket_of(const struct xs_table *table, uint32_t hash)
{
    return &table->bucket[(hash ^ hash >> 16) & table->mask];
}

int xs_table_init(struct xs_table *table)
{
    table->bucket = calloc(FIRST_BUCKETS, sizeof(*table->bucket));
    table->mask = FIRST_BUCKETS - 1;
    table->count = 0;
    return table->bucket == NULL ? -ENOMEM : 0;
}

void xs_table_clear(struct xs_table *table)
{
    struct xs_node *node = xs_table_next(table, NULL);

    while (node != NULL) {
        struct xs_node *next = xs_table_next(table, node);

        xs_node_free(node);
        node = next;
    }
    free(table->bucket);
    memset(table, 0, sizeof(*table));
}

struct xs_node *xs_table_find(const struct xs_table *table, const char *path,
                              size_t len, uint32_t hash)
{
    struct xs_node *node = *bucket_of(table, hash);

    while (node != NULL &&
           (node->hash != hash || node->path_len != len ||
            memcmp(node->path, path, len) != 0))
        node = node->next;
    return node;
}

/* Without memory for more buckets the chains get longer, and nothing is lost. */
static void grow(struct xs_table *table)
{
    uint32_t buckets = 2 * (table->mask + 1);
    struct xs_table wider = {.mask = buckets - 1};
    struct xs_node *node, *next;

    wider.bucket = calloc(buckets, sizeof(*wider.bucket));
    if (wider.bucket == NULL)
        return;
    for (uint32_t i = 0; i <= table->mask; i++) {
        for (node = table->bucket[i]; node != NULL; node = next) {
            struct xs_node **bucket = bucket_of(&wider, node->hash);

            next = node->next;
            node->next = *bucket;
            *bucket = node;
        }
    }
    free(table->bucket);
    table->bucket = wider.bucket;
    table->mask = wider.mask;
}

void xs_table_add(struct xs_table *table, struct xs_node *node)
{
    struct xs_node **bucket;

    if (table->count > table->mask)
        grow(table);
    bucket = bucket_of(table, node->hash);
    node->next = *bucket;
    *bucket = node;
    table->count++;
}

void xs_table_remove(struct xs_table *table, struct xs_node *node)
{
    struct xs_node **at = bucket_of(table, node->hash);

    while (*at != node)
        at = &(*at)->next;
    *at = node->next;
    node->next = NULL;
    table->count--;
}

struct xs_node *xs_table_next(const struct xs_table *table,
                              const struct xs_node *node)
{
    uint32_t i = 0;

    if (node != NULL) {
        if (node->next != NULL)
            return node->next;
        i = (uint32_t)(bucket_of(table, node->hash) - table->bucket) + 1;
    }
    for (; table->bucket != NULL && i <= table->mask; i++)
        if (table->bucket[i] != NULL)
            return table->bucket[i];
    return NULL;
}
