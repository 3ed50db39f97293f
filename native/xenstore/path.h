/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Paths: which are valid, what a relative one means, what lies above another
 * (xenstore.txt "Xenstore key values, paths"; limits: xs_wire.h).
 *
 * Inside the engine a path is canonical: absolute, or the name of an event such as
 * `@releaseDomain`, without a trailing slash.
 */
#ifndef XV_XENSTORE_PATH_H
#define XV_XENSTORE_PATH_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum { XS_ABS_PATH_MAX = 3072, XS_REL_PATH_MAX = 2048 };

/* A canonical path; @text is the sender's bytes, or @buffer for a relative one. */
struct xs_path {
    const char *text; /* ends with a NUL */
    uint32_t hash;    /* xs_path_hash() of it */
    uint16_t len;
    uint16_t skip; /* bytes that a relative path was sent without */
    bool special;  /* begins with '@' */
    char buffer[XS_REL_PATH_MAX + sizeof("/local/domain/65535/")];
};

/**
 * xs_path_parse() - Make a path canonical.
 * @sent:	What a client sent; stays there while @path is in use
 * @domid:	Who sent it: relative paths begin at its own domain path
 * @special:	Whether names of events may pass
 *
 * Return: 0; -EINVAL for a forbidden character, an empty component, or more than
 * 3072 bytes (absolute) or 2048 bytes (relative).
 */
int xs_path_parse(struct xs_path *path, const char *sent, size_t len,
                  uint16_t domid, bool special);

/* The bytes that a path-max quota counts: all after `/local/domain/N/`. */
size_t xs_path_quota_len(const char *text, size_t len);

/* Choose the start of every hash; before the first one. */
void xs_path_seed(uint32_t seed);

/* A hash that goes on: the one of `/a/b` is that of `/a` continued by `/b`. */
uint32_t xs_path_hash_begin(void);
uint32_t xs_path_hash_more(uint32_t hash, const char *text, size_t len);

static inline uint32_t xs_path_hash(const char *text, size_t len)
{
    return xs_path_hash_more(xs_path_hash_begin(), text, len);
}

/* The length of the path above; 1 for a child of the root, 0 for the root. */
size_t xs_path_parent_len(const char *text, size_t len);

/* The part after the last slash; the root has none. */
const char *xs_path_name(const char *text, size_t len);

static inline bool xs_path_is_root(size_t len)
{
    return len == 1;
}

#endif
