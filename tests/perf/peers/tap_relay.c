/* SPDX-License-Identifier: BSD-2-Clause */
/* The least that joins two TAPs: read a frame here, write it there. */
#define _GNU_SOURCE
#include <fcntl.h>
#include <linux/if_tun.h>
#include <net/if.h>
#include <poll.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

static int open_tap(const char *name)
{
    struct ifreq ifr = {.ifr_flags = IFF_TAP | IFF_NO_PI | IFF_VNET_HDR};
    int fd = open("/dev/net/tun", O_RDWR | O_NONBLOCK);

    strncpy(ifr.ifr_name, name, IFNAMSIZ - 1);
    if (fd < 0 || ioctl(fd, TUNSETIFF, &ifr) < 0 ||
        ioctl(fd, TUNSETOFFLOAD, TUN_F_CSUM | TUN_F_TSO4 | TUN_F_TSO6) < 0)
        return -1;
    return fd;
}

int main(int argc, char **argv)
{
    static char frame[70000];
    struct pollfd taps[2] = {{.events = POLLIN}, {.events = POLLIN}};

    if (argc != 3)
        return 2;
    taps[0].fd = open_tap(argv[1]);
    taps[1].fd = open_tap(argv[2]);
    if (taps[0].fd < 0 || taps[1].fd < 0 || write(1, "ready\n", 6) < 0)
        return 1;
    while (poll(taps, 2, -1) > 0) {
        for (int from = 0; from < 2; from++) {
            ssize_t n;

            for (int budget = 64; budget > 0; budget--) {
                n = read(taps[from].fd, frame, sizeof(frame));
                if (n <= 0 || write(taps[1 - from].fd, frame, (size_t)n) < 0)
                    break;
            }
        }
    }
    return 0;
}
