/* SPDX-License-Identifier: BSD-2-Clause */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "perms.h"

enum { TEXT_MAX = 8, DOMID_DIGITS = 5 };

/* At an access, which is XS_PERM_READ and _WRITE or neither, is its letter. */
static const char letters[] = "nrwb";

struct xs_perms *xs_perms_make(const struct xs_perm *entry, uint32_t count)
{
    struct xs_perms *perms = malloc(sizeof(*perms) + count * sizeof(*entry));

    if (perms == NULL)
        return NULL;
    perms->refs = 1;
    perms->count = count;
    memcpy(perms->entry, entry, count * sizeof(*entry));
    return perms;
}

struct xs_perms *xs_perms_ref(struct xs_perms *perms)
{
    perms->refs++;
    return perms;
}

void xs_perms_unref(struct xs_perms *perms)
{
    if (--perms->refs == 0)
        free(perms);
}

int xs_perm_parse(const char *text, struct xs_perm *perm)
{
    const char *letter = text[0] == '\0' ? NULL : strchr(letters, text[0]);
    const char *digit = text + 1;
    uint32_t domid = 0;

    if (letter == NULL || *digit == '\0')
        return -EINVAL;
    for (; *digit != '\0'; digit++) {
        if (*digit < '0' || *digit > '9' || digit - text > DOMID_DIGITS)
            return -EINVAL;
        domid = 10 * domid + (uint32_t)(*digit - '0');
    }
    if (domid > UINT16_MAX)
        return -EINVAL;
    *perm = (struct xs_perm){
        .domid = (uint16_t)domid,
        .access = (uint8_t)(letter - letters),
    };
    return 0;
}

size_t xs_perm_print(const struct xs_perm *perm, char *text)
{
    int len = snprintf(text, TEXT_MAX, "%c%u",
                       letters[perm->access & (XS_PERM_READ | XS_PERM_WRITE)],
                       (unsigned int)perm->domid);

    return (size_t)len + 1;
}

/* Whether it is about @domid or its @target; XS_NO_DOMID is nobody's. */
static bool is_about(const struct xs_perm *entry, uint16_t domid,
                     uint16_t target)
{
    return entry->domid != XS_NO_DOMID &&
           (entry->domid == domid || entry->domid == target);
}

unsigned int xs_perms_rights(const struct xs_perms *perms, uint16_t domid,
                             uint16_t target)
{
    if (is_about(&perms->entry[0], domid, target))
        return XS_PERM_ALL;
    for (uint32_t i = 1; i < perms->count; i++) {
        const struct xs_perm *entry = &perms->entry[i];

        if (!entry->ignored && (is_about(entry, domid, target) ||
                                entry->domid == XS_DOMID_ANY))
            return entry->access;
    }
    return perms->entry[0].access;
}

struct xs_perms *xs_perms_inherit(struct xs_perms *perms, uint16_t creator)
{
    struct xs_perms *own;

    if (creator == XS_NO_DOMID || perms->entry[0].domid == creator)
        return xs_perms_ref(perms);
    own = xs_perms_make(perms->entry, perms->count);
    if (own != NULL)
        own->entry[0] = (struct xs_perm){
            .domid = creator, .access = perms->entry[0].access};
    return own;
}

bool xs_perms_name(const struct xs_perms *perms, uint16_t domid)
{
    for (uint32_t i = 0; i < perms->count; i++)
        if (perms->entry[i].domid == domid)
            return true;
    return false;
}

struct xs_perms *xs_perms_without(const struct xs_perms *perms, uint16_t domid)
{
    struct xs_perms *rest = xs_perms_make(perms->entry, perms->count);
    uint32_t kept = 1;

    if (rest == NULL)
        return NULL;
    if (rest->entry[0].domid == domid)
        rest->entry[0].domid = 0;
    for (uint32_t i = 1; i < perms->count; i++)
        if (perms->entry[i].domid != domid)
            rest->entry[kept++] = perms->entry[i];
    rest->count = kept;
    return rest;
}
