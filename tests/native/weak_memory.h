/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Two threads on weakly ordered memory: every interleaving of their loads and stores is
 * tried, in every order that the C11 orders on them and the fences between them leave.
 *
 * A thread is a function, run as it is: it loads and stores by model_load() and so on,
 * which is what native/barrier.h is made to call. It runs from its beginning again for
 * each further step, with the loads so far as they were, and so may keep no state but on
 * its stack.
 *
 * What may pass what: two accesses of one thread keep their order if they are to one
 * word, if the first is an acquire load, if the second is a release store, or if a fence
 * lies between them that orders them. All others may be performed in any order, also
 * where the program has a dependency or a branch: a load that is to be performed late has
 * its value guessed, and what follows from a wrong guess never was. Memory is one, as on
 * x86, Arm and RISC-V: what one of the two sees, the other does.
 */
#ifndef WEAK_MEMORY_H
#define WEAK_MEMORY_H

#include <stdbool.h>
#include <stdint.h>

enum { MODEL_WORDS = 16, MODEL_VALUES = 40 };

struct model_thread {
    const char *name;
    void (*run)(void);
};

struct model {
    struct model_thread thread[2];
    /* Where word @n lies, NULL: there are no more; and what it is called. */
    const uint32_t *word[MODEL_WORDS];
    const char *name[MODEL_WORDS];
    uint32_t initial[MODEL_WORDS];
    /* Bit v: somebody may store v, which is below MODEL_VALUES, in the word. */
    uint64_t values[MODEL_WORDS];
};

/* What threads call; orders are __ATOMIC_*. */
uint32_t model_load(const uint32_t *word, int order);
void model_store(uint32_t *word, uint32_t value, int order);
void model_fence(int order);

/* Wake the other thread, now or when it sleeps next; a system call. */
void model_notify(void);

/* Sleep until the other has notified since the last sleep. */
void model_sleep(void);

/* This must not be, whatever was loaded so far. */
_Noreturn void model_fail(const char *what);

/**
 * model_check() - Try everything.
 * @model:	Both threads
 * @states:	How many there are (output)
 *
 * Return: NULL; or what is wrong, after the steps that lead there were printed: what
 * model_fail() was told, or that a thread sleeps and nobody will wake it.
 */
const char *model_check(const struct model *model, uint64_t *states);

#endif
