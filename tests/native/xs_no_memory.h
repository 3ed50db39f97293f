/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Allocations that fail now and then. The program is linked with
 * -Wl,--wrap=malloc,--wrap=calloc,--wrap=realloc.
 */
#ifndef XV_XS_NO_MEMORY_H
#define XV_XS_NO_MEMORY_H

#include <stdint.h>

/* From now on one allocation in @one_in fails, by chance; 0: none. */
void no_memory_for(uint32_t one_in);

/* How many have failed. */
uint64_t no_memory_count(void);

#endif
