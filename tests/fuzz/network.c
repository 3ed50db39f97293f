/* SPDX-License-Identifier: BSD-2-Clause */
#include "network.h"

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include <unistd.h>

#include "abi/netif.h"
#include "frames.h"
#include "harness.h"
#include "offload.h"

static int tap_fd, network_fd;

/* What was received, or is to be sent: a header and the longest frame. */
static struct {
    struct virtio_net_hdr vnet;
    uint8_t frame[NETWORK_FRAME_MAX + 1];
} received, sent;

__attribute__((constructor)) static void network_init(void)
{
    int ends[2];

    if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, ends)) {
        perror("socketpair");
        exit(2);
    }
    tap_fd = ends[0];
    network_fd = ends[1];
}

int network_tap_fd(void)
{
    return tap_fd;
}

void network_send(const struct virtio_net_hdr *vnet, uint8_t kind, uint32_t len)
{
    sent.vnet = *vnet;
    frame_header(kind, sent.frame);
    if (len > NETWORK_FRAME_MAX)
        len = NETWORK_FRAME_MAX;
    if (write(network_fd, &sent, sizeof(sent.vnet) + len) < 0)
        return; /* it has as many as it holds */
}

/* What was left to the kernel, which finds it by the headers that it got. */
static void check_offload(const struct virtio_net_hdr *vnet, const uint8_t *frame,
                          uint32_t len)
{
    uint8_t gso = vnet->gso_type;
    struct xv_l4 l4;

    if (vnet->flags & ~VIRTIO_NET_HDR_F_NEEDS_CSUM)
        fuzz_fail("flags of a virtio_net_hdr", vnet->flags, 1);
    if (vnet->flags == 0) {
        if (gso != VIRTIO_NET_HDR_GSO_NONE)
            fuzz_fail("a kind of GSO without a blank checksum", gso, 0);
        return;
    }
    if (offload_parse(frame, len < XV_HEADER_MAX ? len : XV_HEADER_MAX, &l4) < 0)
        fuzz_fail("a blank checksum of a frame without one, of bytes", len, 0);
    if (vnet->csum_start != l4.l4_offset)
        fuzz_fail("csum_start", vnet->csum_start, l4.l4_offset);
    if (vnet->csum_offset != l4.csum_offset)
        fuzz_fail("csum_offset", vnet->csum_offset, l4.csum_offset);
    if (gso == VIRTIO_NET_HDR_GSO_NONE)
        return;
    if (gso !=
        (l4.ip_version == 6 ? VIRTIO_NET_HDR_GSO_TCPV6 : VIRTIO_NET_HDR_GSO_TCPV4))
        fuzz_fail("kind of GSO for IP version", gso, l4.ip_version);
    if (vnet->gso_size == 0)
        fuzz_fail("gso_size", vnet->gso_size, 1);
    if (vnet->hdr_len != l4.header_len)
        fuzz_fail("hdr_len", vnet->hdr_len, l4.header_len);
}

uint32_t network_receive(void)
{
    uint32_t count = 0;
    ssize_t n;

    while ((n = read(network_fd, &received, sizeof(received))) > 0) {
        uint32_t len = (uint32_t)n - (uint32_t)sizeof(received.vnet);

        if (n < (ssize_t)sizeof(received.vnet) + ETH_HLEN ||
            len > NETWORK_FRAME_MAX)
            fuzz_fail("length of a frame", (uint64_t)n, NETWORK_FRAME_MAX);
        check_offload(&received.vnet, received.frame, len);
        count++;
    }
    return count;
}

void network_reset(void)
{
    while (read(network_fd, &received, sizeof(received)) > 0)
        ;
    while (read(tap_fd, &received, sizeof(received)) > 0)
        ;
}
