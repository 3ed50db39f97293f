/* SPDX-License-Identifier: BSD-2-Clause */
#include "offload.h"

#include <errno.h>
#include <netinet/in.h>
#include <string.h>

#include "abi/netif.h"

#define ETHERTYPE_IPV4 0x0800
#define ETHERTYPE_IPV6 0x86dd
#define ETHERTYPE_VLAN 0x8100
#define ETHERTYPE_QINQ 0x88a8
#define VLAN_HLEN 4
#define VLAN_TAGS_MAX 2

#define IPV4_HLEN_MIN 20
#define IPV4_FRAGMENT_MASK 0x3fff /* more-fragments and the offset */
#define IPV6_HLEN 40
#define IPV6_EXTENSION_UNIT 8
#define TCP_HLEN_MIN 20
#define TCP_CSUM_OFFSET 16
#define UDP_HLEN 8
#define UDP_CSUM_OFFSET 6

/* Smaller segments than TCP ever sends only cost the receiver's CPU. */
#define GSO_SIZE_MIN 48

static uint16_t be16(const uint8_t *at)
{
    return (uint16_t)(at[0] << 8 | at[1]);
}

/* Skip Ethernet and VLAN headers. Return the EtherType, *offset after it. */
static int parse_l2(const uint8_t *header, uint32_t len, uint32_t *offset)
{
    uint32_t at = ETH_HLEN;
    uint16_t type;

    if (len < ETH_HLEN)
        return -EPROTO;
    type = be16(header + at - 2);
    for (int tag = 0; tag < VLAN_TAGS_MAX; tag++) {
        if (type != ETHERTYPE_VLAN && type != ETHERTYPE_QINQ)
            break;
        at += VLAN_HLEN;
        if (len < at)
            return -EPROTO;
        type = be16(header + at - 2);
    }
    *offset = at;
    return type;
}

/* Return the protocol above IPv4, *offset at its header. */
static int parse_ipv4(const uint8_t *header, uint32_t len, uint32_t *offset)
{
    const uint8_t *ip = header + *offset;
    uint32_t hlen;

    if (len < *offset + IPV4_HLEN_MIN || ip[0] >> 4 != 4)
        return -EPROTO;
    hlen = (ip[0] & 0xfu) * 4;
    if (hlen < IPV4_HLEN_MIN || (be16(ip + 6) & IPV4_FRAGMENT_MASK))
        return -EPROTO;
    *offset += hlen;
    return ip[9];
}

/* Return the protocol above IPv6 and its extension headers, *offset at it. */
static int parse_ipv6(const uint8_t *header, uint32_t len, uint32_t *offset)
{
    const uint8_t *ip = header + *offset;
    uint8_t next;

    if (len < *offset + IPV6_HLEN || ip[0] >> 4 != 6)
        return -EPROTO;
    next = ip[6];
    *offset += IPV6_HLEN;
    while (next == IPPROTO_HOPOPTS || next == IPPROTO_DSTOPTS ||
           next == IPPROTO_ROUTING || next == IPPROTO_AH) {
        const uint8_t *extension = header + *offset;

        if (len < *offset + IPV6_EXTENSION_UNIT)
            return -EPROTO;
        *offset += next == IPPROTO_AH
                       ? (extension[1] + 2u) * 4
                       : (extension[1] + 1u) * IPV6_EXTENSION_UNIT;
        next = extension[0];
    }
    return next;
}

/* Fill in what the transport header at *offset says. */
static int parse_l4(const uint8_t *header, uint32_t len, struct xv_l4 *l4)
{
    uint32_t hlen;

    if (l4->protocol == IPPROTO_TCP) {
        if (len < l4->l4_offset + (uint32_t)TCP_HLEN_MIN)
            return -EPROTO;
        hlen = (header[l4->l4_offset + 12u] >> 4) * 4u;
        if (hlen < TCP_HLEN_MIN)
            return -EPROTO;
        l4->csum_offset = TCP_CSUM_OFFSET;
    } else if (l4->protocol == IPPROTO_UDP) {
        hlen = UDP_HLEN;
        l4->csum_offset = UDP_CSUM_OFFSET;
    } else {
        return -EPROTO;
    }
    if (len < l4->l4_offset + hlen)
        return -EPROTO;
    l4->header_len = (uint16_t)(l4->l4_offset + hlen);
    return 0;
}

int offload_parse(const uint8_t *header, uint32_t len, struct xv_l4 *l4)
{
    uint32_t offset = 0;
    int type = parse_l2(header, len, &offset);
    int protocol;

    l4->l3_offset = (uint16_t)offset;
    if (type == ETHERTYPE_IPV4) {
        l4->ip_version = 4;
        protocol = parse_ipv4(header, len, &offset);
    } else if (type == ETHERTYPE_IPV6) {
        l4->ip_version = 6;
        protocol = parse_ipv6(header, len, &offset);
    } else {
        return -EPROTO;
    }
    if (protocol < 0 || offset > len)
        return -EPROTO;
    l4->l4_offset = (uint16_t)offset;
    l4->protocol = (uint8_t)protocol;
    return parse_l4(header, len, l4);
}

/* One's complement sum, in network order pairs; @odd: a byte of a pair is out. */
static uint64_t sum_bytes(uint64_t sum, const uint8_t *data, uint32_t len,
                          bool odd)
{
    uint32_t i = 0;

    if (odd && len > 0)
        sum += data[i++];
    for (; i + 1 < len; i += 2)
        sum += be16(data + i);
    if (i < len)
        sum += (uint64_t)data[i] << 8;
    return sum;
}

static uint16_t sum_fold(uint64_t sum)
{
    while (sum >> 16)
        sum = (sum & 0xffff) + (sum >> 16);
    return (uint16_t)sum;
}

/* The byte at @offset of a frame in pieces, or NULL beyond its end. */
static uint8_t *frame_byte(const struct iovec *frame, int count, uint32_t offset)
{
    for (int i = 0; i < count; i++) {
        if (offset < frame[i].iov_len)
            return (uint8_t *)frame[i].iov_base + offset;
        offset -= (uint32_t)frame[i].iov_len;
    }
    return NULL;
}

/* Sum a frame in pieces from @start to its end at @len. */
static uint64_t sum_frame(const struct iovec *frame, int count, uint32_t start,
                          uint32_t len)
{
    uint32_t at = 0;
    uint64_t sum = 0;

    for (int i = 0; i < count && at < len; i++) {
        uint32_t size = (uint32_t)frame[i].iov_len;
        uint32_t skip = start > at ? start - at : 0;

        if (size > len - at)
            size = len - at;
        if (skip < size)
            sum = sum_bytes(sum, (uint8_t *)frame[i].iov_base + skip,
                            size - skip, (at + skip - start) & 1);
        at += size;
    }
    return sum;
}

/* Do what the TAP left to us: the checksum from csum_start to the end. */
static int complete_checksum(const struct virtio_net_hdr *vnet,
                             const struct iovec *frame, int count, uint32_t len)
{
    uint32_t at = (uint32_t)vnet->csum_start + vnet->csum_offset;
    uint8_t *high, *low;
    uint16_t sum;

    if (at + 2 > len)
        return -EPROTO;
    high = frame_byte(frame, count, at);
    low = frame_byte(frame, count, at + 1);
    if (!high || !low)
        return -EPROTO;
    sum = (uint16_t)~sum_fold(sum_frame(frame, count, vnet->csum_start, len));
    if (sum == 0)
        sum = 0xffff; /* 0 would say that UDP has none; the same number to TCP */
    *high = (uint8_t)(sum >> 8);
    *low = (uint8_t)sum;
    return 1;
}

/* Can the peer find the checksum that the TAP left blank, and finish it? */
static bool peer_finds_checksum(const struct virtio_net_hdr *vnet,
                                const struct iovec *frame, uint32_t len,
                                const struct xv_peer_features *peer)
{
    uint32_t header_len =
        len < frame[0].iov_len ? len : (uint32_t)frame[0].iov_len;
    uint8_t header[XV_HEADER_MAX];
    struct xv_l4 l4;

    if (header_len > XV_HEADER_MAX)
        header_len = XV_HEADER_MAX;
    memcpy(header, frame[0].iov_base, header_len); /* the page may be the peer's */
    if (offload_parse(header, header_len, &l4) < 0)
        return false;
    if (vnet->csum_start != l4.l4_offset || vnet->csum_offset != l4.csum_offset)
        return false;
    return l4.ip_version == 4 ? peer->csum_v4 : peer->csum_v6;
}

/* Set netif's GSO type and size from the TAP's. */
static int gso_from_vnet(const struct virtio_net_hdr *vnet,
                         const struct xv_peer_features *peer,
                         struct xv_offload *offload)
{
    if (vnet->gso_type == VIRTIO_NET_HDR_GSO_TCPV4 && peer->gso_tcpv4)
        offload->gso_type = XEN_NETIF_GSO_TYPE_TCPV4;
    else if (vnet->gso_type == VIRTIO_NET_HDR_GSO_TCPV6 && peer->gso_tcpv6)
        offload->gso_type = XEN_NETIF_GSO_TYPE_TCPV6;
    else
        return -EPROTO;
    offload->gso_size = vnet->gso_size;
    return offload->csum_blank && vnet->gso_size ? 0 : -EPROTO;
}

int offload_from_vnet(const struct virtio_net_hdr *vnet,
                      const struct iovec *frame, int count, uint32_t len,
                      const struct xv_peer_features *peer,
                      struct xv_offload *offload)
{
    *offload = (struct xv_offload){0};
    if (vnet->flags & VIRTIO_NET_HDR_F_DATA_VALID)
        offload->data_validated = true;
    if (vnet->flags & VIRTIO_NET_HDR_F_NEEDS_CSUM &&
        peer_finds_checksum(vnet, frame, len, peer)) {
        offload->csum_blank = true;
        offload->data_validated = true;
    }
    if (vnet->gso_type != VIRTIO_NET_HDR_GSO_NONE)
        return gso_from_vnet(vnet, peer, offload);
    if (vnet->flags & VIRTIO_NET_HDR_F_NEEDS_CSUM && !offload->csum_blank)
        return complete_checksum(vnet, frame, count, len);
    return 0;
}

/* Write the pseudo-header's sum where the checksum goes. */
static void blank_checksum(uint8_t *header, const struct xv_l4 *l4, uint32_t len)
{
    const uint8_t *ip = header + l4->l3_offset;
    uint8_t *csum = header + l4->l4_offset + l4->csum_offset;
    uint64_t sum = (uint64_t)l4->protocol + (len - l4->l4_offset);
    uint16_t folded;

    if (l4->ip_version == 4)
        sum = sum_bytes(sum, ip + 12, 8, false);
    else
        sum = sum_bytes(sum, ip + 8, 32, false);
    folded = sum_fold(sum);
    csum[0] = (uint8_t)(folded >> 8);
    csum[1] = (uint8_t)folded;
}

static int gso_to_vnet(const struct xv_offload *offload, const struct xv_l4 *l4,
                       uint32_t len, struct virtio_net_hdr *vnet)
{
    bool v6 = offload->gso_type == XEN_NETIF_GSO_TYPE_TCPV6;

    if (l4->protocol != IPPROTO_TCP || l4->ip_version != (v6 ? 6 : 4) ||
        l4->header_len > len)
        return -EPROTO;
    vnet->gso_type = v6 ? VIRTIO_NET_HDR_GSO_TCPV6 : VIRTIO_NET_HDR_GSO_TCPV4;
    vnet->gso_size =
        offload->gso_size < GSO_SIZE_MIN ? GSO_SIZE_MIN : offload->gso_size;
    vnet->hdr_len = l4->header_len;
    return 0;
}

int offload_to_vnet(const struct xv_offload *offload, uint8_t *header,
                    uint32_t header_len, uint32_t len,
                    struct virtio_net_hdr *vnet)
{
    bool gso = offload->gso_type != XEN_NETIF_GSO_TYPE_NONE;
    struct xv_l4 l4;

    *vnet = (struct virtio_net_hdr){0};
    if (!offload->csum_blank && !gso)
        return 0;
    if (offload_parse(header, header_len, &l4) < 0)
        return -EPROTO;
    if (gso && gso_to_vnet(offload, &l4, len, vnet) < 0)
        return -EPROTO;
    vnet->flags = VIRTIO_NET_HDR_F_NEEDS_CSUM;
    vnet->csum_start = l4.l4_offset;
    vnet->csum_offset = l4.csum_offset;
    if (offload->csum_blank)
        return 0;
    blank_checksum(header, &l4, len);
    return 1;
}
