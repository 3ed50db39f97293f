/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The journal's records. Each begins at a multiple of 8 bytes and carries a sum
 * that goes on from the sum of the one before it, so that a byte that has
 * changed, and a record that is missing or out of its place, is found.
 */
#include <errno.h>
#include <string.h>

#include "journal_file.h"

enum kind { PUT = 1, TOUCH, DROP, NOTE };

/* Behind it: perms, path, value, and zeros up to a multiple of 8. */
struct record {
    uint64_t sum;    /* of all that follows */
    uint32_t len;    /* of the record with this, without the zeros */
    uint32_t kind;   /* enum kind */
    uint64_t number; /* the generation; of a note its kind */
    uint32_t path_len;
    uint32_t perms;  /* entries */
};

_Static_assert(sizeof(struct record) == 32 && sizeof(struct xs_perm) == 4,
               "neither has holes, which would come out of the stack");

/* What a record says. */
struct content {
    uint64_t number;
    const struct xs_perm *perms;
    uint32_t count;
    const char *path;
    size_t path_len;
    const void *value;
    size_t value_len;
};

static uint64_t filled(uint64_t len)
{
    return (len + XS_JOURNAL_UNIT - 1) / XS_JOURNAL_UNIT * XS_JOURNAL_UNIT;
}

/**
 * sum_of() - The checksum of a record.
 * @before:	That of the record before it
 *
 * A step is one-to-one in the sum and in the word, so that a change within one
 * aligned word is found for certain, and any other but for one in 2^64.
 */
static uint64_t sum_of(const struct record *record, uint64_t before)
{
    const uint8_t *at = (const uint8_t *)record + sizeof(record->sum);
    const uint8_t *end = (const uint8_t *)record + filled(record->len);
    uint64_t sum = before, word;

    for (; at < end; at += sizeof(word)) {
        memcpy(&word, at, sizeof(word));
        sum ^= word;
        sum = (sum << 29 | sum >> 35) * UINT64_C(0x9E3779B97F4A7C15);
    }
    return sum;
}

/* ---- into the file ---- */

size_t xs_journal_room(size_t path_len, uint32_t count, size_t value_len)
{
    return sizeof(struct record) + count * sizeof(struct xs_perm) + path_len +
           value_len + XS_JOURNAL_UNIT - 1;
}

static uint8_t *put(uint8_t *to, const void *from, size_t len)
{
    if (len > 0)
        memcpy(to, from, len);
    return to + len;
}

static void append(struct xs_journal *journal, enum kind kind,
                   const struct content *content)
{
    size_t room = xs_journal_room(content->path_len, content->count,
                                  content->value_len);
    size_t len = room - (XS_JOURNAL_UNIT - 1);
    struct record *record;
    uint8_t *to;

    if (len > UINT32_MAX || xs_journal_reserve(journal, room) != 0) {
        journal->broken = true;
        return;
    }
    record = (struct record *)(journal->map + journal->end);
    record->len = (uint32_t)len;
    record->kind = kind;
    record->number = content->number;
    record->path_len = (uint32_t)content->path_len;
    record->perms = content->count;
    to = put((uint8_t *)(record + 1), content->perms,
             content->count * sizeof(*content->perms));
    to = put(to, content->path, content->path_len);
    to = put(to, content->value, content->value_len);
    memset(to, 0, filled(len) - len);
    record->sum = journal->sum = sum_of(record, journal->sum);
    journal->end += filled(len);
}

void xs_journal_put(struct xs_journal *journal, const char *path,
                    size_t path_len, uint64_t generation,
                    const struct xs_perm *perms, uint32_t count,
                    const void *value, size_t value_len)
{
    append(journal, PUT,
           &(struct content){
               .number = generation,
               .perms = perms,
               .count = count,
               .path = path,
               .path_len = path_len,
               .value = value,
               .value_len = value_len,
           });
}

void xs_journal_touch(struct xs_journal *journal, const char *path,
                      size_t path_len, uint64_t generation)
{
    append(journal, TOUCH,
           &(struct content){
               .number = generation,
               .path = path,
               .path_len = path_len,
           });
}

void xs_journal_drop(struct xs_journal *journal, const char *path,
                     size_t path_len)
{
    append(journal, DROP,
           &(struct content){.path = path, .path_len = path_len});
}

void xs_journal_note(struct xs_journal *journal, uint32_t kind,
                     const void *data, size_t len)
{
    append(journal, NOTE,
           &(struct content){.number = kind, .value = data, .value_len = len});
}

void xs_journal_commit(struct xs_journal *journal)
{
    if (journal->broken || journal->end == journal->tail)
        return;
    journal->tail = journal->end;
    /* Whoever takes over sees the records /before/ the tail behind them. */
    __atomic_store_n(&xs_journal_head(journal)->tail,
                     xs_journal_tail(journal->end, journal->sum),
                     __ATOMIC_RELEASE);
}

/* ---- out of the file ---- */

static bool are_perms(const struct xs_perm *perms, uint32_t count)
{
    for (uint32_t i = 0; i < count; i++)
        if (perms[i].access > (XS_PERM_READ | XS_PERM_WRITE) ||
            perms[i].ignored > 1)
            return false;
    return true;
}

/**
 * fault() - What keeps a record from being one.
 * @left:	Bytes up to the tail
 * @before:	Sum of the record before it
 *
 * Return: NULL if nothing does.
 */
static const char *fault(const struct record *record, uint64_t left,
                         uint64_t before)
{
    if (left < sizeof(*record) || record->len < sizeof(*record) ||
        filled(record->len) > left)
        return "length of a record";
    if (record->sum != sum_of(record, before))
        return "checksum of a record";
    if (record->kind < PUT || record->kind > NOTE)
        return "kind of a record";
    if (sizeof(*record) + (uint64_t)record->perms * sizeof(struct xs_perm) +
            record->path_len >
        record->len)
        return "lengths within a record";
    if (!are_perms((const struct xs_perm *)(record + 1), record->perms))
        return "permission in a record";
    return NULL;
}

int xs_journal_check(struct xs_journal *journal,
                     struct xs_journal_damage *damage)
{
    while (journal->end < journal->tail) {
        const struct record *record =
            (const struct record *)(journal->map + journal->end);
        const char *what =
            fault(record, journal->tail - journal->end, journal->sum);

        if (what != NULL) {
            *damage = (struct xs_journal_damage){journal->end, what};
            return -EILSEQ;
        }
        journal->sum = record->sum;
        journal->end += filled(record->len);
    }
    if (xs_journal_head(journal)->tail ==
        xs_journal_tail(journal->end, journal->sum))
        return 0;
    *damage = (struct xs_journal_damage){
        offsetof(struct xs_journal_head, tail), "tail"};
    return -EILSEQ;
}

static struct content content_of(const struct record *record)
{
    const struct xs_perm *perms = (const struct xs_perm *)(record + 1);
    const char *path = (const char *)(perms + record->perms);
    const char *value = path + record->path_len;

    return (struct content){
        .number = record->number,
        .perms = perms,
        .count = record->perms,
        .path = path,
        .path_len = record->path_len,
        .value = value,
        .value_len = (size_t)((const char *)record + record->len - value),
    };
}

static int give(const struct record *record, const struct xs_journal_sink *sink,
                void *ctx)
{
    struct content c = content_of(record);

    switch ((enum kind)record->kind) {
    case PUT:
        return sink->put(ctx, c.path, c.path_len, c.number, c.perms, c.count,
                         c.value, c.value_len);
    case TOUCH:
        return sink->touch(ctx, c.path, c.path_len, c.number);
    case DROP:
        return sink->drop(ctx, c.path, c.path_len);
    case NOTE:
        return sink->note(ctx, (uint32_t)c.number, c.value, c.value_len);
    }
    return -EILSEQ;
}

int xs_journal_replay(struct xs_journal *journal,
                      const struct xs_journal_sink *sink, void *ctx)
{
    int error = 0;

    for (uint64_t at = sizeof(struct xs_journal_head);
         error == 0 && at < journal->tail;) {
        const struct record *record =
            (const struct record *)(journal->map + at);

        error = give(record, sink, ctx);
        at += filled(record->len);
    }
    return error;
}

bool xs_journal_empty(const struct xs_journal *journal)
{
    return xs_journal_size(journal) == 0;
}

uint64_t xs_journal_size(const struct xs_journal *journal)
{
    return journal->tail - sizeof(struct xs_journal_head);
}
