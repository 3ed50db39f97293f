/* SPDX-License-Identifier: BSD-2-Clause */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "journal.h"
#include "tree.h"

int xs_tree_find(const struct xs_tree *tree, const char *path, size_t len,
                 uint32_t hash, struct xs_node **node)
{
    struct xs_record *record;
    int error;

    if (tree->tx == NULL) {
        *node = xs_table_find(&tree->store->nodes, path, len, hash);
        return 0;
    }
    error = xs_transaction_see(tree->tx, tree->store, path, len, hash, &record);
    *node = error == 0 ? record->node : NULL;
    return error;
}

/* The record of a node of a transaction's own, which is about to change. */
static struct xs_record *change(const struct xs_tree *tree,
                                const struct xs_node *node)
{
    struct xs_record *record = xs_transaction_find(tree->tx, node->path,
                                                   node->path_len, node->hash);

    record->changed = true;
    return record;
}

static void charge(const struct xs_tree *tree, uint16_t domid, int nodes)
{
    if (tree->tx != NULL)
        xs_transaction_charge(tree->tx, domid, nodes);
}

int xs_tree_set_value(const struct xs_tree *tree, struct xs_node *node,
                      const void *value, size_t len)
{
    struct xs_store *store = tree->store;
    int error;

    if (tree->tx != NULL) {
        size_t before = xs_node_memory(node);

        error = xs_node_set_value(node, value, len);
        tree->tx->memory += xs_node_memory(node) - before;
        if (error == 0) {
            change(tree, node);
            node->generation = ++store->generation;
        }
        return error;
    }
    error = xs_store_reserve(
        store, xs_journal_room(node->path_len, node->perms->count, len), 0);
    if (error != 0)
        return error;
    xs_store_begin_edit(store, node);
    error = xs_node_set_value(node, value, len);
    xs_store_end_edit(store, node);
    if (error != 0)
        return error;
    node->generation = ++store->generation;
    xs_store_log_put(store, node);
    return 0;
}

int xs_tree_set_perms(const struct xs_tree *tree, struct xs_node *node,
                      struct xs_perms *perms)
{
    struct xs_store *store = tree->store;
    int error;

    if (tree->tx != NULL) {
        change(tree, node);
        charge(tree, xs_node_owner(node), -1);
        charge(tree, perms->entry[0].domid, 1);
        xs_node_set_perms(node, perms);
        node->generation = ++store->generation;
        return 0;
    }
    error = xs_store_reserve(
        store, xs_journal_room(node->path_len, perms->count, node->value_len),
        0);
    if (error != 0)
        return error;
    xs_store_begin_edit(store, node);
    xs_node_set_perms(node, perms);
    xs_store_end_edit(store, node);
    node->generation = ++store->generation;
    xs_store_log_put(store, node);
    return 0;
}

/*
 * A view may be torn: its copy of a directory was made before somebody else removed a
 * child. It cannot be committed any more, but has to stay one that can be walked.
 */
static int add_to_view(struct xs_transaction *tx, struct xs_node *parent,
                       const char *name)
{
    int error;

    if (xs_node_has_child(parent, name)) {
        tx->doomed = true;
        return 0;
    }
    error = xs_node_add_child(parent, name);
    if (error == 0)
        tx->memory += strlen(name) + 1;
    return error;
}

/* A new node goes into the view, below @parent. */
static int create_one(const struct xs_tree *tree, struct xs_node *parent,
                      struct xs_node *node)
{
    struct xs_store *store = tree->store;
    struct xs_record *record = NULL;
    const char *name = xs_path_name(node->path, node->path_len);
    int error = 0;

    if (tree->tx != NULL) {
        error = xs_transaction_see(tree->tx, store, node->path, node->path_len,
                                   node->hash, &record);
        if (error == 0)
            error = add_to_view(tree->tx, parent, name);
    } else {
        xs_store_begin_edit(store, parent);
        error = xs_node_add_child(parent, name);
        xs_store_end_edit(store, parent);
    }
    if (error != 0)
        return error;
    node->generation = ++store->generation;
    parent->generation = ++store->generation;
    if (tree->tx != NULL) {
        change(tree, parent);
        record->node = node;
        record->changed = true;
        record->created = node->generation;
        tree->tx->created = true;
        tree->tx->memory += xs_node_memory(node);
        charge(tree, xs_node_owner(node), 1);
        return 0;
    }
    xs_store_add(store, node);
    xs_store_log_put(store, node);
    xs_store_log_touch(store, parent);
    return 0;
}

/* Where the next component below @len ends. */
static size_t next_end(const struct xs_path *path, size_t len)
{
    const char *slash = memchr(path->text + len + 1, '/', path->len - len - 1);

    return slash == NULL ? path->len : (size_t)(slash - path->text);
}

static size_t first_end(const struct xs_path *path, const struct xs_node *above)
{
    return next_end(path, xs_path_is_root(above->path_len) ? 0
                                                           : above->path_len);
}

/* What creating everything below @above adds to the journal. */
static int reserve_creation(const struct xs_tree *tree,
                            const struct xs_path *path,
                            const struct xs_node *above,
                            const struct xs_perms *perms, size_t value_len)
{
    size_t end = first_end(path, above);
    size_t bytes = value_len + xs_journal_room(path->len, perms->count, 0);
    size_t levels = 1;

    if (tree->tx != NULL)
        return 0;
    for (; end < path->len; end = next_end(path, end))
        levels++;
    return xs_store_reserve(tree->store, 2 * levels * bytes, 0);
}

int xs_tree_create(const struct xs_tree *tree, const struct xs_path *path,
                   struct xs_node *above, struct xs_perms *perms,
                   const void *value, size_t value_len)
{
    size_t end = first_end(path, above);
    int error = reserve_creation(tree, path, above, perms, value_len);

    while (error == 0) {
        bool last = end == path->len;
        struct xs_node *node =
            xs_node_make(path->text, end, xs_path_hash(path->text, end), perms,
                         last ? value : NULL, last ? value_len : 0);

        if (node == NULL)
            return -ENOMEM;
        error = create_one(tree, above, node);
        if (error != 0)
            xs_node_free(node);
        if (last)
            break;
        above = node;
        end = next_end(path, end);
    }
    if (error != 0 && tree->tx != NULL)
        tree->tx->failed = true;
    return error;
}

int xs_nodes_append(struct xs_nodes *nodes, struct xs_node *node)
{
    if (nodes->count == nodes->room) {
        size_t room = nodes->room ? 2 * nodes->room : 64;
        struct xs_node **wider = realloc(nodes->node, room * sizeof(*wider));

        if (wider == NULL)
            return -ENOMEM;
        nodes->node = wider;
        nodes->room = room;
    }
    nodes->node[nodes->count++] = node;
    return 0;
}

int xs_tree_children(const struct xs_tree *tree, const struct xs_node *node,
                     struct xs_nodes *nodes)
{
    char path[XS_ABS_PATH_MAX + 2];
    size_t len = xs_path_is_root(node->path_len) ? 0 : node->path_len;
    uint32_t hash = xs_path_hash(node->path, len);
    struct xs_node *child;
    int error = 0;

    memcpy(path, node->path, len);
    path[len] = '/';
    for (const char *name = node->children;
         error == 0 && name < node->children + node->children_len;
         name += strlen(name) + 1) {
        size_t name_len = strlen(name);

        memcpy(path + len + 1, name, name_len);
        error = xs_tree_find(tree, path, len + 1 + name_len,
                             xs_path_hash_more(hash, path + len, name_len + 1),
                             &child);
        if (error == 0 && child != NULL)
            error = xs_nodes_append(nodes, child);
    }
    return error;
}

/* Top down by a queue: directories first, children in their order. */
static int list_down(const struct xs_tree *tree, struct xs_nodes *nodes)
{
    int error = 0;

    for (size_t i = 0; error == 0 && i < nodes->count; i++)
        error = xs_tree_children(tree, nodes->node[i], nodes);
    return error;
}

/* By a stack, last child first; the reverse of it has every node after its own. */
static int list_up(const struct xs_tree *tree, struct xs_nodes *nodes)
{
    struct xs_nodes stack = {0};
    int error = xs_nodes_append(&stack, nodes->node[0]);

    nodes->count = 0;
    while (error == 0 && stack.count > 0) {
        struct xs_node *node = stack.node[--stack.count];

        error = xs_nodes_append(nodes, node);
        if (error == 0)
            error = xs_tree_children(tree, node, &stack);
    }
    free(stack.node);
    for (size_t i = 0, j = nodes->count; error == 0 && i + 1 < j; i++) {
        struct xs_node *last = nodes->node[--j];

        nodes->node[j] = nodes->node[i];
        nodes->node[i] = last;
    }
    return error;
}

int xs_tree_list(const struct xs_tree *tree, struct xs_node *top, bool up,
                 struct xs_nodes *nodes)
{
    int error;

    memset(nodes, 0, sizeof(*nodes));
    error = xs_nodes_append(nodes, top);
    if (error == 0)
        error = up ? list_up(tree, nodes) : list_down(tree, nodes);
    if (error != 0) {
        free(nodes->node);
        memset(nodes, 0, sizeof(*nodes));
    }
    return error;
}

static void remove_from_view(const struct xs_tree *tree, struct xs_node *node)
{
    struct xs_record *record = change(tree, node);

    charge(tree, xs_node_owner(node), -1);
    tree->tx->memory -= xs_node_memory(node);
    record->node = NULL;
    record->created = 0;
    xs_node_free(node);
}

int xs_tree_remove(const struct xs_tree *tree, struct xs_nodes *nodes)
{
    struct xs_store *store = tree->store;
    struct xs_node *top = nodes->node[nodes->count - 1];
    size_t parent_len = xs_path_parent_len(top->path, top->path_len);
    struct xs_node *parent;
    const char *name;
    int error = xs_tree_find(tree, top->path, parent_len,
                             xs_path_hash(top->path, parent_len), &parent);

    if (error == 0 && parent == NULL)
        error = -EINVAL; /* a torn view: it was missing when it was looked for */
    if (error == 0 && tree->tx == NULL)
        error = xs_store_reserve(
            store, 2 * xs_journal_room(top->path_len, 0, 0), 0);
    if (error != 0)
        return error;
    if (tree->tx == NULL) {
        xs_store_begin_edit(store, parent);
        xs_store_log_drop(store, top);
    } else {
        change(tree, parent);
    }
    name = xs_path_name(top->path, top->path_len);
    if (xs_node_remove_child(parent, name) && tree->tx != NULL)
        tree->tx->memory -= strlen(name) + 1;
    parent->generation = ++store->generation;
    if (tree->tx == NULL) {
        xs_store_end_edit(store, parent);
        xs_store_log_touch(store, parent);
    }
    for (size_t i = 0; i < nodes->count; i++) {
        if (tree->tx == NULL)
            xs_store_remove(store, nodes->node[i]);
        else
            remove_from_view(tree, nodes->node[i]);
    }
    return 0;
}

int32_t xs_tree_owned(const struct xs_tree *tree, uint16_t domid)
{
    const struct xs_domain *domain =
        xs_domain_find(tree->store->domains, domid);
    int32_t owned =
        domain == NULL ? 0 : (int32_t)domain->used[XS_QUOTA_NODES];

    if (tree->tx != NULL)
        owned += xs_transaction_owned(tree->tx, domid);
    return owned;
}

bool xs_store_is_consistent(struct xs_store *store)
{
    struct xs_tree tree = {.store = store};
    struct xs_node *root = xs_store_find(store, "/", 1);
    struct xs_nodes nodes;
    uint32_t special = 0;
    uint32_t owned = 0;
    uint32_t found;

    if (root == NULL || xs_tree_list(&tree, root, false, &nodes) != 0)
        return false;
    found = (uint32_t)nodes.count;
    free(nodes.node);
    for (struct xs_node *node = xs_table_next(&store->nodes, NULL);
         node != NULL; node = xs_table_next(&store->nodes, node))
        special += node->path[0] == '@';
    for (uint32_t domid = 0; domid <= UINT16_MAX; domid++) {
        const struct xs_domain *domain =
            xs_domain_find(store->domains, (uint16_t)domid);

        if (domain != NULL)
            owned += domain->used[XS_QUOTA_NODES];
    }
    return found + special == store->nodes.count &&
           owned == store->nodes.count;
}
