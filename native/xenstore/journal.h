/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * What makes the store outlive its process: a file, mapped shared, to which
 * every change is appended. A record counts once `tail` in the file's head has
 * moved past it, which is one aligned store: a process that is killed between
 * any two instructions leaves a request's changes there as a whole or not at
 * all. No system call is made for a change; what survives is what the kernel
 * holds. A crash of the machine does not leave that: on a disk, what it leaves
 * may be refused as damaged.
 *
 * The file is locked (flock) as long as it is open, and found by its path by
 * whoever takes over: after a kill, as soon as the process has been waited for;
 * in a live update by the new image, as execve() closes the old one's
 * descriptor and unmaps the file, which lets the lock go. A child that is
 * forked must exec or end, or it keeps the lock.
 *
 * A directory that is moved takes the file along. Once the file or its
 * directory is deleted, or the name means another file, nobody finds the
 * journal any more; it goes on all the same, rewriting included, as a file
 * without a name.
 *
 * The journal knows nothing of nodes beyond the bytes that it is given. An
 * object may be used by one thread at a time.
 */
#ifndef XV_XENSTORE_JOURNAL_H
#define XV_XENSTORE_JOURNAL_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "perms.h"

struct xs_journal;

/*
 * Who takes the records of xs_journal_replay(). Each returns 0 or -errno. What
 * @path, @perms, @value and @data point to is the journal's, during the call; a
 * path has no NUL at its end.
 */
struct xs_journal_sink {
    /* The node has this content now; made, last in its directory, if new. */
    int (*put)(void *ctx, const char *path, size_t path_len,
               uint64_t generation, const struct xs_perm *perms, uint32_t count,
               const void *value, size_t value_len);
    /* The node's generation is this now: a child came or went. */
    int (*touch)(void *ctx, const char *path, size_t path_len,
                 uint64_t generation);
    /* The node and all below it are gone. */
    int (*drop)(void *ctx, const char *path, size_t path_len);
    /* Something else that the owner of the journal wrote, kind and bytes. */
    int (*note)(void *ctx, uint32_t kind, const void *data, size_t len);
};

/* Where a file cannot be a journal: a byte, and what is wrong there. */
struct xs_journal_damage {
    uint64_t at;
    const char *what; /* a constant, as "length of a record" */
};

/**
 * xs_journal_open() - Open a journal, made if it is missing or an empty file.
 * @path:	The file, mode 0600 if made; no symbolic link. What a
 *		rewrite left, @path.xenvirt-new, is removed
 * @journal:	New object (output), for xs_journal_close()
 * @damage:	Set for -EILSEQ (output); NULL if nobody asks
 *
 * What was appended after the last commit is cut off.
 *
 * Return: 0; -EBUSY while another object or process has the file open; -EILSEQ
 * when it is no journal, another version's, or damaged before its tail; -ELOOP
 * for a symbolic link; -errno.
 */
int xs_journal_open(const char *path, struct xs_journal **journal,
                    struct xs_journal_damage *damage);

/* Let the file go, without what was not committed; NULL is fine. */
void xs_journal_close(struct xs_journal *journal);

/* Whether nothing was ever committed. */
bool xs_journal_empty(const struct xs_journal *journal);

/*
 * Give every committed record to @sink, oldest first; the first error ends it.
 * The sink leaves the journal alone.
 */
int xs_journal_replay(struct xs_journal *journal,
                      const struct xs_journal_sink *sink, void *ctx);

/**
 * xs_journal_reserve() - See to it that @bytes can be appended without failing.
 * @bytes:	Sum of xs_journal_room() of the records; what was reserved and not
 *		used before is counted in
 *
 * Return: 0; -ENOSPC, and the journal is as it was.
 */
int xs_journal_reserve(struct xs_journal *journal, size_t bytes);

/*
 * Bytes to reserve at most for one record with a path, @count perms and a
 * value; or for a note of @value_len bytes.
 */
size_t xs_journal_room(size_t path_len, uint32_t count, size_t value_len);

/*
 * Append; none of them can fail once there is room. Without, it is found if it
 * can be; if not, the record is lost, and so that nothing false ever counts, no
 * commit has an effect from then on and xs_journal_reserve() fails: only a
 * journal that is written anew gets out of it.
 */
void xs_journal_put(struct xs_journal *journal, const char *path,
                    size_t path_len, uint64_t generation,
                    const struct xs_perm *perms, uint32_t count,
                    const void *value, size_t value_len);
void xs_journal_touch(struct xs_journal *journal, const char *path,
                      size_t path_len, uint64_t generation);
void xs_journal_drop(struct xs_journal *journal, const char *path,
                     size_t path_len);
void xs_journal_note(struct xs_journal *journal, uint32_t kind,
                     const void *data, size_t len);

/* Everything appended so far is true from now on, at once. */
void xs_journal_commit(struct xs_journal *journal);

/* Bytes committed since the journal was made or last rewritten. */
uint64_t xs_journal_size(const struct xs_journal *journal);

/**
 * xs_journal_rewrite() - Begin a shorter journal beside this one.
 * @fresh:	New object (output)
 *
 * The caller appends what is true to @fresh and ends with xs_journal_replace(),
 * or gives up with xs_journal_abandon().
 *
 * Return: 0; -errno.
 */
int xs_journal_rewrite(struct xs_journal *journal, struct xs_journal **fresh);

/**
 * xs_journal_replace() - Put what is in @fresh in the place of the journal.
 * @journal:	The old one, closed; from now on @fresh (input, output)
 *
 * Commits @fresh. Whoever opens the path finds either of them whole, at any
 * moment.
 *
 * Return: 0; -errno, and *@journal is as it was and @fresh is gone.
 */
int xs_journal_replace(struct xs_journal **journal, struct xs_journal *fresh);
void xs_journal_abandon(struct xs_journal *fresh);

#endif
