/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * A view of the store that becomes true at once, or not at all.
 *
 * Every node that a transaction touches is copied when it is first seen, with its
 * generation: what was read, what was changed, what was looked for and not found, and
 * the directory that a child came to or went from. It commits only if each of them
 * still has that generation; otherwise everything is dropped and the client gets
 * EAGAIN.
 *
 * Worked traces. A and B are transactions, S somebody outside of them; `a=3` is node a
 * at generation 3, `-` is a missing node.
 *
 * 1. Parallel, on other nodes: both commit.
 *        A: write /x/a     saw /x/a=3
 *        B: write /y/b     saw /y/b=4
 *        A: commit         /x/a is still 3: now /x/a=5
 *        B: commit         /y/b is still 4: now /y/b=6
 *
 * 2. Two children of one directory: the second is refused.
 *        A: mkdir /d/a     saw /d/a=-, /d=3
 *        B: mkdir /d/b     saw /d/b=-, /d=3
 *        A: commit         /d/a is missing, /d is 3: now /d=7
 *        B: commit         /d is 7, not 3: EAGAIN
 *
 * 3. Only reading is refused too, or it might act on values that never were together.
 *        A: read /a        saw /a=3
 *        S: write /a       now /a=7
 *        A: read /b        saw /b=4
 *        A: commit         /a is 7, not 3: EAGAIN
 *
 * 4. A node that was not there must still be missing.
 *        A: read /a        ENOENT, saw /a=-
 *        S: mkdir /a       now /a=7
 *        A: commit         /a is 7, not missing: EAGAIN
 *
 * 5. Created and removed within: others never see it, no quota is used.
 *        A: mkdir /d/a     saw /d/a=-, /d=3
 *        A: rm /d/a
 *        A: commit         now /d has a new generation, and no child
 */
#ifndef XV_XENSTORE_TRANSACTION_H
#define XV_XENSTORE_TRANSACTION_H

#include "store.h"

struct xs_record {
    struct xs_record *next;       /* in its bucket */
    struct xs_record *after;      /* in the order of first sight */
    struct xs_node *node;         /* the view's own copy; NULL: not there */
    struct xs_perms *seen_perms;  /* NULL: was not there */
    uint64_t seen;                /* generation; 0: was not there */
    uint64_t created;             /* generation of its creation here, or 0 */
    bool changed;
    bool fire;       /* the watches hear of it at commit */
    bool fire_exact; /* only those on the node itself */
    uint32_t hash;
    uint16_t path_len;
    char path[];
};

/* How many more nodes a domain would own after a commit. */
struct xs_delta {
    uint16_t domid;
    int32_t nodes;
};

struct xs_transaction {
    struct xs_transaction *next; /* of its connection */
    uint32_t id;
    uint32_t limit; /* records, as xs_quota_exceeded() */
    uint32_t count;
    uint32_t mask;
    struct xs_record **bucket;
    struct xs_record *first;
    struct xs_record **last;
    struct xs_delta *delta;
    uint32_t deltas;
    size_t memory;
    size_t memory_max; /* that its client may have in it now */
    bool failed;  /* a change could not be made as a whole: no commit */
    bool doomed;  /* names a domain that died since */
    bool created; /* made a node */
};

struct xs_transaction *xs_transaction_make(uint32_t id, uint32_t limit);
void xs_transaction_free(struct xs_transaction *tx);

/**
 * xs_transaction_see() - The view's record of a path, made at first sight.
 *
 * Return: 0; -ENOSPC when that would be too many, and the transaction will fail;
 * -ENOMEM, also when that would be too much of its client's memory.
 */
int xs_transaction_see(struct xs_transaction *tx, const struct xs_store *store,
                       const char *path, size_t len, uint32_t hash,
                       struct xs_record **record);

/* The record of a path that was seen, or NULL. */
struct xs_record *xs_transaction_find(const struct xs_transaction *tx,
                                      const char *path, size_t len,
                                      uint32_t hash);

void xs_transaction_charge(struct xs_transaction *tx, uint16_t domid,
                           int32_t nodes);
int32_t xs_transaction_owned(const struct xs_transaction *tx, uint16_t domid);

/* Refuse the commit if a changed node names a domain that died meanwhile. */
void xs_transaction_forget_domain(struct xs_transaction *tx, uint16_t domid);

/**
 * xs_transaction_commit() - Make the changes true.
 *
 * The records stay for whoever tells the watches.
 *
 * Return: 0; -EAGAIN if somebody else was faster; -ENOMEM if it has failed;
 * -ENOSPC when the journal has no room. Nothing has changed then.
 */
int xs_transaction_commit(struct xs_transaction *tx, struct xs_store *store);

#endif
