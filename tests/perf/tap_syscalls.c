/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * What a frame costs to read from a TAP and to write to it, by system call and by
 * io_uring.
 *
 *   tap_syscalls ROUNDS
 *
 * It makes a TAP in a network namespace of its own. To be read, frames are put into
 * the TAP's queue through a packet socket, and the time to take them out is measured;
 * what is written goes to an interface where nobody listens. The ways take turns in each
 * round. Prints a line for each round, direction, size and way: the median time of a
 * frame in ns, or -errno where the kernel refuses that way.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/if_packet.h>
#include <linux/if_tun.h>
#include <linux/virtio_net.h>
#include <net/ethernet.h>
#include <net/if.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include "tap_ways.h"

#define NAME "tap"
#define FILLS 9 /* whose median is a round's figure */
#define GSO_SIZE 1448

static int tap_fd, packet_fd;

static _Noreturn void fail(const char *what)
{
    fprintf(stderr, "tap_syscalls: %s: %s\n", what, strerror(errno));
    exit(1);
}

static uint64_t now_ns(void)
{
    struct timespec now;

    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
}

/* ---- the interface and the frames ---- */

/* Whose own frames would be among those that are counted. */
static void leave_out_ipv6(void)
{
    int fd = open("/proc/sys/net/ipv6/conf/default/disable_ipv6", O_WRONLY);

    if (fd >= 0 && write(fd, "1", 1) != 1)
        fail("disable_ipv6");
    if (fd >= 0)
        close(fd);
}

static void open_tap(void)
{
    struct ifreq ifr = {.ifr_flags = IFF_TAP | IFF_NO_PI | IFF_VNET_HDR};
    struct sockaddr_ll address = {.sll_family = AF_PACKET,
                                  .sll_protocol = 0}; /* send only */
    int one = 1, bytes = 64 << 20;

    if (unshare(CLONE_NEWNET) < 0)
        fail("unshare: this takes root");
    leave_out_ipv6();
    strcpy(ifr.ifr_name, NAME);
    tap_fd = open("/dev/net/tun", O_RDWR | O_NONBLOCK);
    if (tap_fd < 0 || ioctl(tap_fd, TUNSETIFF, &ifr) < 0 ||
        ioctl(tap_fd, TUNSETOFFLOAD, TUN_F_CSUM | TUN_F_TSO4 | TUN_F_TSO6) < 0)
        fail("TAP");
    packet_fd = socket(AF_PACKET, SOCK_RAW, 0);
    ifr.ifr_flags = IFF_UP | IFF_NOARP;
    if (packet_fd < 0 || ioctl(packet_fd, SIOCSIFFLAGS, &ifr) < 0)
        fail("the interface cannot be set up");
    address.sll_ifindex = (int)if_nametoindex(NAME);
    if (setsockopt(packet_fd, SOL_PACKET, PACKET_VNET_HDR, &one, sizeof(one)) < 0 ||
        setsockopt(packet_fd, SOL_PACKET, PACKET_QDISC_BYPASS, &one, sizeof(one)) < 0 ||
        setsockopt(packet_fd, SOL_SOCKET, SO_SNDBUFFORCE, &bytes, sizeof(bytes)) < 0 ||
        bind(packet_fd, (struct sockaddr *)&address, sizeof(address)) < 0)
        fail("packet socket");
}

/* IPv4 and TCP to nobody; one that is longer than the MTU is to be segmented. */
static void build_frame(uint8_t *frame, uint32_t size)
{
    static const uint8_t ethernet[14] = {2, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 2, 8, 0};
    uint8_t ip[20] = {0x45, 0, 0, 0, 0, 0, 0, 0, 64, 6, 0, 0, 10, 0, 0, 1, 10, 0, 0, 2};
    uint8_t tcp[20] = {0, 1, 0, 2, [12] = 5 << 4, 0x10};
    struct virtio_net_hdr vnet = {0};
    uint16_t length = htons((uint16_t)(size - sizeof(ethernet)));

    memset(frame, 0, size);
    memcpy(ip + 2, &length, sizeof(length));
    memcpy(frame, ethernet, sizeof(ethernet));
    memcpy(frame + 14, ip, sizeof(ip));
    memcpy(frame + 34, tcp, sizeof(tcp));
    if (size > ETH_FRAME_LEN)
        vnet = (struct virtio_net_hdr){.flags = VIRTIO_NET_HDR_F_NEEDS_CSUM,
                                       .gso_type = VIRTIO_NET_HDR_GSO_TCPV4,
                                       .hdr_len = 54,
                                       .gso_size = GSO_SIZE,
                                       .csum_start = 34,
                                       .csum_offset = 16};
    memcpy(frame - VNET_BYTES, &vnet, sizeof(vnet));
}

static void fill_queue(uint32_t size)
{
    static uint8_t buffer[VNET_BYTES + FRAME_PAGES * PAGE];

    build_frame(buffer + VNET_BYTES, size);
    for (uint32_t i = 0; i < QUEUED; i++)
        if (send(packet_fd, buffer, VNET_BYTES + size, 0) < 0)
            fail("send");
}

/* ---- measuring ---- */

static void empty_queue(void)
{
    while (read(tap_fd, frame_of(0), FRAME_PAGES * PAGE) > 0)
        ;
}

static int ascending(const void *a, const void *b)
{
    const double x = *(const double *)a, y = *(const double *)b;

    return (x > y) - (x < y);
}

/* The median of FILLS times. Return: ns for each frame, or -errno. */
static double measure(const struct way *way, bool writing, uint32_t size)
{
    double ns[FILLS];

    for (int fill = 0; fill < FILLS; fill++) {
        uint64_t begin;
        int ret;

        if (writing)
            for (uint32_t i = 0; i < NR_BUFFERS; i++)
                build_frame(frame_of(i), size);
        else
            fill_queue(size);
        begin = now_ns();
        ret = way->move(way, size);
        ns[fill] = (double)(now_ns() - begin) / QUEUED;
        if (!writing)
            empty_queue();
        if (ret < 0)
            return ret;
    }
    qsort(ns, FILLS, sizeof(ns[0]), ascending);
    return ns[FILLS / 2];
}

static void measure_all(const char *direction, const struct way *ways, size_t count,
                        uint32_t size, int uring_error)
{
    for (size_t i = 0; i < count; i++) {
        bool uring = ways[i].batch > 0;

        printf("%s\t%u\t%s\t%.1f\n", direction, size, ways[i].name,
               uring && uring_error < 0
                   ? uring_error
                   : measure(&ways[i], strcmp(direction, "write") == 0, size));
    }
}

int main(int argc, char **argv)
{
    static const uint32_t sizes[] = {64, 1500, 65226};
    int uring_error;

    if (argc != 2)
        return 2;
    open_tap();
    uring_error = ways_open(tap_fd);
    for (int rounds = atoi(argv[1]); rounds > 0; rounds--)
        for (size_t i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++) {
            measure_all("read", read_ways, nr_read_ways, sizes[i], uring_error);
            measure_all("write", write_ways, nr_write_ways, sizes[i], uring_error);
        }
    return 0;
}
