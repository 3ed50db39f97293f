/* SPDX-License-Identifier: BSD-2-Clause */
#include "evtchn.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include "abi/xen_devices.h"

static bool is_eventfd(const struct evtchn *evtchn)
{
    return evtchn->end.port == 0;
}

static void notify_eventfd(int fd)
{
    const uint64_t one = 1;

    /* The peer shares the open file, and may have filled it and made it block. */
    if (fcntl(fd, F_SETFL, O_RDWR | O_NONBLOCK) < 0)
        return;
    /* EAGAIN means that the counter is full, hence that it is pending. */
    if (write(fd, &one, sizeof(one)) < 0)
        return;
}

void evtchn_notify(const struct evtchn *evtchn)
{
    if (is_eventfd(evtchn))
        notify_eventfd(evtchn->end.notify_fd);
    else
        xv_evtchn_notify(evtchn->end.notify_fd, evtchn->end.port);
}

void evtchn_fired(struct evtchn *evtchn)
{
    uint32_t port;

    if (is_eventfd(evtchn))
        return;
    if (read(evtchn->end.pending_fd, &port, sizeof(port)) == sizeof(port) &&
        port == evtchn->end.port)
        evtchn->masked = true;
}

void evtchn_unmask(struct evtchn *evtchn)
{
    if (!evtchn->masked)
        return;
    evtchn->masked = false;
    if (write(evtchn->end.pending_fd, &evtchn->end.port,
              sizeof(evtchn->end.port)) < 0)
        return; /* nobody else has it: the device is gone, and with it the peer */
}

int xv_evtchn_bind_unbound_port(int fd, uint16_t remote_domid)
{
    struct ioctl_evtchn_bind_unbound_port bind = {.remote_domain = remote_domid};
    int port = ioctl(fd, IOCTL_EVTCHN_BIND_UNBOUND_PORT, &bind);

    return port < 0 ? -errno : port;
}

int xv_evtchn_bind_interdomain(int fd, uint16_t remote_domid, uint32_t remote_port)
{
    struct ioctl_evtchn_bind_interdomain bind = {.remote_domain = remote_domid,
                                                 .remote_port = remote_port};
    int port = ioctl(fd, IOCTL_EVTCHN_BIND_INTERDOMAIN, &bind);

    return port < 0 ? -errno : port;
}

int xv_evtchn_notify(int fd, uint32_t port)
{
    struct ioctl_evtchn_notify notify = {.port = port};

    return ioctl(fd, IOCTL_EVTCHN_NOTIFY, &notify) < 0 ? -errno : 0;
}
