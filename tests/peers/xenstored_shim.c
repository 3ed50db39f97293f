/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * A hypervisor for C xenstored that is a directory: preloaded, it answers the
 * calls of libxenevtchn, libxengnttab and libxenctrl, so that xenstored runs on
 * any Linux and serves guests by ring. xenstored.py starts it and plays those.
 *
 *   domain-N     the ring page of domain N, there as long as the domain exists
 *   doorbell     FIFO to xenstored: ports that are pending, 32 bits each
 *   notify-N     FIFO from xenstored: a byte for each notification of domain N
 *   xsd_port     xenstored's own port and page, which the kernel of domain 0
 *   xsd_kva      shows below /proc/xen and /dev/xen
 *
 * The directory is named by XENSTORED_SHIM.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <xenctrl.h>
#include <xenevtchn.h>
#include <xengnttab.h>

#define PAGE_LEN 4096
#define VIRQ_PORT 1
#define FIRST_DOMAIN_PORT 16

/* What the opaque handles point to; nothing is kept in it. */
static char handle[1];

static char path_buffer[PAGE_LEN];

/* The path of a file of the directory, good until the next call. */
static const char *file(const char *name)
{
    const char *directory = getenv("XENSTORED_SHIM");

    if (!directory)
        abort();
    snprintf(path_buffer, sizeof(path_buffer), "%s/%s", directory, name);
    return path_buffer;
}

static const char *file_of(const char *what, unsigned int domid)
{
    char name[32];

    snprintf(name, sizeof(name), "%s-%u", what, domid);
    return file(name);
}

static int open_file(const char *path, int flags, mode_t mode)
{
    return (int)syscall(SYS_openat, AT_FDCWD, path, flags, mode);
}

static bool domain_exists(unsigned int domid)
{
    return domid == 0 || access(file_of("domain", domid), F_OK) == 0;
}

/* ---- event channels ---- */

static int doorbell = -1;

xenevtchn_handle *xenevtchn_open(struct xentoollog_logger *logger,
                                 unsigned int flags)
{
    (void)logger, (void)flags;
    /* For writing too: the end of a writer is not the end of the doorbell. */
    doorbell = open_file(file("doorbell"), O_RDWR, 0);
    return doorbell < 0 ? NULL : (xenevtchn_handle *)handle;
}

/* Only live update opens by descriptor, which is no part of the comparison. */
xenevtchn_handle *xenevtchn_fdopen(struct xentoollog_logger *logger, int fd,
                                   unsigned int flags)
{
    (void)fd;
    return xenevtchn_open(logger, flags);
}

int xenevtchn_close(xenevtchn_handle *xce)
{
    (void)xce;
    return close(doorbell);
}

int xenevtchn_fd(xenevtchn_handle *xce)
{
    (void)xce;
    return doorbell;
}

/*
 * All that waits, as one port: xenstored looks at every ring whatever it is,
 * and at the domains when it is the virq. So it has heard of them before it
 * serves a request that was sent later.
 */
xenevtchn_port_or_error_t xenevtchn_pending(xenevtchn_handle *xce)
{
    int32_t ports[PAGE_LEN / sizeof(int32_t)];
    ssize_t len = read(doorbell, ports, sizeof(ports));
    ssize_t count = len / (ssize_t)sizeof(ports[0]);

    (void)xce;
    for (ssize_t i = 0; i < count; i++) {
        if (ports[i] == VIRQ_PORT)
            return VIRQ_PORT;
    }
    return count > 0 ? ports[0] : -1;
}

int xenevtchn_unmask(xenevtchn_handle *xce, evtchn_port_t port)
{
    (void)xce, (void)port;
    return 0;
}

xenevtchn_port_or_error_t xenevtchn_bind_virq(xenevtchn_handle *xce,
                                              unsigned int virq)
{
    (void)xce, (void)virq;
    return VIRQ_PORT;
}

xenevtchn_port_or_error_t xenevtchn_bind_interdomain(xenevtchn_handle *xce,
                                                     uint32_t domid,
                                                     evtchn_port_t remote_port)
{
    (void)xce;
    if (remote_port >= EVTCHN_FIFO_NR_CHANNELS) {
        errno = EINVAL;
        return -1;
    }
    return (int)(FIRST_DOMAIN_PORT + domid);
}

int xenevtchn_unbind(xenevtchn_handle *xce, evtchn_port_t port)
{
    (void)xce, (void)port;
    return 0;
}

/* A FIFO that nobody reads, or that is full, loses the byte: it is a hint. */
int xenevtchn_notify(xenevtchn_handle *xce, evtchn_port_t port)
{
    int fd = open_file(file_of("notify", port - FIRST_DOMAIN_PORT),
                       O_WRONLY | O_NONBLOCK, 0);

    (void)xce;
    if (fd >= 0) {
        if (write(fd, "", 1) < 0)
            errno = 0;
        close(fd);
    }
    return 0;
}

/* ---- grants: GNTTAB_RESERVED_XENSTORE is the only one that is mapped ---- */

xengnttab_handle *xengnttab_open(struct xentoollog_logger *logger,
                                 unsigned int flags)
{
    (void)logger, (void)flags;
    return (xengnttab_handle *)handle;
}

int xengnttab_close(xengnttab_handle *xgt)
{
    (void)xgt;
    return 0;
}

int xengnttab_set_max_grants(xengnttab_handle *xgt, uint32_t nr_grants)
{
    (void)xgt, (void)nr_grants;
    return 0;
}

void *xengnttab_map_grant_ref(xengnttab_handle *xgt, uint32_t domid,
                              uint32_t ref, int prot)
{
    int fd = open_file(file_of("domain", domid), O_RDWR, 0);
    void *page;

    (void)xgt, (void)ref;
    if (fd < 0) {
        errno = EINVAL;
        return NULL;
    }
    page = mmap(NULL, PAGE_LEN, prot, MAP_SHARED, fd, 0);
    close(fd);
    return page == MAP_FAILED ? NULL : page;
}

int xengnttab_unmap(xengnttab_handle *xgt, void *start, uint32_t count)
{
    (void)xgt;
    return munmap(start, (size_t)count * PAGE_LEN);
}

/* ---- domains ---- */

xc_interface *xc_interface_open(xentoollog_logger *logger,
                                xentoollog_logger *dombuild_logger,
                                unsigned int flags)
{
    (void)logger, (void)dombuild_logger, (void)flags;
    return (xc_interface *)handle;
}

int xc_interface_close(xc_interface *xch)
{
    (void)xch;
    return 0;
}

/* xenstored asks for one domain at a time. */
int xc_domain_getinfo(xc_interface *xch, uint32_t first_domid,
                      unsigned int max_doms, xc_dominfo_t *info)
{
    (void)xch, (void)max_doms;
    if (!domain_exists(first_domid))
        return 0;
    memset(info, 0, sizeof(*info));
    info->domid = first_domid;
    return 1;
}

/* ---- files of a kernel with Xen ---- */

static const char *redirect(const char *path)
{
    const char *name = strrchr(path, '/');

    if (name && (!strcmp(name, "/xsd_port") || !strcmp(name, "/xsd_kva")))
        return file(name + 1);
    return path;
}

int open(const char *path, int flags, ...)
{
    va_list args;
    mode_t mode = 0;

    if (flags & (O_CREAT)) {
        va_start(args, flags);
        mode = va_arg(args, mode_t);
        va_end(args);
    }
    return open_file(redirect(path), flags, mode);
}

int open64(const char *path, int flags, ...) __attribute__((alias("open")));
