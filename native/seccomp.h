/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Which system calls a process of ours makes, as lists that a person can read.
 * docs/security.md has them too, held together by tests/unit/test_security_doc.py.
 */
#ifndef XENVIRT_SECCOMP_H
#define XENVIRT_SECCOMP_H

#include <linux/audit.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Elsewhere there are no lists, and no filter. */
#if defined(__x86_64__) && !defined(__ILP32__)
#define SECCOMP_AUDIT_ARCH AUDIT_ARCH_X86_64
#elif defined(__aarch64__) && defined(__AARCH64EL__)
#define SECCOMP_AUDIT_ARCH AUDIT_ARCH_AARCH64
#endif

struct seccomp_call {
    const char *name;
    uint32_t number;
};

/*
 * What an argument, masked, has to be. The mask is of what the kernel looks at: of an
 * int and of flags the lower half, whatever a caller has left in the upper one; of a
 * pointer both.
 */
struct seccomp_condition {
    uint8_t argument; /* from 0 */
    uint64_t mask;    /* 0: no condition */
    uint64_t value;
    bool own_pid; /* the value is the process's own number */
};

#define SECCOMP_CONDITIONS 2

/* A call that is allowed when all conditions are met. */
struct seccomp_rule {
    struct seccomp_call call;
    struct seccomp_condition conditions[SECCOMP_CONDITIONS];
};

struct seccomp_calls {
    const struct seccomp_call *calls;
    size_t count;
};

struct seccomp_rules {
    const struct seccomp_rule *rules;
    size_t count;
};

/* What an end's process uses whatever the arguments are; the hot ones first. */
extern const struct seccomp_calls seccomp_allowed;

/* What it uses with certain arguments. */
extern const struct seccomp_rules seccomp_limited;

/* What no end ever makes, nor a library of its: who does is not ours any more. */
extern const struct seccomp_calls seccomp_killed;

/* What a library tries and does without: refused to both, and not logged. */
extern const struct seccomp_calls seccomp_refused;

/* What the daemon needs of seccomp_killed, to become its next image. */
extern const struct seccomp_calls seccomp_execs;

/* The flags of clone(2) that make a namespace. */
extern const uint32_t seccomp_new_namespace;

#endif
