/* SPDX-License-Identifier: BSD-2-Clause */
#include "peer.h"

#include <string.h>

#include "domain.h"
#include "frames.h"
#include "ring.h"

/* Numbers of a page below this are good ones. */
#define PAGES_GOOD 240

void peer_init(struct peer *peer, bool front, uint32_t start)
{
    *peer = (struct peer){
        .front = front, .tx = true, .tx_prod = start, .rx_prod = start};
}

struct xen_sring *peer_sring(const struct peer *peer)
{
    void *page =
        domain_page(peer->tx ? DOMAIN_TX_RING_FRAME : DOMAIN_RX_RING_FRAME);

    return page;
}

static uint32_t *prod(struct peer *peer)
{
    return peer->tx ? &peer->tx_prod : &peer->rx_prod;
}

static void *slot_at(const struct peer *peer, uint32_t idx)
{
    struct xen_sring *sring = peer_sring(peer);

    if (peer->tx)
        return netif_tx_slot(sring, idx);
    return netif_rx_slot(sring, idx);
}

static size_t slot_size(const struct peer *peer)
{
    return peer->tx ? sizeof(union netif_tx_sring_entry)
                    : sizeof(union netif_rx_sring_entry);
}

/* The gref that a page's number in the input means. */
static uint32_t gref_of(const struct peer *peer, uint8_t page)
{
    static const uint32_t others[] = {
        0,
        DOMAIN_TX_RING_GREF,
        DOMAIN_RX_RING_GREF,
        DOMAIN_GREFS_END,
        DOMAIN_GRANT_FRAMES * 512 - 1,
        DOMAIN_GRANT_FRAMES * 512,
        0x80000000,
        0xffffffff,
    };

    if (page < PAGES_GOOD)
        return page + (uint32_t)(peer->tx ? DOMAIN_TX_GREF : DOMAIN_RX_GREF);
    return others[page % (sizeof(others) / sizeof(others[0]))];
}

/* What a slot says, but for its id. */
union slot {
    struct netif_tx_request tx_req;
    struct netif_tx_response tx_rsp;
    struct netif_rx_request rx_req;
    struct netif_rx_response rx_rsp;
    uint8_t bytes[12];
};

static void read_slot(const struct peer *peer, struct input *input, union slot *slot)
{
    memset(slot, 0, sizeof(*slot));
    if (peer->front && peer->tx) {
        slot->tx_req.gref = gref_of(peer, input_u8(input));
        slot->tx_req.offset = input_u16(input);
        slot->tx_req.flags = input_u8(input);
        slot->tx_req.size = input_u16(input);
    } else if (peer->front) {
        slot->rx_req.gref = gref_of(peer, input_u8(input));
    } else if (peer->tx) {
        slot->tx_rsp.id = input_u16(input);
        slot->tx_rsp.status = (int8_t)input_u8(input);
    } else {
        slot->rx_rsp.offset = input_u16(input);
        slot->rx_rsp.flags = input_u8(input);
        slot->rx_rsp.status = (int16_t)input_u16(input);
    }
}

/* Is there a slot that a good end would write, as far as the other has told? */
static bool has_slot(struct peer *peer)
{
    const struct xen_sring *sring = peer_sring(peer);

    if (peer->front)
        return *prod(peer) - shared_read(&sring->rsp_prod) < NET_TX_RING_SIZE;
    return *prod(peer) != shared_read(&sring->req_prod);
}

/* Write the next slot, with its id: its own number, or the request's. */
static void write_slot(struct peer *peer, const union slot *slot)
{
    uint32_t idx = *prod(peer);
    void *at = slot_at(peer, idx);
    union slot with_id = *slot;

    if (!has_slot(peer))
        return;
    ++*prod(peer);
    if (peer->front && peer->tx) {
        with_id.tx_req.id = (uint16_t)idx;
    } else if (peer->front) {
        with_id.rx_req.id = (uint16_t)idx;
    } else if (peer->tx) {
        struct netif_tx_request req;

        shared_copy_from(&req, at, sizeof(req));
        with_id.tx_rsp.id = (uint16_t)(with_id.tx_rsp.id + req.id);
    }
    if (!peer->front && peer->tx)
        shared_copy_to(at, &with_id, sizeof(with_id.tx_rsp));
    else
        shared_copy_to(at, &with_id, slot_size(peer));
}

static void write_raw(struct peer *peer, struct input *input)
{
    uint8_t bytes[12] __attribute__((aligned(4)));

    for (size_t i = 0; i < slot_size(peer); i++)
        bytes[i] = input_u8(input);
    shared_copy_to(slot_at(peer, (*prod(peer))++), bytes, slot_size(peer));
}

static void push(struct peer *peer)
{
    struct xen_sring *sring = peer_sring(peer);

    shared_release(peer->front ? &sring->req_prod : &sring->rsp_prod, *prod(peer));
}

static void rewrite(struct peer *peer, struct input *input)
{
    uint32_t idx = *prod(peer) - 1 - input_u8(input);
    uint32_t word = input_u8(input) % (uint32_t)(slot_size(peer) / sizeof(word));

    shared_write((uint32_t *)slot_at(peer, idx) + word, input_u32(input));
}

static void change_index(const struct peer *peer, struct input *input)
{
    struct xen_sring *sring = peer_sring(peer);
    uint32_t *const words[] = {&sring->req_prod, &sring->req_event,
                               &sring->rsp_prod, &sring->rsp_event};
    uint32_t *word = words[input_u8(input) % 4];

    shared_write(word, shared_read(word) + input_u32(input));
}

/* Where an offset of the input is in the page of that number. */
static uint8_t *payload(struct input *input, uint32_t *room)
{
    uint8_t *page = domain_page(domain_data_frame(input_u8(input)));
    uint32_t offset = input_u16(input) % 4096;

    *room = 4096 - offset;
    return page + offset;
}

static void write_page(struct input *input)
{
    uint32_t room;
    uint8_t *at = payload(input, &room);
    uint32_t len = input_u8(input);

    if (len > room)
        len = room;
    for (uint32_t i = 0; i < len; i++)
        __atomic_store_n(at + i, input_u8(input), __ATOMIC_RELAXED);
}

static void write_frame(struct input *input)
{
    uint8_t header[FRAME_HEADER_MAX];
    uint32_t room;
    uint8_t *at = payload(input, &room);
    uint32_t len = frame_header(input_u8(input), header);

    if (len > room)
        len = room;
    for (uint32_t i = 0; i < len; i++)
        __atomic_store_n(at + i, header[i], __ATOMIC_RELAXED);
}

static void change_grant(struct input *input)
{
    uint32_t gref = input_u16(input) % DOMAIN_GREFS_END;
    uint8_t flags = input_u8(input);
    uint8_t domid = input_u8(input);
    uint32_t frame = input_u8(input);

    domain_write_entry(gref, flags & 0x1f, domid & 0x80 ? domid : BACK_DOMID,
                       frame < 0xf0 ? domain_data_frame(frame) : DOMAIN_PAGES + frame);
}

void peer_act(struct peer *peer, enum peer_op op, struct input *input)
{
    union slot slot;

    switch (op) {
    case PEER_SLOT:
        read_slot(peer, input, &slot);
        write_slot(peer, &slot);
        break;
    case PEER_SLOTS:
        for (uint32_t count = input_u8(input), i = 0; i <= count; i++) {
            if (i == 0)
                read_slot(peer, input, &slot);
            write_slot(peer, &slot);
        }
        break;
    case PEER_RAW:
        write_raw(peer, input);
        break;
    case PEER_PUSH:
        push(peer);
        break;
    case PEER_REWRITE:
        rewrite(peer, input);
        break;
    case PEER_INDEX:
        change_index(peer, input);
        break;
    case PEER_PAGE:
        write_page(input);
        break;
    case PEER_FRAME:
        write_frame(input);
        break;
    case PEER_GRANT:
        change_grant(input);
        break;
    case PEER_RING:
        peer->tx = !peer->tx;
        break;
    case PEER_OPS:
        break;
    }
}
