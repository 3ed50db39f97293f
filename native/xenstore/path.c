/* SPDX-License-Identifier: BSD-2-Clause */
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "path.h"

static uint32_t first_hash = 2166136261u;

/* Domains choose their paths, so the buckets must not be theirs to foresee. */
void xs_path_seed(uint32_t seed)
{
    first_hash = seed;
}

uint32_t xs_path_hash_begin(void)
{
    return first_hash;
}

uint32_t xs_path_hash_more(uint32_t hash, const char *text, size_t len)
{
    for (size_t i = 0; i < len; i++)
        hash = (hash ^ (uint8_t)text[i]) * 16777619u;
    return hash;
}

static bool is_name_char(char c)
{
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') ||
           (c >= '0' && c <= '9') || c == '-' || c == '_' || c == '@';
}

/* Names between single slashes, nothing after a trailing one. */
static bool is_valid(const char *text, size_t len)
{
    bool slash = false;

    for (size_t i = 0; i < len; i++) {
        if (text[i] == '/') {
            if (slash)
                return false;
            slash = true;
        } else if (is_name_char(text[i])) {
            slash = false;
        } else {
            return false;
        }
    }
    return len > 0 && (!slash || (len == 1 && text[0] == '/'));
}

int xs_path_parse(struct xs_path *path, const char *sent, size_t len,
                  uint16_t domid, bool special)
{
    path->special = len > 0 && sent[0] == '@';
    path->skip = 0;
    if (!is_valid(sent, len) || (path->special && !special))
        return -EINVAL;
    if (sent[0] == '/') {
        if (len > XS_ABS_PATH_MAX)
            return -EINVAL;
        path->text = sent;
    } else if (len > XS_REL_PATH_MAX) {
        return -EINVAL;
    } else if (path->special) {
        path->text = sent;
    } else {
        path->skip = (uint16_t)sprintf(path->buffer, "/local/domain/%u/",
                                       (unsigned int)domid);
        memcpy(path->buffer + path->skip, sent, len);
        path->buffer[path->skip + len] = '\0';
        path->text = path->buffer;
    }
    path->len = (uint16_t)(path->skip + len);
    path->hash = xs_path_hash(path->text, path->len);
    return 0;
}

size_t xs_path_quota_len(const char *text, size_t len)
{
    static const char prefix[] = "/local/domain/";
    size_t at = sizeof(prefix) - 1;
    size_t digits = 0;

    if (len <= at || memcmp(text, prefix, at) != 0)
        return len;
    while (at + digits < len && text[at + digits] >= '0' &&
           text[at + digits] <= '9')
        digits++;
    if (digits < 1 || digits > 5 || at + digits >= len ||
        text[at + digits] != '/')
        return len;
    return len - at - digits - 1;
}

size_t xs_path_parent_len(const char *text, size_t len)
{
    if (xs_path_is_root(len))
        return 0;
    while (len > 1 && text[len - 1] != '/')
        len--;
    return len > 1 ? len - 1 : 1;
}

const char *xs_path_name(const char *text, size_t len)
{
    while (len > 0 && text[len - 1] != '/')
        len--;
    return text + len;
}
