/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Between a harness and what runs it: libFuzzer, or runner.c where there is no clang.
 */
#ifndef XV_FUZZ_HARNESS_H
#define XV_FUZZ_HARNESS_H

#include <stddef.h>
#include <stdint.h>

/**
 * LLVMFuzzerTestOneInput() - Try one input; whatever is wrong ends the process.
 * @data:	Any bytes
 * @size:	How many
 *
 * Return: 0
 */
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/*
 * What was tried so far. It is in the file that XENVIRT_FUZZ_COUNTS names, if any, and
 * so is there for others, also when the process has died.
 */
struct fuzz_counts {
    uint64_t inputs;
    uint64_t slots; /* or headers, or messages: what the harness's victim has taken */
    uint64_t edges; /* that were reached, where the runner knows */
};

extern struct fuzz_counts *fuzz_counts;

/** fuzz_fail() - Say what does not hold, and end the process with SIGABRT. */
_Noreturn void fuzz_fail(const char *what, uint64_t is, uint64_t bound);

#endif
