/* SPDX-License-Identifier: BSD-2-Clause */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "state.h"

enum { FIRST_BUCKETS = 64 };

int xs_watches_init(struct xs_watches *watches)
{
    memset(watches, 0, sizeof(*watches));
    watches->bucket = calloc(FIRST_BUCKETS, sizeof(*watches->bucket));
    watches->mask = FIRST_BUCKETS - 1;
    return watches->bucket == NULL ? -ENOMEM : 0;
}

void xs_watches_clear(struct xs_watches *watches)
{
    free(watches->bucket);
    free(watches->hit);
}

static struct xs_watched **bucket_of(const struct xs_watches *watches,
                                     uint32_t hash)
{
    return &watches->bucket[(hash ^ hash >> 16) & watches->mask];
}

static struct xs_watched *find_path(const struct xs_watches *watches,
                                    const char *path, size_t len,
                                    uint32_t hash)
{
    struct xs_watched *at = *bucket_of(watches, hash);

    while (at != NULL && (at->hash != hash || at->path_len != len ||
                          memcmp(at->path, path, len) != 0))
        at = at->next;
    return at;
}

static void grow(struct xs_watches *watches)
{
    struct xs_watches wider = {.mask = 2 * watches->mask + 1};

    wider.bucket = calloc(wider.mask + 1, sizeof(*wider.bucket));
    if (wider.bucket == NULL)
        return;
    for (uint32_t i = 0; i <= watches->mask; i++) {
        struct xs_watched *at = watches->bucket[i];

        while (at != NULL) {
            struct xs_watched *next = at->next;
            struct xs_watched **bucket = bucket_of(&wider, at->hash);

            at->next = *bucket;
            *bucket = at;
            at = next;
        }
    }
    free(watches->bucket);
    watches->bucket = wider.bucket;
    watches->mask = wider.mask;
}

static struct xs_watched *make_path(struct xs_watches *watches,
                                    const struct xs_path *path)
{
    struct xs_watched *at = calloc(1, sizeof(*at) + path->len + 1);
    struct xs_watched **bucket;

    if (at == NULL)
        return NULL;
    if (watches->paths > watches->mask)
        grow(watches);
    memcpy(at->path, path->text, path->len);
    at->path_len = path->len;
    at->hash = path->hash;
    bucket = bucket_of(watches, at->hash);
    at->next = *bucket;
    *bucket = at;
    watches->paths++;
    return at;
}

static void free_path(struct xs_watches *watches, struct xs_watched *gone)
{
    struct xs_watched **at = bucket_of(watches, gone->hash);

    while (*at != gone)
        at = &(*at)->next;
    *at = gone->next;
    watches->paths--;
    free(gone);
}

struct xs_watch *xs_watch_find(const struct xs_watches *watches,
                               const struct xs_conn *conn,
                               const struct xs_path *path, const char *token,
                               size_t token_len)
{
    struct xs_watched *at =
        find_path(watches, path->text, path->len, path->hash);
    struct xs_watch *watch = at == NULL ? NULL : at->first;

    while (watch != NULL &&
           (watch->conn != conn || watch->token_len != token_len ||
            memcmp(watch->token, token, token_len) != 0))
        watch = watch->after;
    return watch;
}

struct xs_watch *xs_watch_add(struct xs_watches *watches, struct xs_conn *conn,
                              const struct xs_path *path, const char *token,
                              size_t token_len, uint32_t depth)
{
    struct xs_watched *at =
        find_path(watches, path->text, path->len, path->hash);
    struct xs_watch *watch = calloc(1, sizeof(*watch) + token_len + 1);

    if (watch != NULL && at == NULL)
        at = make_path(watches, path);
    if (watch == NULL || at == NULL) {
        free(watch);
        return NULL;
    }
    memcpy(watch->token, token, token_len);
    watch->token_len = (uint16_t)token_len;
    watch->conn = conn;
    watch->depth = depth;
    watch->skip = path->skip;
    watch->order = ++watches->order;
    watch->at = at;
    watch->before = at->last;
    if (at->last != NULL)
        at->last->after = watch;
    else
        at->first = watch;
    at->last = watch;
    *conn->last_watch = watch;
    conn->last_watch = &watch->next;
    watches->count++;
    return watch;
}

void xs_watch_remove(struct xs_watches *watches, struct xs_watch *watch)
{
    struct xs_conn *conn = watch->conn;
    struct xs_watch **link = &conn->watches;
    struct xs_watched *at = watch->at;

    while (*link != watch)
        link = &(*link)->next;
    *link = watch->next;
    if (conn->last_watch == &watch->next)
        conn->last_watch = link;
    if (watch->before != NULL)
        watch->before->after = watch->after;
    else
        at->first = watch->after;
    if (watch->after != NULL)
        watch->after->before = watch->before;
    else
        at->last = watch->before;
    if (at->first == NULL)
        free_path(watches, at);
    watches->count--;
    free(watch);
}

size_t xs_watch_memory(const struct xs_watch *watch)
{
    return sizeof(*watch) + watch->token_len + sizeof(*watch->at) +
           watch->at->path_len;
}

void xs_watch_report(struct xs_engine *engine, struct xs_cause *cause,
                     const struct xs_watch *watch, const char *path,
                     size_t len)
{
    xs_conn_post_event(engine, watch->conn, cause, path + watch->skip,
                       len - watch->skip, watch->token, watch->token_len);
}

/* Note the watches of one path that reach @below levels down. */
static size_t collect(struct xs_watches *watches, size_t hits,
                      const struct xs_watched *at, uint32_t below)
{
    for (struct xs_watch *w = at->first; w != NULL; w = w->after) {
        if (w->depth < below)
            continue;
        if (hits == watches->hit_room) {
            size_t room = hits ? 2 * hits : 64;
            struct xs_watch **wider =
                realloc(watches->hit, room * sizeof(*wider));

            if (wider == NULL)
                return hits;
            watches->hit = wider;
            watches->hit_room = room;
        }
        watches->hit[hits++] = w;
    }
    return hits;
}

static uint32_t components(const char *path, size_t len)
{
    uint32_t slashes = 0;

    for (size_t i = 0; i < len; i++)
        slashes += path[i] == '/';
    return xs_path_is_root(len) ? 0 : slashes;
}

static size_t collect_at(struct xs_watches *watches, size_t hits,
                         const char *path, size_t len, uint32_t hash,
                         uint32_t below)
{
    const struct xs_watched *at = find_path(watches, path, len, hash);

    return at == NULL ? hits : collect(watches, hits, at, below);
}

/* The watches at the path and above it; one pass gives every prefix's hash. */
static size_t collect_above(struct xs_watches *watches, const char *path,
                            size_t len)
{
    uint32_t below = components(path, len);
    uint32_t hash = xs_path_hash(path, 1);
    size_t hits = collect_at(watches, 0, path, 1, hash, below);

    for (size_t begin = 1; begin < len;) {
        const char *slash = memchr(path + begin, '/', len - begin);
        size_t end = slash == NULL ? len : (size_t)(slash - path);

        hash = xs_path_hash_more(hash, path + begin, end - begin);
        hits = collect_at(watches, hits, path, end, hash, --below);
        if (slash != NULL)
            hash = xs_path_hash_more(hash, "/", 1);
        begin = end + 1;
    }
    return hits;
}

static int compare(const void *left, const void *right)
{
    const struct xs_watch *a = *(struct xs_watch *const *)left;
    const struct xs_watch *b = *(struct xs_watch *const *)right;

    return a->order < b->order ? -1 : a->order > b->order;
}

static bool may_hear(const struct xs_engine *engine,
                     const struct xs_conn *conn,
                     const struct xs_change *change)
{
    const struct xs_node *parent;
    size_t parent_len;

    if (conn->privileged ||
        (change->perms != NULL &&
         xs_conn_rights(conn, change->perms) & XS_PERM_READ) ||
        (change->old_perms != NULL &&
         xs_conn_rights(conn, change->old_perms) & XS_PERM_READ))
        return true;
    parent_len = xs_path_parent_len(change->path, change->len);
    if (change->path[0] != '/' || parent_len == 0)
        return false;
    parent = xs_store_find(&engine->store, change->path, parent_len);
    return parent != NULL &&
           xs_conn_rights(conn, parent->perms) & XS_PERM_READ;
}

void xs_watches_fire(struct xs_engine *engine, struct xs_cause *cause,
                     const struct xs_change *change)
{
    struct xs_watches *watches = &engine->watches;
    const struct xs_conn *asked = NULL;
    bool hears = false;
    size_t hits;

    if (watches->count == 0)
        return;
    if (change->exact || change->path[0] == '@')
        hits = collect_at(watches, 0, change->path, change->len,
                          xs_path_hash(change->path, change->len), 0);
    else
        hits = collect_above(watches, change->path, change->len);
    if (hits > 1)
        qsort(watches->hit, hits, sizeof(*watches->hit), compare);
    for (size_t i = 0; i < hits; i++) {
        const struct xs_watch *watch = watches->hit[i];

        if (watch->conn != asked) {
            asked = watch->conn;
            hears = may_hear(engine, asked, change);
        }
        if (hears)
            xs_watch_report(engine, cause, watch, change->path, change->len);
    }
}

enum depths { WITHOUT_DEPTH, WITH_DEPTH, ANY_DEPTH };

static void report_special(struct xs_engine *engine, struct xs_cause *cause,
                           const struct xs_perms *perms, const char *at,
                           const char *path, enum depths depths)
{
    const struct xs_watched *watched = find_path(
        &engine->watches, at, strlen(at), xs_path_hash(at, strlen(at)));

    if (watched == NULL)
        return;
    for (struct xs_watch *w = watched->first; w != NULL; w = w->after) {
        bool deep = w->depth != XS_NO_DEPTH && w->depth > 0;

        if ((depths == WITHOUT_DEPTH && w->depth != XS_NO_DEPTH) ||
            (depths == WITH_DEPTH && !deep))
            continue;
        if (xs_conn_rights(w->conn, perms) & XS_PERM_READ)
            xs_watch_report(engine, cause, w, path, strlen(path));
    }
}

void xs_watches_fire_special(struct xs_engine *engine, struct xs_cause *cause,
                             const char *name, uint16_t domid)
{
    const struct xs_node *node =
        xs_store_find(&engine->store, name, strlen(name));
    char one[sizeof("@introduceDomain/65535")];

    if (node == NULL)
        return;
    snprintf(one, sizeof(one), "%s/%u", name, (unsigned int)domid);
    report_special(engine, cause, node->perms, name, name,
                   WITHOUT_DEPTH);
    report_special(engine, cause, node->perms, name, one, WITH_DEPTH);
    report_special(engine, cause, node->perms, one, one, ANY_DEPTH);
}
