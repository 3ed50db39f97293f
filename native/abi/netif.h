/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Xen's network interface between two domains: the wire structs and flags of
 * io/netif.h, own declarations in the subset of C that cffi reads. All fields
 * little endian, naturally aligned. layout.c asserts every size and offset;
 * tests/unit/test_abi_layout.py compares them with Xen's own header.
 */
#ifndef XV_ABI_NETIF_H
#define XV_ABI_NETIF_H

#include <stdint.h>

enum {
    NETTXF_csum_blank = 1,     /* L4 checksum holds only the pseudo-header sum */
    NETTXF_data_validated = 2, /* data known good */
    NETTXF_more_data = 4,      /* packet goes on in the next request */
    NETTXF_extra_info = 8,     /* an extra-info slot follows the first request */

    /* Bits 0 and 1 are the other way round than in TX. */
    NETRXF_data_validated = 1,
    NETRXF_csum_blank = 2,
    NETRXF_more_data = 4,
    NETRXF_extra_info = 8,
    NETRXF_gso_prefix = 16,

    XEN_NETIF_EXTRA_TYPE_NONE = 0,
    XEN_NETIF_EXTRA_TYPE_GSO = 1,
    XEN_NETIF_EXTRA_TYPE_MCAST_ADD = 2,
    XEN_NETIF_EXTRA_TYPE_MCAST_DEL = 3,
    XEN_NETIF_EXTRA_TYPE_HASH = 4,
    XEN_NETIF_EXTRA_TYPE_MAX = 5,
    XEN_NETIF_EXTRA_FLAG_MORE = 1,

    XEN_NETIF_GSO_TYPE_NONE = 0,
    XEN_NETIF_GSO_TYPE_TCPV4 = 1,
    XEN_NETIF_GSO_TYPE_TCPV6 = 2,

    NETIF_RSP_DROPPED = -2,
    NETIF_RSP_ERROR = -1,
    NETIF_RSP_OKAY = 0,
    NETIF_RSP_NULL = 1, /* the response to an extra-info slot */

    XEN_NETIF_MAX_TX_SIZE = 65535,
    XEN_NETIF_NR_SLOTS_MIN = 18,

    NET_TX_RING_SIZE = 256,
    NET_RX_RING_SIZE = 256,
    NET_CTRL_RING_SIZE = 128
};

struct netif_tx_request {
    uint32_t gref;
    uint16_t offset; /* within the granted page */
    uint16_t flags;  /* NETTXF_* */
    uint16_t id;     /* echoed in the response */
    uint16_t size;   /* of the packet in the first slot, else of this slot */
};

struct netif_tx_response {
    uint16_t id;
    int16_t status; /* NETIF_RSP_* */
};

struct netif_rx_request {
    uint16_t id;
    uint16_t pad;
    uint32_t gref;
};

struct netif_rx_response {
    uint16_t id;
    uint16_t offset; /* of the data in the page */
    uint16_t flags;  /* NETRXF_* */
    int16_t status;  /* bytes in this slot, or an error below 0 */
};

struct netif_extra_gso {
    uint16_t size; /* MSS */
    uint8_t type;  /* XEN_NETIF_GSO_TYPE_* */
    uint8_t pad;
    uint16_t features;
};

struct netif_extra_mcast {
    uint8_t addr[6];
};

struct netif_extra_hash {
    uint8_t type;
    uint8_t algorithm;
    uint8_t value[4];
};

union netif_extra_union {
    struct netif_extra_gso gso;
    struct netif_extra_mcast mcast;
    struct netif_extra_hash hash;
    uint16_t pad[3];
};

struct netif_extra_info {
    uint8_t type;  /* XEN_NETIF_EXTRA_TYPE_* */
    uint8_t flags; /* XEN_NETIF_EXTRA_FLAG_* */
    union netif_extra_union u;
};

struct netif_ctrl_request {
    uint16_t id;
    uint16_t type;
    uint32_t data[3];
};

struct netif_ctrl_response {
    uint16_t id;
    uint16_t type;
    uint32_t status;
    uint32_t data;
};

struct netif_gref {
    uint32_t ref;
    uint16_t flags;
    uint16_t status;
};

union netif_tx_sring_entry {
    struct netif_tx_request req;
    struct netif_tx_response rsp;
    struct netif_extra_info extra;
};

union netif_rx_sring_entry {
    struct netif_rx_request req;
    struct netif_rx_response rsp;
    struct netif_extra_info extra;
};

/* The first 64 bytes of every ring page (ring.h). */
struct xen_sring {
    uint32_t req_prod;  /* frontend writes */
    uint32_t req_event; /* backend writes: tell me when req_prod passes this */
    uint32_t rsp_prod;  /* backend writes */
    uint32_t rsp_event; /* frontend writes */
    uint8_t pvt[4];
    uint8_t pad[44];
};

struct netif_tx_sring {
    struct xen_sring sring;
    union netif_tx_sring_entry ring[256];
};

struct netif_rx_sring {
    struct xen_sring sring;
    union netif_rx_sring_entry ring[256];
};

#endif
