/* SPDX-License-Identifier: BSD-2-Clause */
#include "domain.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "barrier.h"

uint8_t *domain_memory;

/* ASan's, where the program has it. */
void __asan_poison_memory_region(const volatile void *start, size_t len)
    __attribute__((weak));

static void poison(uint32_t frame)
{
    if (__asan_poison_memory_region)
        __asan_poison_memory_region(domain_page(frame), 4096);
}

__attribute__((constructor)) static void domain_init(void)
{
    void *memory = mmap(NULL, DOMAIN_PAGES * 4096ul, PROT_READ | PROT_WRITE,
                        MAP_SHARED | MAP_ANONYMOUS, -1, 0);

    if (memory == MAP_FAILED) {
        perror("mmap");
        exit(2);
    }
    domain_memory = memory;
    poison(DOMAIN_TX_RING_FRAME + 1);
    poison(DOMAIN_RX_RING_FRAME + 1);
    for (uint32_t n = DOMAIN_DATA_RUN - 1; n < DOMAIN_DATA_PAGES; n += DOMAIN_DATA_RUN)
        poison(domain_data_frame(n) + 1);
}

void domain_write_entry(uint32_t gref, uint16_t flags, uint16_t domid,
                        uint32_t frame)
{
    uint32_t entry[2] = {flags | (uint32_t)domid << 16, frame};

    shared_copy_to(domain_memory + gref * sizeof(entry), entry, sizeof(entry));
}

void domain_grant_rings(void)
{
    domain_write_entry(DOMAIN_TX_RING_GREF, GTF_permit_access, BACK_DOMID,
                       DOMAIN_TX_RING_FRAME);
    domain_write_entry(DOMAIN_RX_RING_GREF, GTF_permit_access, BACK_DOMID,
                       DOMAIN_RX_RING_FRAME);
}

void domain_reset(void)
{
    memset(domain_memory, 0, DOMAIN_GRANT_FRAMES * 4096ul);
    memset(domain_page(DOMAIN_TX_RING_FRAME), 0, 4096);
    memset(domain_page(DOMAIN_RX_RING_FRAME), 0, 4096);
    for (uint32_t n = 0; n < DOMAIN_DATA_PAGES; n += DOMAIN_DATA_RUN)
        memset(domain_page(domain_data_frame(n)), 0, DOMAIN_DATA_RUN * 4096ul);
    domain_grant_rings();
    for (uint32_t n = 0; n < NET_TX_RING_SIZE; n++)
        domain_write_entry(DOMAIN_TX_GREF + n, GTF_permit_access | GTF_readonly,
                           BACK_DOMID, domain_data_frame(n));
    for (uint32_t n = 0; n < NET_RX_RING_SIZE; n++)
        domain_write_entry(DOMAIN_RX_GREF + n, GTF_permit_access, BACK_DOMID,
                           domain_data_frame(n));
}
