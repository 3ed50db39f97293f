/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The journal's file. Only who has locked the file that PATH names may write to
 * it, or touch PATH.xenvirt-new.
 */
#define _GNU_SOURCE /* mremap, memfd_create, O_PATH */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "journal_file.h"

enum {
    VERSION = 1,
    FIRST_ROOM = 256 * 1024,
    MAX_STEP = 4 * 1024 * 1024, /* half a millisecond of the kernel's time */
    PAGE = 4096,
    OPEN_TRIES = 8,
};

static const struct xs_journal_head new_head = {
    .magic = "xenvirt xs\r\n", /* 12 bytes: the NUL is cut off */
    .version = VERSION,
    .tail = sizeof(struct xs_journal_head) / XS_JOURNAL_UNIT,
};

static int damaged(struct xs_journal_damage *damage, uint64_t at,
                   const char *what)
{
    *damage = (struct xs_journal_damage){at, what};
    return -EILSEQ;
}

/* ---- the object ---- */

/* One that is not open yet; takes @dir, also if it fails. */
static struct xs_journal *new_object(int dir, const char *name)
{
    struct xs_journal *journal = calloc(1, sizeof(*journal));

    if (journal == NULL) {
        close(dir);
        return NULL;
    }
    journal->fd = -1;
    journal->dir = dir;
    journal->map = MAP_FAILED;
    journal->end = journal->tail = sizeof(new_head);
    journal->name = strdup(name);
    if (asprintf(&journal->new_name, "%s.xenvirt-new", name) < 0)
        journal->new_name = NULL;
    if (journal->name == NULL || journal->new_name == NULL) {
        xs_journal_close(journal);
        return NULL;
    }
    return journal;
}

void xs_journal_close(struct xs_journal *journal)
{
    if (journal == NULL)
        return;
    if (journal->map != MAP_FAILED)
        munmap(journal->map, journal->room);
    if (journal->fd >= 0) {
        /* At once, even if a child that was just forked has it for a moment. */
        flock(journal->fd, LOCK_UN);
        close(journal->fd);
    }
    close(journal->dir);
    free(journal->name);
    free(journal->new_name);
    free(journal);
}

/* The directory of a path, and what it is called there (output). */
static int open_dir(const char *path, const char **name)
{
    const char *slash = strrchr(path, '/');
    char *dir;
    int fd;

    *name = slash == NULL ? path : slash + 1;
    if (slash == NULL)
        dir = strdup(".");
    else
        dir = strndup(path, slash == path ? 1 : (size_t)(slash - path));
    if (dir == NULL)
        return -ENOMEM;
    fd = open(dir, O_PATH | O_DIRECTORY | O_CLOEXEC);
    if (fd < 0)
        fd = -errno;
    free(dir);
    return fd;
}

/* Whether the file is what @name means. */
static bool is_named(const struct xs_journal *journal, const char *name)
{
    struct stat named, file;

    return fstatat(journal->dir, name, &named, AT_SYMLINK_NOFOLLOW) == 0 &&
           fstat(journal->fd, &file) == 0 && named.st_dev == file.st_dev &&
           named.st_ino == file.st_ino;
}

static int lock(const struct xs_journal *journal)
{
    if (flock(journal->fd, LOCK_EX | LOCK_NB) == 0)
        return 0;
    return errno == EWOULDBLOCK ? -EBUSY : -errno;
}

/* ---- its length ---- */

/* The file has @room bytes, none of which a write could find no space for. */
static int allocate(const struct xs_journal *journal, uint64_t room)
{
    int error;

    do
        error = posix_fallocate(journal->fd, (off_t)journal->room,
                                (off_t)(room - journal->room));
    while (error == EINTR);
    return -error;
}

static int map(struct xs_journal *journal, uint64_t room)
{
    int error = allocate(journal, room);

    if (error != 0)
        return error;
    journal->map = mmap(NULL, room, PROT_READ | PROT_WRITE, MAP_SHARED,
                        journal->fd, 0);
    if (journal->map == MAP_FAILED)
        return -errno;
    journal->room = room;
    return 0;
}

static bool grow(struct xs_journal *journal, uint64_t room)
{
    uint8_t *wider;

    if (allocate(journal, room) != 0)
        return false;
    wider = mremap(journal->map, journal->room, room, MREMAP_MAYMOVE);
    if (wider == MAP_FAILED)
        return false;
    journal->map = wider;
    journal->room = room;
    return true;
}

int xs_journal_reserve(struct xs_journal *journal, size_t bytes)
{
    uint64_t wanted, room = FIRST_ROOM;

    if (journal->broken)
        return -ENOSPC;
    if (bytes <= journal->room - journal->end)
        return 0;
    if (bytes > XS_JOURNAL_MAX - journal->end)
        return -ENOSPC;
    wanted = journal->end + bytes;
    while (room < wanted)
        room += room < MAX_STEP ? room : MAX_STEP;
    if (grow(journal, room) ||
        grow(journal, (wanted + PAGE - 1) / PAGE * PAGE))
        return 0;
    return -ENOSPC;
}

/* ---- opening ---- */

static int make(struct xs_journal *journal)
{
    ssize_t written = pwrite(journal->fd, &new_head, sizeof(new_head), 0);

    if (written != sizeof(new_head))
        return written < 0 ? -errno : -ENOSPC;
    return map(journal, sizeof(new_head));
}

static int load(struct xs_journal *journal, uint64_t size,
                struct xs_journal_damage *damage)
{
    struct xs_journal_head head;
    ssize_t len = pread(journal->fd, &head, sizeof(head), 0);
    int error;

    if (len < 0)
        return -errno;
    if (len != sizeof(head))
        return damaged(damage, 0, "length of the file");
    if (memcmp(head.magic, new_head.magic, sizeof(head.magic)) != 0)
        return damaged(damage, 0, "no journal");
    if (head.version != VERSION)
        return damaged(damage, offsetof(struct xs_journal_head, version),
                       "version");
    journal->tail = (head.tail & XS_JOURNAL_TAIL_MASK) * XS_JOURNAL_UNIT;
    if (journal->tail < sizeof(head) || journal->tail > size)
        return damaged(damage, offsetof(struct xs_journal_head, tail), "tail");
    error = map(journal, journal->tail);
    return error == 0 ? xs_journal_check(journal, damage) : error;
}

static int open_locked(struct xs_journal *journal)
{
    for (unsigned int tries = 0; tries < OPEN_TRIES; tries++) {
        int error;

        journal->fd = openat(journal->dir, journal->name,
                             O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);
        if (journal->fd < 0)
            return -errno;
        error = lock(journal);
        if (error != 0 || is_named(journal, journal->name))
            return error;
        /* Whoever had it put another in its place before letting it go. */
        close(journal->fd);
        journal->fd = -1;
    }
    return -EBUSY;
}

static int open_object(struct xs_journal *journal,
                       struct xs_journal_damage *damage)
{
    struct stat file;
    int error = open_locked(journal);

    if (error != 0)
        return error;
    if (unlinkat(journal->dir, journal->new_name, 0) < 0 && errno != ENOENT)
        return -errno;
    if (fstat(journal->fd, &file) < 0)
        return -errno;
    if (!S_ISREG(file.st_mode))
        return damaged(damage, 0, "no regular file");
    /* An empty file is what a kill right after its making leaves. */
    return file.st_size == 0 ? make(journal)
                             : load(journal, (uint64_t)file.st_size, damage);
}

int xs_journal_open(const char *path, struct xs_journal **journal,
                    struct xs_journal_damage *damage)
{
    struct xs_journal_damage unwanted;
    struct xs_journal *new;
    const char *name;
    int error, dir = open_dir(path, &name);

    if (dir < 0)
        return dir;
    new = new_object(dir, name);
    if (new == NULL)
        return -ENOMEM;
    error = open_object(new, damage == NULL ? &unwanted : damage);
    if (error != 0) {
        xs_journal_close(new);
        return error;
    }
    *journal = new;
    return 0;
}

/* ---- a shorter one ---- */

/* Nobody will look for one whose path has come to mean something else. */
static int create_new(const struct xs_journal *journal)
{
    int fd;

    if (!is_named(journal, journal->name)) {
        fd = memfd_create(journal->name, MFD_CLOEXEC);
    } else {
        unlinkat(journal->dir, journal->new_name, 0);
        fd = openat(journal->dir, journal->new_name,
                    O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW, 0600);
    }
    return fd < 0 ? -errno : fd;
}

int xs_journal_rewrite(struct xs_journal *journal, struct xs_journal **fresh)
{
    int error, dir = fcntl(journal->dir, F_DUPFD_CLOEXEC, 0);
    struct xs_journal *new;

    if (dir < 0)
        return -errno;
    new = new_object(dir, journal->name);
    if (new == NULL)
        return -ENOMEM;
    new->fd = create_new(journal);
    error = new->fd < 0 ? new->fd : lock(new);
    if (error == 0)
        error = make(new);
    if (error != 0) {
        xs_journal_abandon(new);
        return error;
    }
    *fresh = new;
    return 0;
}

void xs_journal_abandon(struct xs_journal *fresh)
{
    if (fresh->fd >= 0 && is_named(fresh, fresh->new_name))
        unlinkat(fresh->dir, fresh->new_name, 0);
    xs_journal_close(fresh);
}

static int take_name(const struct xs_journal *old,
                     const struct xs_journal *fresh)
{
    if (fresh->broken)
        return -ENOSPC;
    if (is_named(old, old->name))
        return renameat(fresh->dir, fresh->new_name, old->dir, old->name) < 0
                   ? -errno
                   : 0;
    if (is_named(fresh, fresh->new_name))
        unlinkat(fresh->dir, fresh->new_name, 0);
    return 0;
}

int xs_journal_replace(struct xs_journal **journal, struct xs_journal *fresh)
{
    int error;

    xs_journal_commit(fresh);
    error = take_name(*journal, fresh);
    if (error != 0) {
        xs_journal_abandon(fresh);
        return error;
    }
    xs_journal_close(*journal);
    *journal = fresh;
    return 0;
}
