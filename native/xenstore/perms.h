/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Permission lists: who may read and write a node.
 *
 * A list is entries such as `n5`, `r0` (xenstore.txt SET_PERMS). The first names the
 * owner, who has every right, and its letter is for everybody who is not listed;
 * later ones grant to one domain each, the first match wins. Lists are shared by the
 * nodes that inherit them and never change once made.
 */
#ifndef XV_XENSTORE_PERMS_H
#define XV_XENSTORE_PERMS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum { XS_PERM_READ = 1, XS_PERM_WRITE = 2, XS_PERM_OWN = 4, XS_PERM_ALL = 7 };

enum { XS_DOMID_ANY = 0x7FF5, XS_NO_DOMID = 0xFFFF };

/*
 * An ignored entry named a domain that did not exist when it was set; it is listed,
 * but grants nothing to a later domain with that domid (XSA-417).
 */
struct xs_perm {
    uint16_t domid;
    uint8_t access;
    uint8_t ignored;
};

struct xs_perms {
    uint32_t refs;
    uint32_t count;
    struct xs_perm entry[];
};

/* A new list with one reference; NULL without memory. */
struct xs_perms *xs_perms_make(const struct xs_perm *entry, uint32_t count);
struct xs_perms *xs_perms_ref(struct xs_perms *perms);
void xs_perms_unref(struct xs_perms *perms);

/**
 * xs_perm_parse() - An entry from its wire form, as `b12`.
 *
 * Return: 0; -EINVAL.
 */
int xs_perm_parse(const char *text, struct xs_perm *perm);

/* The wire form with its NUL into @text, which has 8 bytes; returns its length. */
size_t xs_perm_print(const struct xs_perm *perm, char *text);

/* What @domid may do; a device model also has the rights of its @target. */
unsigned int xs_perms_rights(const struct xs_perms *perms, uint16_t domid,
                             uint16_t target);

/*
 * The list of a new node below one with @perms; @creator becomes its owner, or
 * XS_NO_DOMID leaves the owner as it is. One reference is the caller's; NULL.
 */
struct xs_perms *xs_perms_inherit(struct xs_perms *perms, uint16_t creator);

bool xs_perms_name(const struct xs_perms *perms, uint16_t domid);

/* The list without any right of @domid; what it owned is domain 0's. */
struct xs_perms *xs_perms_without(const struct xs_perms *perms, uint16_t domid);

#endif
