/* SPDX-License-Identifier: BSD-2-Clause */
/* XenStore's wire format (io/xs_wire.h), in the subset of C that cffi reads. */
#ifndef XV_ABI_XS_WIRE_H
#define XV_ABI_XS_WIRE_H

#include <stdint.h>

enum { XENSTORE_RING_SIZE = 1024 };

struct xsd_sockmsg {
    uint32_t type;
    uint32_t req_id;
    uint32_t tx_id;
    uint32_t len;
};

struct xenstore_domain_interface {
    uint8_t req[1024]; /* client to server */
    uint8_t rsp[1024]; /* server to client, and watch events */
    uint32_t req_cons;
    uint32_t req_prod;
    uint32_t rsp_cons;
    uint32_t rsp_prod;
    uint32_t server_features;
    uint32_t connection;
    uint32_t error;
    uint32_t evtchn_port;
};

#endif
