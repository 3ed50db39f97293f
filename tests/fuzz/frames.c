/* SPDX-License-Identifier: BSD-2-Clause */
#include "frames.h"

#include <string.h>

enum { IPV6 = 1, UDP = 2, LONG = 4 };

static uint32_t put(uint8_t *to, uint32_t at, const void *bytes, uint32_t len)
{
    memcpy(to + at, bytes, len);
    return at + len;
}

/* Return: where the transport header begins. */
static uint32_t put_network(uint8_t kind, uint8_t *header)
{
    static const uint8_t tags[] = {0x88, 0xa8, 0, 5, 0x81, 0, 0, 6};
    static const uint8_t hop_by_hop[] = {0, 0, 1, 4, 0, 0, 0, 0};
    uint8_t protocol = kind & UDP ? 17 : 6;
    uint32_t at = 12;

    if (kind & LONG)
        at = put(header, at, tags, sizeof(tags));
    if (kind & IPV6) {
        uint8_t ip[42] = {0x86, 0xdd, 0x60};

        ip[8] = kind & LONG ? 0 : protocol;
        at = put(header, at, ip, sizeof(ip));
        if (kind & LONG) {
            at = put(header, at, hop_by_hop, sizeof(hop_by_hop));
            header[at - sizeof(hop_by_hop)] = protocol;
        }
        return at;
    }
    header[at] = 8;
    header[at + 2] = kind & LONG ? 0x46 : 0x45;
    header[at + 2 + 8] = 64;
    header[at + 2 + 9] = protocol;
    return at + 2 + (kind & LONG ? 24 : 20);
}

uint32_t frame_header(uint8_t kind, uint8_t *header)
{
    uint32_t at;

    memset(header, 0, FRAME_HEADER_MAX);
    memset(header, 2, 12);
    at = put_network(kind, header);
    if (kind & UDP)
        return at + 8;
    header[at + 12] = kind & LONG ? 0x80 : 0x50;
    return at + (kind & LONG ? 32 : 20);
}

void frame_vnet(uint8_t kind, bool gso, struct virtio_net_hdr *vnet)
{
    uint8_t header[FRAME_HEADER_MAX];
    uint32_t len = frame_header(kind, header);
    uint32_t l4 = kind & UDP ? 8 : kind & LONG ? 32 : 20;

    *vnet = (struct virtio_net_hdr){
        .flags = VIRTIO_NET_HDR_F_NEEDS_CSUM,
        .csum_start = (uint16_t)(len - l4),
        .csum_offset = kind & UDP ? 6 : 16,
    };
    if (!gso)
        return;
    vnet->gso_type = kind & UDP    ? VIRTIO_NET_HDR_GSO_UDP
                     : kind & IPV6 ? VIRTIO_NET_HDR_GSO_TCPV6
                                   : VIRTIO_NET_HDR_GSO_TCPV4;
    vnet->gso_size = 1448;
    vnet->hdr_len = (uint16_t)len;
}
