/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Ring pages that a backend takes up as they are: an input is features 1, the first four
 * words of both pages, and, in pieces of 12 and 8 bytes, the slots from where the backend
 * begins. It runs for a while if it does take them.
 */
#include "domain.h"
#include "during.h"
#include "harness.h"
#include "input.h"
#include "network.h"
#include "ring.h"
#include "victim.h"

enum { TURNS = 4, BUDGET = 64 };

void fuzz_during(void)
{
    /* The pages alone are what is tried here. */
}

static void read_words(struct input *input, uint32_t frame)
{
    struct xen_sring *sring = (void *)domain_page(frame);

    sring->req_prod = input_u32(input);
    sring->req_event = input_u32(input);
    sring->rsp_prod = input_u32(input);
    sring->rsp_event = input_u32(input);
}

static void read_slot(struct input *input, void *slot, size_t size)
{
    uint8_t *bytes = slot;

    for (size_t i = 0; i < size; i++)
        bytes[i] = input_u8(input);
}

static bool possible(const struct xen_sring *sring)
{
    return sring->req_prod - sring->rsp_prod <= 256;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct input input = {data, size};
    uint8_t features = input_u8(&input);
    struct xen_sring *tx = (void *)domain_page(DOMAIN_TX_RING_FRAME);
    struct xen_sring *rx = (void *)domain_page(DOMAIN_RX_RING_FRAME);
    const struct virtio_net_hdr vnet = {0};
    struct victim victim;
    bool taken;

    fuzz_counts->inputs++;
    domain_reset();
    network_reset();
    read_words(&input, DOMAIN_TX_RING_FRAME);
    read_words(&input, DOMAIN_RX_RING_FRAME);
    for (uint32_t i = 0; input.left > 0 && i < 256; i++) {
        read_slot(&input, netif_tx_slot(tx, tx->rsp_prod + i), 12);
        read_slot(&input, netif_rx_slot(rx, rx->rsp_prod + i), 8);
    }
    taken = victim_create(&victim, hop_find("back_queue"), features);
    if (taken != (possible(tx) && possible(rx)))
        fuzz_fail("rings that are taken up", taken, !taken);
    if (!taken)
        return 0;
    for (int turn = 0; turn < TURNS; turn++) {
        network_send(&vnet, (uint8_t)turn, 3000);
        victim_turn(&victim, BUDGET);
        network_receive();
    }
    victim_destroy(&victim);
    return 0;
}
