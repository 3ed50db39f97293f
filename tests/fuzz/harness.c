/* SPDX-License-Identifier: BSD-2-Clause */
#include "harness.h"

#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>

static struct fuzz_counts own;
struct fuzz_counts *fuzz_counts = &own;

__attribute__((constructor)) static void share_counts(void)
{
    const char *path = getenv("XENVIRT_FUZZ_COUNTS");
    int fd = path ? open(path, O_RDWR | O_CLOEXEC) : -1;
    void *shared;

    if (!path)
        return;
    shared = mmap(NULL, sizeof(own), PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    if (shared == MAP_FAILED) {
        perror(path);
        exit(2);
    }
    close(fd);
    fuzz_counts = shared;
}

_Noreturn void fuzz_fail(const char *what, uint64_t is, uint64_t bound)
{
    fprintf(stderr, "fuzz: %s: %" PRIu64 ", not %" PRIu64 "\n", what, is, bound);
    abort();
}
