/* SPDX-License-Identifier: BSD-2-Clause */
/* Headers of good frames, for a start; the rest of a frame may be anything. */
#ifndef XV_FUZZ_FRAMES_H
#define XV_FUZZ_FRAMES_H

#include <linux/virtio_net.h>
#include <stdbool.h>
#include <stdint.h>

enum { FRAME_KINDS = 8, FRAME_HEADER_MAX = 128 };

/**
 * frame_header() - Write the headers of a TCP or UDP frame.
 * @kind:	Which, modulo FRAME_KINDS: bit 0 IPv6, bit 1 UDP, bit 2 with what may be
 *		left out (VLAN tags, IP options or extension headers, TCP options)
 * @header:	FRAME_HEADER_MAX bytes (output)
 *
 * Return: bytes of all headers.
 */
uint32_t frame_header(uint8_t kind, uint8_t *header);

/**
 * frame_vnet() - What a TAP says of such a frame when its checksum is blank.
 * @kind:	As for frame_header()
 * @gso:	It is to be segmented, too
 * @vnet:	The TAP's header (output)
 */
void frame_vnet(uint8_t kind, bool gso, struct virtio_net_hdr *vnet);

#endif
