/* SPDX-License-Identifier: BSD-2-Clause */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "journal.h"
#include "transaction.h"

enum { FIRST_BUCKETS = 16 };

struct xs_transaction *xs_transaction_make(uint32_t id, uint32_t limit)
{
    struct xs_transaction *tx = calloc(1, sizeof(*tx));

    if (tx == NULL)
        return NULL;
    tx->bucket = calloc(FIRST_BUCKETS, sizeof(*tx->bucket));
    if (tx->bucket == NULL) {
        free(tx);
        return NULL;
    }
    tx->mask = FIRST_BUCKETS - 1;
    tx->last = &tx->first;
    tx->id = id;
    tx->limit = limit;
    tx->memory = sizeof(*tx) + FIRST_BUCKETS * sizeof(*tx->bucket);
    tx->memory_max = SIZE_MAX;
    return tx;
}

static void free_record(struct xs_record *record)
{
    xs_node_free(record->node);
    if (record->seen_perms != NULL)
        xs_perms_unref(record->seen_perms);
    free(record);
}

void xs_transaction_free(struct xs_transaction *tx)
{
    struct xs_record *record = tx->first;

    while (record != NULL) {
        struct xs_record *after = record->after;

        free_record(record);
        record = after;
    }
    free(tx->delta);
    free(tx->bucket);
    free(tx);
}

struct xs_record *xs_transaction_find(const struct xs_transaction *tx,
                                      const char *path, size_t len,
                                      uint32_t hash)
{
    struct xs_record *record = tx->bucket[hash & tx->mask];

    while (record != NULL &&
           (record->hash != hash || record->path_len != len ||
            memcmp(record->path, path, len) != 0))
        record = record->next;
    return record;
}

/* Without memory for more buckets the chains get longer, and nothing is lost. */
static void grow(struct xs_transaction *tx)
{
    uint32_t buckets = 2 * (tx->mask + 1);
    struct xs_record **bucket = calloc(buckets, sizeof(*bucket));

    if (bucket == NULL)
        return;
    for (struct xs_record *r = tx->first; r != NULL; r = r->after) {
        r->next = bucket[r->hash & (buckets - 1)];
        bucket[r->hash & (buckets - 1)] = r;
    }
    free(tx->bucket);
    tx->bucket = bucket;
    tx->mask = buckets - 1;
}

static struct xs_record *make_record(const struct xs_store *store,
                                     const char *path, size_t len,
                                     uint32_t hash)
{
    const struct xs_node *node = xs_table_find(&store->nodes, path, len, hash);
    struct xs_record *record = calloc(1, sizeof(*record) + len + 1);

    if (record == NULL)
        return NULL;
    memcpy(record->path, path, len);
    record->path_len = (uint16_t)len;
    record->hash = hash;
    if (node == NULL)
        return record;
    record->node = xs_node_copy(node);
    if (record->node == NULL) {
        free(record);
        return NULL;
    }
    record->seen = node->generation;
    record->seen_perms = xs_perms_ref(node->perms);
    return record;
}

/* What a record of the path would take. */
static size_t record_memory(const struct xs_store *store, const char *path,
                            size_t len, uint32_t hash)
{
    const struct xs_node *node = xs_table_find(&store->nodes, path, len, hash);

    return sizeof(struct xs_record) + len +
           (node == NULL ? 0 : xs_node_memory(node));
}

int xs_transaction_see(struct xs_transaction *tx, const struct xs_store *store,
                       const char *path, size_t len, uint32_t hash,
                       struct xs_record **record)
{
    struct xs_record *new = xs_transaction_find(tx, path, len, hash);

    *record = new;
    if (new != NULL)
        return 0;
    if (xs_quota_exceeded(tx->count + 1, tx->limit)) {
        tx->failed = true;
        return -ENOSPC;
    }
    if (tx->memory + record_memory(store, path, len, hash) > tx->memory_max) {
        tx->failed = true;
        return -ENOMEM;
    }
    new = make_record(store, path, len, hash);
    if (new == NULL) {
        tx->failed = true;
        return -ENOMEM;
    }
    if (tx->count > tx->mask)
        grow(tx);
    new->next = tx->bucket[hash & tx->mask];
    tx->bucket[hash & tx->mask] = new;
    *tx->last = new;
    tx->last = &new->after;
    tx->count++;
    tx->memory += sizeof(*new) + len;
    if (new->node != NULL)
        tx->memory += xs_node_memory(new->node);
    *record = new;
    return 0;
}

void xs_transaction_charge(struct xs_transaction *tx, uint16_t domid,
                           int32_t nodes)
{
    struct xs_delta *delta = tx->delta;

    for (uint32_t i = 0; i < tx->deltas; i++) {
        if (delta[i].domid == domid) {
            delta[i].nodes += nodes;
            return;
        }
    }
    delta = realloc(delta, (tx->deltas + 1) * sizeof(*delta));
    if (delta == NULL) {
        tx->failed = true;
        return;
    }
    delta[tx->deltas].domid = domid;
    delta[tx->deltas].nodes = nodes;
    tx->delta = delta;
    tx->deltas++;
}

int32_t xs_transaction_owned(const struct xs_transaction *tx, uint16_t domid)
{
    for (uint32_t i = 0; i < tx->deltas; i++)
        if (tx->delta[i].domid == domid)
            return tx->delta[i].nodes;
    return 0;
}

void xs_transaction_forget_domain(struct xs_transaction *tx, uint16_t domid)
{
    for (struct xs_record *r = tx->first; r != NULL; r = r->after)
        if (r->changed && r->node != NULL &&
            xs_perms_name(r->node->perms, domid))
            tx->doomed = true;
}

static bool conflicts(const struct xs_transaction *tx,
                      const struct xs_store *store)
{
    if (tx->doomed)
        return true;
    for (struct xs_record *r = tx->first; r != NULL; r = r->after) {
        const struct xs_node *now =
            xs_table_find(&store->nodes, r->path, r->path_len, r->hash);

        if ((now == NULL ? 0 : now->generation) != r->seen)
            return true;
    }
    return false;
}

static size_t journal_bytes(const struct xs_transaction *tx)
{
    size_t bytes = 0;

    for (struct xs_record *r = tx->first; r != NULL; r = r->after) {
        if (!r->changed)
            continue;
        bytes += xs_journal_room(r->path_len, 0, 0);
        if (r->node != NULL)
            bytes += xs_journal_room(r->path_len, r->node->perms->count,
                                     r->node->value_len);
    }
    return bytes;
}

/* What is gone, and what was made anew in the place of another node. */
static void apply_drops(struct xs_transaction *tx, struct xs_store *store)
{
    for (struct xs_record *r = tx->first; r != NULL; r = r->after) {
        struct xs_node *old;

        if (!r->changed || r->seen == 0 || (r->node != NULL && !r->created))
            continue;
        old = xs_table_find(&store->nodes, r->path, r->path_len, r->hash);
        xs_store_log_drop(store, old);
        xs_store_remove(store, old);
    }
}

static unsigned int depth(const struct xs_record *record)
{
    unsigned int slashes = 0;

    for (uint16_t i = 1; i < record->path_len; i++)
        slashes += record->path[i] == '/';
    return slashes;
}

/* Directories before what is in them, children in the order they were made. */
static int compare(const void *left, const void *right)
{
    const struct xs_record *a = *(struct xs_record *const *)left;
    const struct xs_record *b = *(struct xs_record *const *)right;
    unsigned int depth_a = depth(a), depth_b = depth(b);

    if (depth_a != depth_b)
        return depth_a < depth_b ? -1 : 1;
    if (a->created != b->created)
        return a->created < b->created ? -1 : 1;
    return 0;
}

static void apply_put(struct xs_record *record, struct xs_store *store)
{
    struct xs_node *old = xs_table_find(&store->nodes, record->path,
                                        record->path_len, record->hash);

    if (old != NULL)
        xs_store_remove(store, old);
    record->node->generation = ++store->generation;
    xs_store_add(store, record->node);
    xs_store_log_put(store, record->node);
    record->node = NULL;
}

int xs_transaction_commit(struct xs_transaction *tx, struct xs_store *store)
{
    struct xs_record **puts;
    size_t count = 0;

    if (tx->failed)
        return -ENOMEM;
    if (conflicts(tx, store))
        return -EAGAIN;
    if (xs_store_reserve(store, journal_bytes(tx), 0) != 0)
        return -ENOSPC;
    puts = malloc((tx->count + 1) * sizeof(*puts));
    if (puts == NULL)
        return -ENOMEM;
    for (struct xs_record *r = tx->first; r != NULL; r = r->after)
        if (r->changed && r->node != NULL)
            puts[count++] = r;
    qsort(puts, count, sizeof(*puts), compare);
    apply_drops(tx, store);
    for (size_t i = 0; i < count; i++)
        apply_put(puts[i], store);
    free(puts);
    return 0;
}
