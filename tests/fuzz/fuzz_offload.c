/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The parser of headers, both ways. An input is features 1, flags 1, GSO type 1 and size
 * 2, csum_start 2 and csum_offset 2, the length of the first piece 2, and a frame.
 */
#include <stdlib.h>
#include <string.h>

#include "abi/netif.h"
#include "harness.h"
#include "input.h"
#include "offload.h"

static void within(const char *what, uint64_t is, uint64_t bound)
{
    if (is > bound)
        fuzz_fail(what, is, bound);
}

/* A copy in memory of its own, so that ASan knows where it ends. */
static uint8_t *copied(const uint8_t *data, size_t len)
{
    uint8_t *copy = malloc(len > 0 ? len : 1);

    if (!copy)
        exit(2);
    memcpy(copy, data, len);
    return copy;
}

/* What a peer says of a frame, for the TAP. */
static void to_vnet(const struct xv_offload *offload, struct input frame)
{
    uint32_t header_len =
        (uint32_t)(frame.left < XV_HEADER_MAX ? frame.left : XV_HEADER_MAX);
    uint8_t *header = copied(frame.data, header_len);
    uint32_t len = (uint32_t)frame.left;
    struct virtio_net_hdr vnet;
    struct xv_l4 l4;

    if (offload_to_vnet(offload, header, header_len, len, &vnet) >= 0 && vnet.flags) {
        within("csum_start", vnet.csum_start, header_len);
        within("end of the checksum", vnet.csum_start + vnet.csum_offset + 2u,
               header_len);
        within("hdr_len", vnet.hdr_len, header_len);
        if (offload_parse(header, header_len, &l4) < 0)
            fuzz_fail("headers that were good before", 0, 1);
    }
    free(header);
}

/* What a TAP says of a frame, for a peer. */
static void from_vnet(const struct virtio_net_hdr *vnet, struct input frame,
                      size_t first_len, const struct xv_peer_features *peer)
{
    struct xv_offload offload;
    uint32_t len = (uint32_t)frame.left;
    struct input first = input_part(&frame, first_len);
    struct iovec pieces[2] = {{copied(first.data, first.left), first.left},
                              {copied(frame.data, frame.left), frame.left}};

    if (offload_from_vnet(vnet, pieces, 2, len, peer, &offload) >= 0) {
        within("kind of GSO", offload.gso_type, XEN_NETIF_GSO_TYPE_TCPV6);
        if (offload.gso_type && !(offload.csum_blank && offload.gso_size))
            fuzz_fail("GSO without a size or a blank checksum", offload.gso_size, 1);
    }
    free(pieces[0].iov_base);
    free(pieces[1].iov_base);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct input input = {data, size};
    uint8_t bits = input_u8(&input);
    struct xv_peer_features peer = {bits & 1, bits & 2, bits & 4, bits & 8, bits & 16,
                                    false};
    struct virtio_net_hdr vnet = {.flags = input_u8(&input)};
    struct xv_offload offload;
    size_t first_len;

    vnet.gso_type = input_u8(&input);
    vnet.gso_size = input_u16(&input);
    vnet.csum_start = input_u16(&input);
    vnet.csum_offset = input_u16(&input);
    first_len = input_u16(&input);
    offload = (struct xv_offload){.csum_blank = vnet.flags & 1,
                                  .gso_type = vnet.gso_type % 3,
                                  .gso_size = vnet.gso_size};
    fuzz_counts->inputs++;
    fuzz_counts->slots++;
    to_vnet(&offload, input);
    if (input.left > 0)
        from_vnet(&vnet, input, first_len, &peer);
    return 0;
}
