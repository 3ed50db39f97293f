/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The filters of seccomp(2), made of the lists in seccomp_calls.c.
 *
 * Every call that depends on its number alone is answered from the kernel's bitmap
 * (Linux 5.11), whatever its place in the program; before that the hot ones are found
 * first. A filter is for good, for all threads, and for what they become.
 */
#define _GNU_SOURCE
#include "seccomp.h"

#include <errno.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <stdbool.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "xenvirt.h"

/* A sanitizer starts programs and stops threads to say what it has found. */
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__) || \
    !defined(SECCOMP_AUDIT_ARCH)

int xv_seccomp_end(void)
{
    return -EOPNOTSUPP;
}

int xv_seccomp_daemon(void)
{
    return -EOPNOTSUPP;
}

const char *xv_seccomp_name(enum xv_seccomp_list list, uint32_t number)
{
    (void)list;
    (void)number;
    return NULL;
}

#else

#define LENGTH_MAX 1024

/* A call of x86_64 by the numbers of x32, which are others. */
#define X32_BIT 0x40000000u

struct program {
    struct sock_filter code[LENGTH_MAX];
    unsigned short length;
    bool overflow;
};

static void emit(struct program *program, uint16_t code, uint32_t k, uint8_t jt,
                 uint8_t jf)
{
    if (program->length == LENGTH_MAX) {
        program->overflow = true;
        return;
    }
    program->code[program->length++] =
        (struct sock_filter){.code = code, .jt = jt, .jf = jf, .k = k};
}

static void load(struct program *program, size_t offset)
{
    emit(program, BPF_LD | BPF_W | BPF_ABS, (uint32_t)offset, 0, 0);
}

static void answer(struct program *program, uint32_t action)
{
    emit(program, BPF_RET | BPF_K, action, 0, 0);
}

/* The next @count instructions are for those calls alone whose number this is. */
static void only_for(struct program *program, uint32_t number, uint8_t count)
{
    emit(program, BPF_JMP | BPF_JEQ | BPF_K, number, 0, count);
}

static void load_number(struct program *program)
{
    load(program, offsetof(struct seccomp_data, nr));
}

enum half { LOWER, UPPER };

/* Load half of an argument; both processors are little-endian. */
static void load_argument(struct program *program, uint8_t argument,
                          enum half half)
{
    load(program, offsetof(struct seccomp_data, args) +
                      argument * sizeof(uint64_t) + half * sizeof(uint32_t));
}

/* What is not of our own processor is nothing of ours. */
static void begin(struct program *program)
{
    load(program, offsetof(struct seccomp_data, arch));
    emit(program, BPF_JMP | BPF_JEQ | BPF_K, SECCOMP_AUDIT_ARCH, 1, 0);
    answer(program, SECCOMP_RET_KILL_PROCESS);
    load_number(program);
#ifdef __x86_64__
    emit(program, BPF_JMP | BPF_JGE | BPF_K, X32_BIT, 0, 1);
    answer(program, SECCOMP_RET_KILL_PROCESS);
#endif
}

static void answer_all(struct program *program,
                       const struct seccomp_calls *list, uint32_t action)
{
    for (size_t i = 0; i < list->count; i++) {
        only_for(program, list->calls[i].number, 1);
        answer(program, action);
    }
}

/* Compare half of a condition's argument, unless the mask leaves nothing of it. */
static void compare(struct program *program,
                    const struct seccomp_condition *condition, enum half half)
{
    unsigned int shift = half == UPPER ? 32 : 0;
    uint64_t value = condition->own_pid ? (uint64_t)getpid() : condition->value;
    uint32_t mask = (uint32_t)(condition->mask >> shift);

    if (mask == 0)
        return;
    load_argument(program, condition->argument, half);
    emit(program, BPF_ALU | BPF_AND | BPF_K, mask, 0, 0);
    emit(program, BPF_JMP | BPF_JEQ | BPF_K, (uint32_t)(value >> shift), 0, 0);
}

/* Have each comparison since @begin go on behind the last instruction if it fails. */
static void leave_if_not(struct program *program, unsigned short begin)
{
    for (unsigned short at = begin; at < program->length; at++) {
        if (BPF_CLASS(program->code[at].code) == BPF_JMP)
            program->code[at].jf = (uint8_t)(program->length - at - 1);
    }
}

static void allow_limited(struct program *program,
                          const struct seccomp_rules *list)
{
    for (size_t i = 0; i < list->count; i++) {
        const struct seccomp_rule *rule = &list->rules[i];
        unsigned short begin = program->length;

        only_for(program, rule->call.number, 0);
        for (size_t j = 0; j < SECCOMP_CONDITIONS; j++) {
            compare(program, &rule->conditions[j], LOWER);
            compare(program, &rule->conditions[j], UPPER);
        }
        answer(program, SECCOMP_RET_ALLOW);
        leave_if_not(program, begin);
        load_number(program);
    }
}

static int install(const struct program *program, unsigned int flags)
{
    const struct sock_fprog filter = {
        .len = program->length,
        .filter = (struct sock_filter *)program->code,
    };
    long ret;

    if (program->overflow)
        return -E2BIG;
    if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) < 0)
        return -errno;
    /* Older kernels would slow all of it down, as if it ran strangers' code. */
    flags |= SECCOMP_FILTER_FLAG_TSYNC | SECCOMP_FILTER_FLAG_SPEC_ALLOW;
    ret = syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, flags, &filter);
    if (ret < 0)
        return -errno;
    /* Above 0 it is a thread that has a filter of its own. */
    return ret > 0 ? -EBUSY : 0;
}

/*
 * What libraries try at each start of a thread or loop, and do without, in a filter
 * that does not log. In place of clone3 glibc takes clone(2), whose flags are not in
 * memory and can be looked at.
 */
static int refuse_quietly(void)
{
    struct program program = {.length = 0};

    begin(&program);
    only_for(&program, __NR_clone3, 1);
    answer(&program, SECCOMP_RET_ERRNO | ENOSYS);
    answer_all(&program, &seccomp_refused, SECCOMP_RET_ERRNO | EPERM);
    answer(&program, SECCOMP_RET_ALLOW);
    return install(&program, 0);
}

/* Install a filter that logs, and says nothing of what the other one refuses. */
static int confine(struct program *program, uint32_t otherwise)
{
    int ret = refuse_quietly();

    if (ret < 0)
        return ret;
    only_for(program, __NR_clone3, 1);
    answer(program, SECCOMP_RET_ALLOW);
    answer_all(program, &seccomp_refused, SECCOMP_RET_ALLOW);
    answer(program, otherwise);
    return install(program, SECCOMP_FILTER_FLAG_LOG);
}

int xv_seccomp_end(void)
{
    struct program program = {.length = 0};

    begin(&program);
    answer_all(&program, &seccomp_allowed, SECCOMP_RET_ALLOW);
    allow_limited(&program, &seccomp_limited);
    answer_all(&program, &seccomp_killed, SECCOMP_RET_KILL_PROCESS);
    return confine(&program, SECCOMP_RET_ERRNO | EPERM);
}

int xv_seccomp_daemon(void)
{
    struct program program = {.length = 0};

    begin(&program);
    answer_all(&program, &seccomp_execs, SECCOMP_RET_ALLOW);
    answer_all(&program, &seccomp_killed, SECCOMP_RET_KILL_PROCESS);
    only_for(&program, __NR_clone, 4);
    load_argument(&program, 0, LOWER);
    emit(&program, BPF_JMP | BPF_JSET | BPF_K, seccomp_new_namespace, 0, 1);
    answer(&program, SECCOMP_RET_ERRNO | EPERM);
    answer(&program, SECCOMP_RET_ALLOW);
    return confine(&program, SECCOMP_RET_ALLOW);
}

static const char *name_in(const struct seccomp_calls *list, size_t number)
{
    return number < list->count ? list->calls[number].name : NULL;
}

const char *xv_seccomp_name(enum xv_seccomp_list list, uint32_t number)
{
    switch (list) {
    case XV_SECCOMP_ALLOWED:
        return name_in(&seccomp_allowed, number);
    case XV_SECCOMP_LIMITED:
        return number < seccomp_limited.count
                   ? seccomp_limited.rules[number].call.name
                   : NULL;
    case XV_SECCOMP_KILLED:
        return name_in(&seccomp_killed, number);
    case XV_SECCOMP_REFUSED:
        return name_in(&seccomp_refused, number);
    }
    return NULL;
}

#endif
