/* SPDX-License-Identifier: BSD-2-Clause */
/* What a process is called, and giving up what it does not need, for good. */
#define _GNU_SOURCE
#include <errno.h>
#include <grp.h>
#include <linux/capability.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "xenvirt.h"

/* Leave only @capabilities in the set that no exec can get back. */
static int limit_bounding_set(uint64_t capabilities)
{
    for (unsigned int cap = 0; cap < 64; cap++) {
        if (capabilities >> cap & 1)
            continue;
        /* EINVAL: the kernel knows no further capability. */
        if (prctl(PR_CAPBSET_DROP, cap, 0, 0, 0) < 0)
            return errno == EINVAL ? 0 : -errno;
    }
    return 0;
}

/* Have @capabilities effective and permitted; none is inheritable, none ambient. */
static int set_capabilities(uint64_t capabilities)
{
    struct __user_cap_header_struct header = {
        .version = _LINUX_CAPABILITY_VERSION_3,
    };
    struct __user_cap_data_struct data[2] = {
        {.effective = (uint32_t)capabilities,
         .permitted = (uint32_t)capabilities},
        {.effective = (uint32_t)(capabilities >> 32),
         .permitted = (uint32_t)(capabilities >> 32)},
    };

    return syscall(SYS_capset, &header, data) < 0 ? -errno : 0;
}

int xv_keep_memory_private(void)
{
    const struct rlimit none = {0, 0};

    return prctl(PR_SET_DUMPABLE, 0, 0, 0, 0) < 0 ||
                   setrlimit(RLIMIT_CORE, &none) < 0
               ? -errno
               : 0;
}

/* The end of each way down: what is left is @capabilities, whatever is executed. */
static int keep(uint64_t capabilities)
{
    int ret = set_capabilities(capabilities);

    if (ret < 0)
        return ret;
    ret = xv_keep_memory_private();
    if (ret < 0)
        return ret;
    return prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) < 0 ? -errno : 0;
}

int xv_limit_capabilities(uint64_t capabilities)
{
    int ret = limit_bounding_set(capabilities);

    if (ret < 0)
        return ret;
    return setgroups(0, NULL) < 0 ? -errno : keep(capabilities);
}

int xv_drop_privileges(uint32_t uid, uint32_t group, uint64_t capabilities)
{
    const gid_t groups[] = {group};
    int ret = limit_bounding_set(capabilities);

    if (ret < 0)
        return ret;
    if (prctl(PR_SET_KEEPCAPS, 1, 0, 0, 0) < 0 || setgroups(1, groups) < 0 ||
        setresgid(uid, uid, uid) < 0 || setresuid(uid, uid, uid) < 0)
        return -errno;
    return keep(capabilities);
}

int xv_set_name(const char *name)
{
    return prctl(PR_SET_NAME, name, 0, 0, 0) < 0 ? -errno : 0;
}

int xv_set_parent_death_signal(int signal)
{
    return prctl(PR_SET_PDEATHSIG, signal, 0, 0, 0) < 0 ? -errno : 0;
}
