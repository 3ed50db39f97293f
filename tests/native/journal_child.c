/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * A process with a journal, for test_journal_kill.py: journal_child PATH MODE
 * [AFTER_US]. It ends with 0, or with 1 and the failed call on standard error.
 * AFTER_US microseconds after its start a timer kills it (-9), wherever it is
 * by then; another process would tend to do so right after a write to it.
 *
 *   stream   commits 1, 2, 3 ..., and tells of every eighth by its number,
 *            8 bytes on standard output
 *   rewrite  the same, and every 50 commits writes the journal anew; AFTER_US
 *            count from the third time
 *   fill     commits until there is no space, and prints the last one's number
 *   exec     commits 1 to 100 and becomes `count`
 *   count    prints how many nodes the journal puts
 *   add      opens the journal 300 times, waiting for whoever else has it, and
 *            each time replaces it by one whose first note is one more; prints
 *            the last
 *
 * Commit N is: the node /n/N with generation N, permission N % 4 for domain
 * N % 8 and N % 40 bytes of N % 256; the directory /n with generation N; and
 * for each seventh that /n/(N - 3) is gone.
 */
#include <errno.h>
#include <inttypes.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "journal.h"

enum { TOLD = 8, REWRITTEN = 50, FILLERS = 100, ADDITIONS = 300 };
enum { NOTE_BASE = 1, NOTE_FILLER = 2 };

static void must(int error, const char *what)
{
    if (error == 0)
        return;
    fprintf(stderr, "%s: %s\n", what, strerror(-error));
    exit(1);
}

static int commit(struct xs_journal *journal, uint64_t n)
{
    struct xs_perm perm = {.domid = n % 8, .access = n % 4};
    char path[32], gone[32];
    uint8_t value[40];
    size_t len = (size_t)sprintf(path, "/n/%" PRIu64, n);
    size_t gone_len = (size_t)sprintf(gone, "/n/%" PRIu64, n - 3);
    int error = xs_journal_reserve(
        journal, xs_journal_room(len, 1, n % 40) + xs_journal_room(2, 0, 0) +
                     xs_journal_room(gone_len, 0, 0));

    if (error != 0)
        return error;
    memset(value, (int)(n % 256), sizeof(value));
    xs_journal_put(journal, path, len, n, &perm, 1, value, n % 40);
    xs_journal_touch(journal, "/n", 2, n);
    if (n % 7 == 0)
        xs_journal_drop(journal, gone, gone_len);
    xs_journal_commit(journal);
    return 0;
}

/* All that was before commit @base + 1, as one note and some more. */
static void rewrite(struct xs_journal **journal, uint64_t base)
{
    struct xs_journal *fresh;

    must(xs_journal_rewrite(*journal, &fresh), "rewrite");
    must(xs_journal_reserve(fresh, (FILLERS + 1) *
                                       xs_journal_room(0, 0, sizeof(base))),
         "reserve");
    xs_journal_note(fresh, NOTE_BASE, &base, sizeof(base));
    for (unsigned int i = 0; i < FILLERS; i++)
        xs_journal_note(fresh, NOTE_FILLER, &base, sizeof(base));
    must(xs_journal_replace(journal, fresh), "replace");
}

static void be_killed(long after_us)
{
    struct sigevent event = {
        .sigev_notify = SIGEV_SIGNAL, .sigev_signo = SIGKILL};
    struct itimerspec at = {.it_value = {.tv_nsec = after_us * 1000}};
    timer_t timer;

    if (timer_create(CLOCK_MONOTONIC, &event, &timer) < 0 ||
        timer_settime(timer, 0, &at, NULL) < 0)
        must(-errno, "timer");
}

static void stream(struct xs_journal *journal, bool rewriting, long after_us)
{
    for (uint64_t n = 1;; n++) {
        must(commit(journal, n), "commit");
        if (n % TOLD == 0 && write(STDOUT_FILENO, &n, sizeof(n)) != sizeof(n))
            exit(1);
        if (rewriting && n == 3 * REWRITTEN)
            be_killed(after_us);
        if (rewriting && n % REWRITTEN == 0)
            rewrite(&journal, n);
    }
}

static void fill(struct xs_journal *journal)
{
    uint64_t n = 0;
    int error;

    do
        error = commit(journal, ++n);
    while (error == 0);
    must(error == -ENOSPC ? 0 : error, "fill");
    printf("%" PRIu64 "\n", n - 1);
}

static int on_put(void *ctx, const char *path, size_t path_len,
                  uint64_t generation, const struct xs_perm *perms,
                  uint32_t count, const void *value, size_t value_len)
{
    (void)path, (void)path_len, (void)generation, (void)perms, (void)count;
    (void)value, (void)value_len;
    ++*(uint64_t *)ctx;
    return 0;
}

static int on_touch(void *ctx, const char *path, size_t path_len,
                    uint64_t generation)
{
    (void)ctx, (void)path, (void)path_len, (void)generation;
    return 0;
}

static int on_drop(void *ctx, const char *path, size_t path_len)
{
    (void)ctx, (void)path, (void)path_len;
    return 0;
}

static void count(struct xs_journal *journal)
{
    static const struct xs_journal_sink sink = {
        .put = on_put, .touch = on_touch, .drop = on_drop};
    uint64_t puts = 0;

    must(xs_journal_replay(journal, &sink, &puts), "replay");
    printf("%" PRIu64 "\n", puts);
}

static int on_note(void *ctx, uint32_t kind, const void *data, size_t len)
{
    if (kind == NOTE_BASE)
        memcpy(ctx, data, len);
    return 0;
}

static void add(const char *path)
{
    static const struct xs_journal_sink sink = {.note = on_note};
    uint64_t base;

    for (unsigned int i = 0; i < ADDITIONS; i++) {
        struct xs_journal *journal;
        int error;

        while ((error = xs_journal_open(path, &journal, NULL)) == -EBUSY)
            sched_yield();
        must(error, "open");
        base = 0;
        must(xs_journal_replay(journal, &sink, &base), "replay");
        rewrite(&journal, ++base);
        xs_journal_close(journal);
    }
    printf("%" PRIu64 "\n", base);
}

int main(int argc, char **argv)
{
    const char *path = argv[1], *mode = argc > 2 ? argv[2] : "";
    long after_us = argc > 3 ? atol(argv[3]) : 0;
    struct xs_journal *journal;

    if (strcmp(mode, "stream") == 0)
        be_killed(after_us);
    if (strcmp(mode, "add") == 0) {
        add(path);
        return 0;
    }
    must(xs_journal_open(path, &journal, NULL), "open");
    if (strcmp(mode, "stream") == 0 || strcmp(mode, "rewrite") == 0)
        stream(journal, mode[0] == 'r', after_us);
    if (strcmp(mode, "fill") == 0)
        fill(journal);
    if (strcmp(mode, "count") == 0)
        count(journal);
    if (strcmp(mode, "exec") == 0) {
        for (uint64_t n = 1; n <= 100; n++)
            must(commit(journal, n), "commit");
        execl(argv[0], argv[0], path, "count", (char *)NULL);
        must(-errno, "exec");
    }
    xs_journal_close(journal);
    return 0;
}
