/* SPDX-License-Identifier: BSD-2-Clause */
/* The sizes and offsets that Xen's headers fix, asserted. No code. */
#include <stddef.h>

#include "grant_table.h"
#include "netif.h"
#include "xs_wire.h"

#define SIZE(type, size) _Static_assert(sizeof(type) == (size), #type)
#define OFFSET(type, field, at) \
    _Static_assert(offsetof(type, field) == (at), #type "." #field)

SIZE(struct netif_tx_request, 12);
OFFSET(struct netif_tx_request, gref, 0);
OFFSET(struct netif_tx_request, offset, 4);
OFFSET(struct netif_tx_request, flags, 6);
OFFSET(struct netif_tx_request, id, 8);
OFFSET(struct netif_tx_request, size, 10);

SIZE(struct netif_tx_response, 4);
OFFSET(struct netif_tx_response, id, 0);
OFFSET(struct netif_tx_response, status, 2);

SIZE(struct netif_rx_request, 8);
OFFSET(struct netif_rx_request, id, 0);
OFFSET(struct netif_rx_request, pad, 2);
OFFSET(struct netif_rx_request, gref, 4);

SIZE(struct netif_rx_response, 8);
OFFSET(struct netif_rx_response, id, 0);
OFFSET(struct netif_rx_response, offset, 2);
OFFSET(struct netif_rx_response, flags, 4);
OFFSET(struct netif_rx_response, status, 6);

SIZE(struct netif_extra_info, 8);
OFFSET(struct netif_extra_info, type, 0);
OFFSET(struct netif_extra_info, flags, 1);
OFFSET(struct netif_extra_info, u, 2);
OFFSET(struct netif_extra_info, u.gso.size, 2);
OFFSET(struct netif_extra_info, u.gso.type, 4);
OFFSET(struct netif_extra_info, u.gso.pad, 5);
OFFSET(struct netif_extra_info, u.gso.features, 6);
OFFSET(struct netif_extra_info, u.mcast.addr, 2);
OFFSET(struct netif_extra_info, u.hash.type, 2);
OFFSET(struct netif_extra_info, u.hash.algorithm, 3);
OFFSET(struct netif_extra_info, u.hash.value, 4);

SIZE(struct netif_ctrl_request, 16);
OFFSET(struct netif_ctrl_request, id, 0);
OFFSET(struct netif_ctrl_request, type, 2);
OFFSET(struct netif_ctrl_request, data, 4);

SIZE(struct netif_ctrl_response, 12);
OFFSET(struct netif_ctrl_response, id, 0);
OFFSET(struct netif_ctrl_response, type, 2);
OFFSET(struct netif_ctrl_response, status, 4);
OFFSET(struct netif_ctrl_response, data, 8);

SIZE(struct netif_gref, 8);
OFFSET(struct netif_gref, ref, 0);
OFFSET(struct netif_gref, flags, 4);
OFFSET(struct netif_gref, status, 6);

SIZE(struct xen_sring, 64);
OFFSET(struct xen_sring, req_prod, 0);
OFFSET(struct xen_sring, req_event, 4);
OFFSET(struct xen_sring, rsp_prod, 8);
OFFSET(struct xen_sring, rsp_event, 12);
OFFSET(struct xen_sring, pvt, 16);

SIZE(union netif_tx_sring_entry, 12);
SIZE(union netif_rx_sring_entry, 8);
OFFSET(struct netif_tx_sring, ring, 64);
OFFSET(struct netif_rx_sring, ring, 64);
_Static_assert(sizeof(struct netif_tx_sring) <= 4096, "a ring is one page");
_Static_assert(sizeof(struct netif_rx_sring) <= 4096, "a ring is one page");

SIZE(struct grant_entry_v1, 8);
OFFSET(struct grant_entry_v1, flags, 0);
OFFSET(struct grant_entry_v1, domid, 2);
OFFSET(struct grant_entry_v1, frame, 4);

SIZE(struct xsd_sockmsg, 16);
OFFSET(struct xenstore_domain_interface, rsp, 1024);
OFFSET(struct xenstore_domain_interface, req_cons, 2048);
OFFSET(struct xenstore_domain_interface, req_prod, 2052);
OFFSET(struct xenstore_domain_interface, rsp_cons, 2056);
OFFSET(struct xenstore_domain_interface, rsp_prod, 2060);
OFFSET(struct xenstore_domain_interface, server_features, 2064);
OFFSET(struct xenstore_domain_interface, connection, 2068);
OFFSET(struct xenstore_domain_interface, error, 2072);
OFFSET(struct xenstore_domain_interface, evtchn_port, 2076);
