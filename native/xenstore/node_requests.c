/* SPDX-License-Identifier: BSD-2-Clause */
#define _GNU_SOURCE /* memrchr */
/* The requests on nodes: what each needs, checks and changes. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "request.h"

enum { NODE_HEADER_SIZE = 16, NODE_PERM_SIZE = 8 };

/* An existing node is told apart from what the client may know. */
struct target {
    struct xs_path path;
    struct xs_node *node; /* NULL: missing, which the client may know */
    struct xs_node *above; /* then: the nearest one that exists */
};

static int find(const struct xs_request *request, const char *path, size_t len,
                struct xs_node **node)
{
    return xs_tree_find(&request->tree, path, len, xs_path_hash(path, len),
                        node);
}

static int find_above(const struct xs_request *request,
                      const struct xs_path *path, struct xs_node **above)
{
    size_t len = path->len;

    *above = NULL;
    while (*above == NULL) {
        int error;

        len = xs_path_parent_len(path->text, len);
        if (len == 0)
            return -ENOENT;
        error = find(request, path->text, len, above);
        if (error != 0)
            return error;
    }
    return 0;
}

/**
 * permitted() - The node at a path, if the client has every right @needed.
 *
 * Whether a node is missing or forbidden is told only to who has any such right at
 * the nearest node above.
 *
 * Return: 0; -EINVAL, -EACCES, -ENOSPC, -ENOMEM.
 */
static int permitted(struct xs_request *request, const char *sent, bool special,
                     unsigned int needed, struct target *target)
{
    int error = xs_request_path(request, sent, special, &target->path);

    target->above = NULL;
    if (error != 0)
        return error;
    error = xs_tree_find(&request->tree, target->path.text, target->path.len,
                         target->path.hash, &target->node);
    if (error != 0)
        return error;
    if (target->node != NULL)
        return (xs_conn_rights(request->conn, target->node->perms) & needed) ==
                       needed
                   ? 0
                   : -EACCES;
    if (target->path.special)
        error = find(request, "/", 1, &target->above);
    else
        error = find_above(request, &target->path, &target->above);
    if (error != 0)
        return error;
    return xs_conn_rights(request->conn, target->above->perms) & needed
               ? 0
               : -EACCES;
}

static int existing(struct xs_request *request, const char *sent, bool special,
                    unsigned int needed, struct target *target)
{
    int error = sent == NULL
                    ? -EINVAL
                    : permitted(request, sent, special, needed, target);

    return error == 0 && target->node == NULL ? -ENOENT : error;
}

/* Whether a node of that size is more than its client may make. */
static bool too_big(const struct xs_conn *conn, size_t perms, size_t value,
                    size_t children)
{
    return !conn->privileged &&
           xs_quota_exceeded(NODE_HEADER_SIZE + NODE_PERM_SIZE * perms +
                                 value + children,
                             conn->domain->quota[XS_QUOTA_NODE_SIZE]);
}

/* Whether the client may not have so many bytes more (XSA-326). */
static bool too_much(const struct xs_conn *conn, size_t more)
{
    return !conn->privileged &&
           xs_quota_exceeded(conn->domain->used[XS_QUOTA_MEMORY] + more,
                             conn->domain->quota[XS_QUOTA_MEMORY]);
}

/* A change that was begun and refused leaves no transaction to commit. */
static int refuse(struct xs_request *request, int error)
{
    if (request->tree.tx != NULL)
        request->tree.tx->failed = true;
    return error;
}

int xs_read(struct xs_request *request)
{
    struct target target;
    int error = existing(request, xs_one_string(request), false, XS_PERM_READ,
                         &target);

    return error != 0 ? error
                      : xs_reply(request, target.node->value,
                                 target.node->value_len);
}

int xs_directory(struct xs_request *request)
{
    struct target target;
    int error = existing(request, xs_one_string(request), false, XS_PERM_READ,
                         &target);

    return error != 0 ? error
                      : xs_reply(request, target.node->children,
                                 target.node->children_len);
}

/* The generation comes first, so that a client sees a change between two parts. */
int xs_directory_part(struct xs_request *request)
{
    char reply[XS_PAYLOAD_MAX];
    const char *string[2];
    const struct xs_node *node;
    struct target target;
    uint64_t offset;
    size_t len, room, left;
    int error;

    if (xs_strings(request, string, 2) != 2)
        return -EINVAL;
    error = existing(request, string[0], false, XS_PERM_READ, &target);
    if (error != 0)
        return error;
    if (xs_number(string[1], UINT32_MAX, &offset) != 0)
        return -EINVAL;
    node = target.node;
    len = (size_t)snprintf(reply, sizeof(reply), "%llu",
                           (unsigned long long)node->generation) +
          1;
    left = offset < node->children_len ? node->children_len - (size_t)offset
                                       : 0;
    room = XS_PAYLOAD_MAX - len - 1;
    if (left > room) {
        const char *from = node->children + offset;
        const char *end = memrchr(from, '\0', room);

        left = end == NULL ? 0 : (size_t)(end - from) + 1;
        memcpy(reply + len, from, left);
        return xs_reply(request, reply, len + left);
    }
    if (left > 0)
        memcpy(reply + len, node->children + offset, left);
    reply[len + left] = '\0';
    return xs_reply(request, reply, len + left + 1);
}

int xs_get_perms(struct xs_request *request)
{
    char reply[XS_PAYLOAD_MAX];
    const struct xs_perms *perms;
    struct target target;
    size_t len = 0;
    int error =
        existing(request, xs_one_string(request), true, XS_PERM_READ, &target);

    if (error != 0)
        return error;
    perms = target.node->perms;
    for (uint32_t i = 0; i < perms->count; i++) {
        if (len + 8 > sizeof(reply))
            return -E2BIG;
        len += xs_perm_print(&perms->entry[i], reply + len);
    }
    return xs_reply(request, reply, len);
}

/* What a new node, and every one that is missing above it, would be too much for. */
static int check_creation(struct xs_request *request,
                          const struct target *target, size_t value_len)
{
    const struct xs_conn *conn = request->conn;
    const struct xs_node *above = target->above;
    const char *begin =
        target->path.text +
        (xs_path_is_root(above->path_len) ? 0 : above->path_len);
    const char *end = target->path.text + target->path.len;
    size_t children = above->children_len;
    size_t perms = above->perms->count;
    size_t value = above->value_len;
    int levels = 0;

    if (conn->privileged)
        return 0;
    while (begin < end) {
        const char *slash =
            memchr(begin + 1, '/', (size_t)(end - begin) - 1);
        const char *name_end = slash == NULL ? end : slash;

        if (too_big(conn, perms, value, children + (size_t)(name_end - begin)))
            return -ENOSPC;
        children = value = 0;
        begin = name_end;
        levels++;
    }
    if (too_big(conn, perms, value_len, 0))
        return -ENOSPC;
    if (too_much(conn, value_len + (size_t)levels * (sizeof(struct xs_node) +
                                                     target->path.len)))
        return -ENOMEM;
    if (xs_quota_exceeded((uint64_t)xs_tree_owned(&request->tree, conn->domid) +
                              (uint64_t)levels,
                          conn->domain->quota[XS_QUOTA_NODES]))
        return -ENOSPC;
    return 0;
}

static int create(struct xs_request *request, const struct target *target,
                  const void *value, size_t value_len)
{
    const struct xs_conn *conn = request->conn;
    struct xs_perms *perms;
    int error;

    error = check_creation(request, target, value_len);
    if (error != 0)
        return refuse(request, error);
    perms = xs_perms_inherit(target->above->perms,
                             conn->privileged ? XS_NO_DOMID : conn->domid);
    if (perms == NULL)
        return -ENOMEM;
    error = xs_tree_create(&request->tree, &target->path, target->above, perms,
                           value, value_len);
    if (error == 0)
        xs_request_changed(request, &(struct xs_change){
                                        .path = target->path.text,
                                        .len = target->path.len,
                                        .perms = perms,
                                    });
    xs_perms_unref(perms);
    return error;
}

int xs_write(struct xs_request *request)
{
    const char *path = request->payload;
    const char *nul = memchr(path, '\0', request->header.len);
    struct target target;
    const char *value;
    size_t value_len;
    int error;

    if (nul == NULL)
        return -EINVAL;
    value = nul + 1;
    value_len = request->header.len - (size_t)(value - path);
    error = permitted(request, path, false, XS_PERM_WRITE, &target);
    if (error != 0)
        return error;
    if (target.node == NULL) {
        error = create(request, &target, value, value_len);
        return error != 0 ? error : xs_reply_ok(request);
    }
    if (too_big(request->conn, target.node->perms->count, value_len,
                target.node->children_len))
        return refuse(request, -ENOSPC);
    if (value_len > target.node->value_len &&
        too_much(request->conn, value_len - target.node->value_len))
        return refuse(request, -ENOMEM);
    error = xs_tree_set_value(&request->tree, target.node, value, value_len);
    if (error != 0)
        return error;
    xs_request_changed(request, &(struct xs_change){
                                    .path = target.path.text,
                                    .len = target.path.len,
                                    .perms = target.node->perms,
                                });
    return xs_reply_ok(request);
}

int xs_mkdir(struct xs_request *request)
{
    const char *path = xs_one_string(request);
    struct target target;
    int error = path == NULL ? -EINVAL
                             : permitted(request, path, false, XS_PERM_WRITE,
                                         &target);

    if (error == 0 && target.node == NULL)
        error = create(request, &target, NULL, 0);
    return error != 0 ? error : xs_reply_ok(request);
}

/* Tell of each node while who may read it can still be seen, then drop them all. */
static int remove_all(struct xs_request *request, struct xs_nodes *nodes)
{
    for (size_t i = 0; i < nodes->count; i++)
        xs_request_changed(request, &(struct xs_change){
                                        .path = nodes->node[i]->path,
                                        .len = nodes->node[i]->path_len,
                                        .perms = nodes->node[i]->perms,
                                        .exact = i + 1 < nodes->count,
                                    });
    return xs_tree_remove(&request->tree, nodes);
}

static int missing_is_fine(struct xs_request *request,
                           const struct xs_path *path)
{
    size_t len = xs_path_parent_len(path->text, path->len);
    struct xs_node *parent;
    int error = find(request, path->text, len, &parent);

    if (error != 0)
        return error;
    return parent == NULL ? -ENOENT : xs_reply_ok(request);
}

int xs_rm(struct xs_request *request)
{
    const char *path = xs_one_string(request);
    struct xs_nodes nodes;
    struct target target;
    int error = path == NULL ? -EINVAL
                             : permitted(request, path, false, XS_PERM_WRITE,
                                         &target);

    if (error != 0)
        return error;
    if (target.node == NULL)
        return missing_is_fine(request, &target.path);
    if (xs_path_is_root(target.path.len))
        return -EINVAL;
    error = xs_tree_list(&request->tree, target.node, true, &nodes);
    if (error != 0)
        return error;
    error = remove_all(request, &nodes);
    free(nodes.node);
    return error != 0 ? error : xs_reply_ok(request);
}

/* The entries after the path; those for no domain are kept, and grant nothing. */
static int parse_perms(const struct xs_request *request, unsigned int count,
                       struct xs_perms **perms)
{
    const char *text = request->payload + strlen(request->payload) + 1;
    struct xs_perm *entry = malloc(count * sizeof(*entry));
    bool any = xs_engine_features(request->engine, request->conn->domid) &
               XS_FEATURE_DOMID_ANY;
    int error = entry == NULL ? -ENOMEM : 0;

    for (unsigned int i = 0; error == 0 && i < count; i++) {
        const struct xs_domain *domain;

        error = xs_perm_parse(text, &entry[i]);
        if (error != 0)
            break;
        domain = xs_domain_find(&request->engine->domains, entry[i].domid);
        entry[i].ignored = entry[i].domid == XS_DOMID_ANY
                               ? !any
                               : domain == NULL || !domain->exists;
        text += strlen(text) + 1;
    }
    if (error == 0 && entry[0].ignored)
        error = -ENOENT;
    if (error == 0) {
        *perms = xs_perms_make(entry, count);
        error = *perms == NULL ? -ENOMEM : 0;
    }
    free(entry);
    return error;
}

static int replace_perms(struct xs_request *request, struct target *target,
                         struct xs_perms *perms)
{
    const struct xs_conn *conn = request->conn;
    struct xs_node *node = target->node;
    struct xs_perms *old;
    int error;

    if (!conn->privileged && perms->entry[0].domid != xs_node_owner(node))
        return -EPERM;
    if (too_big(conn, perms->count, node->value_len, node->children_len))
        return refuse(request, -ENOSPC);
    old = xs_perms_ref(node->perms);
    error = xs_tree_set_perms(&request->tree, node, perms);
    if (error == 0)
        xs_request_changed(request, &(struct xs_change){
                                        .path = target->path.text,
                                        .len = target->path.len,
                                        .perms = perms,
                                        .old_perms = old,
                                    });
    xs_perms_unref(old);
    return error;
}

int xs_set_perms(struct xs_request *request)
{
    const struct xs_conn *conn = request->conn;
    unsigned int count = xs_strings(request, NULL, 0);
    struct xs_perms *perms;
    struct target target;
    int error;

    if (count < 2)
        return -EINVAL;
    count--;
    if (!conn->privileged &&
        xs_quota_exceeded(count,
                          conn->domain->quota[XS_QUOTA_NODE_PERMISSIONS]))
        return -ENOSPC;
    error = parse_perms(request, count, &perms);
    if (error != 0)
        return error;
    error = existing(request, request->payload, true,
                     XS_PERM_WRITE | XS_PERM_OWN, &target);
    if (error == 0)
        error = replace_perms(request, &target, perms);
    xs_perms_unref(perms);
    return error != 0 ? error : xs_reply_ok(request);
}
