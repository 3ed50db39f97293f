/* SPDX-License-Identifier: BSD-2-Clause */
/* XenStore's wire format (io/xs_wire.h), in the subset of C that cffi reads. */
#ifndef XV_ABI_XS_WIRE_H
#define XV_ABI_XS_WIRE_H

#include <stdint.h>

enum { XENSTORE_RING_SIZE = 1024 };

enum xsd_sockmsg_type {
    XS_CONTROL,
    XS_DIRECTORY,
    XS_READ,
    XS_GET_PERMS,
    XS_WATCH,
    XS_UNWATCH,
    XS_TRANSACTION_START,
    XS_TRANSACTION_END,
    XS_INTRODUCE,
    XS_RELEASE,
    XS_GET_DOMAIN_PATH,
    XS_WRITE,
    XS_MKDIR,
    XS_RM,
    XS_SET_PERMS,
    XS_WATCH_EVENT,
    XS_ERROR,
    XS_IS_DOMAIN_INTRODUCED,
    XS_RESUME,
    XS_SET_TARGET,
    XS_RESTRICT, /* no longer served */
    XS_RESET_WATCHES,
    XS_DIRECTORY_PART,
    XS_GET_FEATURE,
    XS_SET_FEATURE,
    XS_GET_QUOTA,
    XS_SET_QUOTA,
    XS_TYPE_COUNT
};

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
