/* SPDX-License-Identifier: BSD-2-Clause */
/* Grant table version 1 (grant_table.h), in the subset of C that cffi reads. */
#ifndef XV_ABI_GRANT_TABLE_H
#define XV_ABI_GRANT_TABLE_H

#include <stdint.h>

enum {
    GTF_invalid = 0,
    GTF_permit_access = 1,
    GTF_accept_transfer = 2,
    GTF_type_mask = 3,
    GTF_readonly = 4,
    GTF_reading = 8,  /* in use: set and cleared by who maps */
    GTF_writing = 16, /* in use for writing */

    GNTST_okay = 0,
    GNTST_general_error = -1,
    GNTST_bad_domain = -2,
    GNTST_bad_gntref = -3,
    GNTST_bad_handle = -4,
    GNTST_bad_copy_arg = -10
};

struct grant_entry_v1 {
    uint16_t flags; /* GTF_* */
    uint16_t domid; /* who may use it */
    uint32_t frame; /* page number in the granter's memory */
};

#endif
