/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The lists of seccomp.h. Found by running all tests under strace; what glibc does in
 * one version and not in another is there as well, since it costs nothing.
 */
#define _GNU_SOURCE
#include "seccomp.h"

#ifdef SECCOMP_AUDIT_ARCH

#include <linux/if_tun.h>
#include <linux/netlink.h>
#include <linux/sockios.h>
#include <sched.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/syscall.h>

#define CALL(name) {#name, __NR_##name}
#define LIST(array) {(array), sizeof(array) / sizeof((array)[0])}

static const struct seccomp_call allowed[] = {
    /* The way of a frame. */
    CALL(readv), CALL(writev), CALL(read), CALL(write),
#ifdef __x86_64__
    CALL(epoll_wait),
#endif
    CALL(epoll_pwait), CALL(futex), CALL(sched_yield), CALL(clock_gettime),

    /* The loop, its sockets and eventfds. */
    CALL(epoll_ctl), CALL(epoll_create1), CALL(epoll_pwait2), CALL(eventfd2),
    CALL(recvmsg), CALL(sendmsg), CALL(recvfrom), CALL(sendto), CALL(connect),
    CALL(bind), CALL(getsockname), CALL(getpeername), CALL(getsockopt),
    CALL(setsockopt), CALL(shutdown), CALL(ppoll), CALL(pselect6), CALL(pipe2),
#ifdef __x86_64__
    CALL(poll), CALL(select), CALL(pipe),
#endif

    /* Memory, without anything executable: see mmap and mprotect below. */
    CALL(munmap), CALL(mremap), CALL(madvise), CALL(brk), CALL(memfd_create),
    CALL(ftruncate),

    /* Files: /dev/net/tun, /sys for the CPUs, Python's modules, the log. */
    CALL(openat), CALL(close), CALL(close_range), CALL(newfstatat), CALL(fstat),
    CALL(statx), CALL(lseek), CALL(pread64), CALL(pwrite64), CALL(getdents64),
    CALL(readlinkat), CALL(faccessat), CALL(faccessat2), CALL(getcwd), CALL(fcntl),
    CALL(dup), CALL(dup3),
#ifdef __x86_64__
    CALL(open), CALL(stat), CALL(lstat), CALL(readlink), CALL(access), CALL(dup2),
#endif

    /* Threads, signals and time. */
    CALL(set_robust_list), CALL(rseq), CALL(exit), CALL(exit_group),
    CALL(restart_syscall), CALL(sched_getaffinity), CALL(sched_setaffinity),
    CALL(sched_setattr), CALL(getpriority), CALL(rt_sigaction),
    CALL(rt_sigprocmask), CALL(rt_sigreturn), CALL(sigaltstack),
    CALL(clock_nanosleep), CALL(nanosleep), CALL(clock_getres),
    CALL(gettimeofday),
#ifdef __x86_64__
    CALL(time),
#endif

    /* Who and where it is, and how much it has. */
    CALL(getpid), CALL(gettid), CALL(getppid), CALL(getuid), CALL(geteuid),
    CALL(getgid), CALL(getegid), CALL(getrandom), CALL(getrusage), CALL(uname),
    CALL(sysinfo),
};

#define INT UINT32_MAX
#define POINTER UINT64_MAX
#define IS(argument, mask, value) {(argument), (mask), (uint32_t)(value), false}
#define RULE(name, ...) {CALL(name), {__VA_ARGS__}}
#define EQUALS(name, argument, value) RULE(name, IS(argument, INT, value))

#define NEW_NAMESPACE                                              \
    (CLONE_NEWNS | CLONE_NEWCGROUP | CLONE_NEWUTS | CLONE_NEWIPC | \
     CLONE_NEWUSER | CLONE_NEWPID | CLONE_NEWNET)

static const struct seccomp_rule limited[] = {
    RULE(mmap, IS(2, PROT_EXEC, 0)),
    RULE(mprotect, IS(2, PROT_EXEC, 0)),
    RULE(clone, IS(0, CLONE_THREAD | NEW_NAMESPACE, CLONE_THREAD)),
    EQUALS(socket, 0, AF_UNIX),
    /* Interfaces and their addresses alone: the kernel has twenty more families. */
    RULE(socket, IS(0, INT, AF_NETLINK), IS(2, INT, NETLINK_ROUTE)),
    EQUALS(socketpair, 0, AF_UNIX),
    EQUALS(ioctl, 1, TUNSETIFF),
    EQUALS(ioctl, 1, TUNGETIFF),
    EQUALS(ioctl, 1, TUNSETPERSIST),
    EQUALS(ioctl, 1, TUNSETOWNER),
    EQUALS(ioctl, 1, TUNSETOFFLOAD),
    EQUALS(ioctl, 1, TUNSETVNETHDRSZ),
    EQUALS(ioctl, 1, TUNSETCARRIER),
    EQUALS(ioctl, 1, TUNSETQUEUE),
    EQUALS(ioctl, 1, SIOCGIFINDEX),
    EQUALS(ioctl, 1, SIOCGIFNAME),
    EQUALS(ioctl, 1, FIONBIO),
    EQUALS(ioctl, 1, FIOCLEX),
    EQUALS(ioctl, 1, TCGETS),
    EQUALS(prctl, 0, PR_SET_NAME),
    /* abort(3). */
    RULE(tgkill, {0, INT, 0, true}),
    /* Not to set a limit: its third argument is null. */
    RULE(prlimit64, IS(2, POINTER, 0)),
};

static const struct seccomp_call killed[] = {
    /* Another program. */
    CALL(execve), CALL(execveat),
    /* Another process's memory, descriptors and course. */
    CALL(ptrace), CALL(process_vm_readv), CALL(process_vm_writev),
    CALL(process_madvise), CALL(pidfd_getfd), CALL(kcmp),
    /* Namespaces and mounts. */
    CALL(unshare), CALL(setns), CALL(mount), CALL(umount2), CALL(pivot_root),
    CALL(chroot), CALL(move_mount), CALL(open_tree), CALL(fsopen),
    CALL(fsconfig), CALL(fsmount), CALL(fspick), CALL(mount_setattr),
    CALL(open_by_handle_at),
    /* The kernel's own code, and the machine. */
    CALL(bpf), CALL(perf_event_open), CALL(userfaultfd), CALL(init_module),
    CALL(finit_module), CALL(delete_module), CALL(kexec_load),
    CALL(kexec_file_load), CALL(reboot), CALL(swapon), CALL(swapoff),
    CALL(add_key), CALL(request_key), CALL(keyctl),
#ifdef __x86_64__
    CALL(iopl), CALL(ioperm), CALL(modify_ldt),
#endif
};

static const struct seccomp_call refused[] = {
    CALL(io_uring_setup),
    CALL(io_uring_enter),
    CALL(io_uring_register),
};

static const struct seccomp_call execs[] = {CALL(execve), CALL(execveat)};

const struct seccomp_calls seccomp_allowed = LIST(allowed);
const struct seccomp_rules seccomp_limited = LIST(limited);
const struct seccomp_calls seccomp_killed = LIST(killed);
const struct seccomp_calls seccomp_refused = LIST(refused);
const struct seccomp_calls seccomp_execs = LIST(execs);
const uint32_t seccomp_new_namespace = NEW_NAMESPACE;

#endif
