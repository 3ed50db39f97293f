/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * /dev/xen/evtchn, gntdev and gntalloc: the kernel's own headers, and the names of
 * Xen's that they need without declaring them.
 */
#ifndef XV_ABI_XEN_DEVICES_H
#define XV_ABI_XEN_DEVICES_H

#include <stdint.h>

typedef uint16_t domid_t;
typedef uint32_t grant_ref_t;

#include <xen/evtchn.h>
#include <xen/gntalloc.h>
#include <xen/gntdev.h>

/* flags of a gntdev_grant_copy_segment (grant_table.h) */
#define GNTCOPY_source_gref 1
#define GNTCOPY_dest_gref 2

#endif
