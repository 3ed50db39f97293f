/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Watches: who hears of which change, and under which name.
 *
 * An event is a hint that something at or below a path changed; the receiver reads
 * again. Only who may read the node, or the directory that it is in, hears of it
 * (XSA-115).
 */
#ifndef XV_XENSTORE_WATCH_H
#define XV_XENSTORE_WATCH_H

#include "perms.h"
#include "path.h"

struct xs_cause;
struct xs_conn;
struct xs_engine;
struct xs_node;

enum { XS_NO_DEPTH = UINT32_MAX };

struct xs_watch {
    struct xs_watch *next; /* of its connection, in the order they were set */
    struct xs_watch *after, *before; /* of its path, oldest first */
    struct xs_watched *at;
    struct xs_conn *conn;
    uint64_t order; /* of all watches */
    uint32_t depth; /* levels below the path; XS_NO_DEPTH: all */
    uint16_t skip;  /* bytes of the path that its events are told without */
    uint16_t token_len;
    char token[]; /* ends with a NUL */
};

/* A path that somebody watches. */
struct xs_watched {
    struct xs_watched *next; /* in its bucket */
    struct xs_watch *first, *last;
    uint32_t hash;
    uint16_t path_len;
    char path[];
};

struct xs_watches {
    struct xs_watched **bucket;
    uint32_t mask;
    uint32_t paths;
    uint32_t count;
    uint64_t order;
    struct xs_watch **hit; /* room for those that a change concerns */
    size_t hit_room;
};

int xs_watches_init(struct xs_watches *watches);
void xs_watches_clear(struct xs_watches *watches);

/* The connection's watch of that path and token, or NULL. */
struct xs_watch *xs_watch_find(const struct xs_watches *watches,
                               const struct xs_conn *conn,
                               const struct xs_path *path, const char *token,
                               size_t token_len);

/* A new watch, in the lists of its path and its connection; NULL. */
struct xs_watch *xs_watch_add(struct xs_watches *watches, struct xs_conn *conn,
                              const struct xs_path *path, const char *token,
                              size_t token_len, uint32_t depth);

/* Out of both lists, and freed. */
void xs_watch_remove(struct xs_watches *watches, struct xs_watch *watch);

/* What the watch counts for a memory quota, in bytes. */
size_t xs_watch_memory(const struct xs_watch *watch);

/* Queue an event of the watch for a path at or below its own. */
void xs_watch_report(struct xs_engine *engine, struct xs_cause *cause,
                     const struct xs_watch *watch, const char *path,
                     size_t len);

/* A change to tell; the lists say who may hear of it. */
struct xs_change {
    const char *path;
    size_t len;
    const struct xs_perms *perms;     /* as it is now; NULL: gone */
    const struct xs_perms *old_perms; /* before it changed; NULL: the same */
    bool exact; /* it went with its directory: only watches on itself hear */
};

void xs_watches_fire(struct xs_engine *engine, struct xs_cause *cause,
                     const struct xs_change *change);

/*
 * Tell `@introduceDomain` or `@releaseDomain`, without merging: two domains may have
 * gone. A watch on the name hears which domain only if it asked for depth; a watch
 * on `name/domid` hears of that domain alone.
 */
void xs_watches_fire_special(struct xs_engine *engine, struct xs_cause *cause,
                             const char *name, uint16_t domid);

#endif
