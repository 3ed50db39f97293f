/* SPDX-License-Identifier: BSD-2-Clause */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "xs_peer.h"

struct peer_expected {
    struct peer_expected *next;
    struct xsd_sockmsg header;
};

static void fail(const char *why, const struct xsd_sockmsg *message)
{
    fprintf(stderr, "%s: type %u, req_id %u, tx_id %u, len %u\n", why,
            message->type, message->req_id, message->tx_id, message->len);
    abort();
}

void peer_complain(const struct peer *peer, const char *why)
{
    static const struct xsd_sockmsg nothing;

    fail(why, peer->first == NULL ? &nothing : &peer->first->header);
}

void peer_begin(struct peer *peer, struct peer_counts *counts)
{
    memset(peer, 0, sizeof(*peer));
    peer->counts = counts;
    peer->last = &peer->first;
}

void peer_end(struct peer *peer)
{
    while (peer->first != NULL) {
        struct peer_expected *expected = peer->first;

        peer->first = expected->next;
        free(expected);
    }
}

static void expect(struct peer *peer)
{
    struct peer_expected *expected = malloc(sizeof(*expected));

    if (expected == NULL)
        abort();
    memcpy(&expected->header, peer->header, sizeof(expected->header));
    expected->next = NULL;
    *peer->last = expected;
    peer->last = &expected->next;
    peer->header_len = 0;
    peer->counts->messages++;
}

static void cut(struct peer *peer, uint8_t byte)
{
    struct xsd_sockmsg header;

    if (peer->too_long)
        return;
    if (peer->header_len < sizeof(peer->header)) {
        peer->header[peer->header_len++] = byte;
        if (peer->header_len < sizeof(peer->header))
            return;
        memcpy(&header, peer->header, sizeof(header));
        peer->too_long = header.len > PEER_PAYLOAD_MAX;
        peer->payload_left = header.len;
    } else {
        peer->payload_left--;
    }
    if (peer->payload_left == 0 && !peer->too_long)
        expect(peer);
}

static bool is_error_name(const uint8_t *payload, size_t len)
{
    static const char *const names[] = {
        "EINVAL", "EACCES", "EEXIST", "EISDIR", "ENOENT", "ENOMEM",
        "ENOSPC", "EIO",    "ENOTEMPTY", "ENOSYS", "EROFS", "EBUSY",
        "EAGAIN", "EISCONN", "E2BIG", "EPERM",
    };

    for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++)
        if (len == strlen(names[i]) + 1 && memcmp(payload, names[i], len) == 0)
            return true;
    return false;
}

static void take_event(struct peer *peer, const struct xsd_sockmsg *message,
                       const uint8_t *payload)
{
    unsigned int nuls = 0;

    for (uint32_t i = 0; i < message->len; i++)
        nuls += payload[i] == 0;
    if (message->req_id != 0 || message->tx_id != 0 || nuls != 2 ||
        payload[message->len - 1] != 0)
        fail("bad event", message);
    peer->counts->events++;
}

static void take_reply(struct peer *peer,
                       const struct xsd_sockmsg *message,
                       const uint8_t *payload)
{
    struct peer_expected *expected = peer->first;

    if (expected == NULL)
        fail("reply to nothing", message);
    if (message->req_id != expected->header.req_id ||
        message->tx_id != expected->header.tx_id)
        fail("reply to another request", message);
    if (message->type == XS_ERROR) {
        if (!is_error_name(payload, message->len))
            fail("unknown error", message);
        peer->counts->errors++;
    } else if (message->type != expected->header.type) {
        fail("reply of another type", message);
    } else if (message->type == XS_TRANSACTION_START) {
        peer->tx_id = (uint32_t)strtoul((const char *)payload, NULL, 10);
    }
    peer->first = expected->next;
    if (peer->first == NULL)
        peer->last = &peer->first;
    free(expected);
    peer->counts->replies++;
}

static void take_byte(struct peer *peer, uint8_t byte)
{
    struct xsd_sockmsg message;
    const uint8_t *payload = peer->got + sizeof(message);

    peer->got[peer->got_len++] = byte;
    if (peer->got_len < sizeof(message))
        return;
    memcpy(&message, peer->got, sizeof(message));
    if (message.len > PEER_PAYLOAD_MAX)
        fail("reply too long", &message);
    if (peer->got_len < sizeof(message) + message.len)
        return;
    peer->got_len = 0;
    if (message.type == XS_WATCH_EVENT)
        take_event(peer, &message, payload);
    else
        take_reply(peer, &message, payload);
}

void peer_sends(struct peer *peer, const uint8_t *data, size_t len)
{
    for (size_t i = 0; i < len; i++)
        cut(peer, data[i]);
}

void peer_gets(struct peer *peer, const uint8_t *data, size_t len)
{
    for (size_t i = 0; i < len; i++)
        take_byte(peer, data[i]);
}
