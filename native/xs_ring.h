/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The server's side of a ring page, for one that believes nothing in it: its own
 * indices are its own, and a page in which the domain has moved them is broken.
 */
#ifndef XV_XS_RING_H
#define XV_XS_RING_H

#include <stdint.h>

#include "abi/xs_wire.h"

/**
 * xs_ring_take() - Take bytes of requests.
 * @req_cons:	Our index (input, output)
 * @data:	Room for @len bytes (output)
 *
 * Return: bytes taken, 0 when there is none, -EIO when the indices cannot be.
 */
int xs_ring_take(struct xenstore_domain_interface *page, uint32_t *req_cons,
                 void *data, uint32_t len);

/**
 * xs_ring_put() - Put bytes of replies and events.
 * @rsp_prod:	Our index (input, output)
 *
 * Return: bytes put, 0 when there is no room, -EIO when the indices cannot be.
 */
int xs_ring_put(struct xenstore_domain_interface *page, uint32_t *rsp_prod,
                const void *data, uint32_t len);

#endif
