/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The journal as a file that is memory: its head, its lock, its name and its
 * length. journal.c fills it with records.
 */
#ifndef XV_XENSTORE_JOURNAL_FILE_H
#define XV_XENSTORE_JOURNAL_FILE_H

#include "journal.h"

/* What a file begins with, in the machine's byte order; records follow. */
struct xs_journal_head {
    uint8_t magic[12];
    uint32_t version;
    /*
     * Where the last committed record ends, in units of 8 bytes, below the
     * upper 24 bits of its sum: one word that is right or is not, stored with
     * release order after all that it speaks of.
     */
    uint64_t tail;
};

enum { XS_JOURNAL_UNIT = 8, XS_JOURNAL_TAIL_BITS = 40 };

#define XS_JOURNAL_TAIL_MASK ((UINT64_C(1) << XS_JOURNAL_TAIL_BITS) - 1)
#define XS_JOURNAL_MAX (XS_JOURNAL_UNIT * XS_JOURNAL_TAIL_MASK)

_Static_assert(sizeof(struct xs_journal_head) % XS_JOURNAL_UNIT == 0 &&
                   offsetof(struct xs_journal_head, tail) % 8 == 0,
               "records and the tail are aligned");

struct xs_journal {
    uint8_t *map;    /* the first @room bytes of the file */
    uint64_t room;   /* bytes that the file system has promised to keep */
    uint64_t end;    /* where the next record begins */
    uint64_t tail;   /* where it began at the last commit */
    uint64_t sum;    /* of the last record before @end */
    bool broken;     /* a record before @end is missing */
    int fd;
    int dir;         /* the file's directory, wherever it is by now */
    char *name;      /* in @dir */
    char *new_name;  /* of a journal that is to take its place */
};

static inline struct xs_journal_head *
xs_journal_head(const struct xs_journal *journal)
{
    return (struct xs_journal_head *)journal->map;
}

/* The head's tail for a journal that ends at @end after a record with @sum. */
static inline uint64_t xs_journal_tail(uint64_t end, uint64_t sum)
{
    return sum >> XS_JOURNAL_TAIL_BITS << XS_JOURNAL_TAIL_BITS |
           end / XS_JOURNAL_UNIT;
}

/**
 * xs_journal_check() - Look at every record before the tail of a mapped file.
 * @damage:	Set for -EILSEQ (output)
 *
 * From then on the journal can be replayed and appended to.
 *
 * Return: 0; -EILSEQ.
 */
int xs_journal_check(struct xs_journal *journal,
                     struct xs_journal_damage *damage);

#endif
