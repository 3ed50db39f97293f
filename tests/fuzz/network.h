/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * What is behind the TAP of the end that is fuzzed. The TAP is a socket pair that keeps
 * frames apart.
 */
#ifndef XV_FUZZ_NETWORK_H
#define XV_FUZZ_NETWORK_H

#include <linux/virtio_net.h>
#include <stdint.h>

/* What the slots of a packet can hold at most, netfront's first small one included. */
enum { NETWORK_FRAME_MAX = 18 * 4096 + 256 };

/** network_tap_fd() - The descriptor that a queue takes for its TAP. */
int network_tap_fd(void);

/**
 * network_send() - Give the TAP a frame to be read; lost when that holds no more.
 * @vnet:	Before it
 * @kind:	Of its headers, as for frame_header()
 * @len:	Its length, at most NETWORK_FRAME_MAX
 */
void network_send(const struct virtio_net_hdr *vnet, uint8_t kind, uint32_t len);

/*
 * Take every frame that the TAP was given, each of which must be as the kernel wants
 * it, with a virtio_net_hdr that fits its own headers. Return: how many there were.
 */
uint32_t network_receive(void);

/** network_reset() - Forget all that is on its way, in both directions. */
void network_reset(void);


#endif
