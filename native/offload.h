/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Between netif's offload flags and a TAP's virtio_net_hdr.
 *
 * netif says "checksum blank" and "GSO of this size"; a virtio_net_hdr also says
 * where the checksum starts. netif has no word for that, so that whoever takes a
 * frame from a ring finds the transport header himself.
 */
#ifndef XV_OFFLOAD_H
#define XV_OFFLOAD_H

#include <linux/virtio_net.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/uio.h>

#include "xenvirt.h"

#define ETH_HLEN 14

/* Ethernet, two VLAN tags, IPv6 with extension headers, TCP with options: the
 * headers of a frame that is to be parsed lie within this many bytes. */
#define XV_HEADER_MAX 256

/* What netif says of a frame. */
struct xv_offload {
    bool csum_blank;
    bool data_validated;
    uint8_t gso_type;  /* XEN_NETIF_GSO_TYPE_* */
    uint16_t gso_size; /* MSS; 0 without GSO */
};

/* Where a frame's transport header is. */
struct xv_l4 {
    uint16_t l3_offset;
    uint16_t l4_offset;
    uint16_t csum_offset; /* from l4_offset */
    uint16_t header_len;  /* of all headers, TCP options included */
    uint8_t ip_version;
    uint8_t protocol; /* IPPROTO_TCP or IPPROTO_UDP */
};

/**
 * offload_parse() - Find the TCP or UDP header of a frame.
 * @header:	The frame's first bytes, private memory
 * @len:	How many, at most XV_HEADER_MAX
 * @l4:		What was found (output)
 *
 * Return: 0, or -EPROTO: neither TCP nor UDP over IPv4 or IPv6, a fragment, or
 * headers that are cut or longer than @len.
 */
int offload_parse(const uint8_t *header, uint32_t len, struct xv_l4 *l4);

/**
 * offload_from_vnet() - What to tell the peer of a frame that the TAP gave.
 * @vnet:	The TAP's header
 * @frame:	The frame; its checksum may be completed in place
 * @count:	Elements of @frame
 * @len:	Bytes of the frame
 * @peer:	What the peer can take
 * @offload:	netif's words (output)
 *
 * Return: 0 as it is, 1 when the checksum was completed here, -EPROTO when it
 * cannot be said to this peer (GSO that it did not negotiate, of a kind that netif
 * does not have, or a checksum outside the frame).
 */
int offload_from_vnet(const struct virtio_net_hdr *vnet,
                      const struct iovec *frame, int count, uint32_t len,
                      const struct xv_peer_features *peer,
                      struct xv_offload *offload);

/**
 * offload_to_vnet() - What to tell the TAP of a frame that the peer gave.
 * @offload:	netif's words, checked by the caller to be of a known type
 * @header:	The frame's first bytes, private; the checksum field may be written
 * @header_len:	How many
 * @len:	Bytes of the whole frame
 * @vnet:	For the TAP (output)
 *
 * Return: 0; 1 when a GSO frame's checksum was not blank and has been set to the
 * pseudo-header sum; -EPROTO when the headers do not bear what the flags claim.
 */
int offload_to_vnet(const struct xv_offload *offload, uint8_t *header,
                    uint32_t header_len, uint32_t len,
                    struct virtio_net_hdr *vnet);

#endif
