/* SPDX-License-Identifier: BSD-2-Clause */
#include "queue.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "settle.h"
#include "tap.h"

static const char *const counter_names[XV_NR_COUNTERS] = {
#define X(name) #name,
    XV_COUNTERS(X)
#undef X
};

_Static_assert((int)XV_NR_COUNTERS <= (int)XV_NR_COUNTERS_MAX, "statistics page");
_Static_assert(sizeof(struct xv_queue_stats) <= 4096, "statistics page");
_Static_assert(sizeof(struct virtio_net_hdr) == 10, "the TAP's, without num_buffers");

static const char *const broken_formats[XV_BROKEN_MAX] = {
    [XV_OK] = "not broken",
    [XV_TX_IMPOSSIBLE_REQUESTS] = "Impossible number of requests. "
                                  "req_prod %u, req_cons %u, size %u",
    [XV_TX_MISSING_EXTRA] = "Missing extra info",
    [XV_TX_BAD_EXTRA_TYPE] = "Invalid extra type: %u",
    [XV_TX_TOO_FEW_SLOTS] = "Asked for %u slots but exceeds this limit",
    [XV_TX_MALICIOUS_SLOTS] =
        "Malicious frontend using %u slots, threshold %u",
    [XV_TX_CROSS_PAGE_FIRST] =
        "Cross page boundary, txreq.offset: %u, size: %u",
    [XV_TX_CROSS_PAGE] = "Cross page boundary, txp->offset: %u, size: %u",
    [XV_TX_GSO_SIZE_ZERO] = "GSO size must not be zero.",
    [XV_TX_BAD_GSO_TYPE] = "Bad GSO type %u.",
    [XV_RX_IMPOSSIBLE_REQUESTS] = "Impossible number of RX requests. "
                                  "req_prod %u, req_cons %u, size %u",
    [XV_ILLEGAL_RESPONSES] = "Illegal number of responses %u",
    [XV_TX_INCORRECT_ID] = "Response has incorrect id (%u)",
    [XV_TX_INACTIVE_REQUEST] = "Response for inactive request (%u)",
    [XV_GRANT_IN_USE] = "Grant still in use by backend domain (gref %u)",
    [XV_TAP_GONE] = "the interface is gone (errno %u); detach the vif "
                    "and attach it again",
};

const char *xv_counter_name(uint32_t counter)
{
    return counter < XV_NR_COUNTERS ? counter_names[counter] : NULL;
}

const char *xv_broken_format(uint32_t broken)
{
    return broken < XV_BROKEN_MAX ? broken_formats[broken] : "unknown reason";
}

static void queue_init(struct xv_queue *queue, enum xv_role role,
                       const struct xv_queue_io *io,
                       const struct xv_peer_features *peer,
                       struct xv_queue_stats *stats)
{
    *queue = (struct xv_queue){
        .role = role,
        .tap_fd = io->tap_fd,
        .tx_evtchn = {.end = io->tx},
        .rx_evtchn = {.end = io->rx},
        .split_evtchns = io->tx.pending_fd != io->rx.pending_fd,
        .peer = *peer,
        .stats = stats,
        .schedule = {.tap_readable = true,
                     .tap_writable = true,
                     .give_back.at_ms = XV_NEVER},
    };
    if (!peer->sg) /* the extra-info is a second slot */
        queue->peer.gso_tcpv4 = queue->peer.gso_tcpv6 = false;
}

int xv_front_queue_create(const struct xv_queue_io *io, struct xv_gnttab *table,
                          const struct xv_front_buffers *buffers,
                          const struct xv_peer_features *peer,
                          struct xv_queue_stats *stats, struct xv_queue **queue)
{
    struct xv_front_queue *new = calloc(1, sizeof(*new));
    struct xen_sring *tx, *rx;

    if (!new)
        return -ENOMEM;
    queue_init(&new->base, XV_FRONT, io, peer, stats);
    new->table = table;
    tx = gnttab_page(table, buffers->tx_ring_frame);
    rx = gnttab_page(table, buffers->rx_ring_frame);
    shared_ring_init(tx);
    shared_ring_init(rx);
    front_ring_init(&new->tx.ring, tx, NET_TX_RING_SIZE);
    front_ring_init(&new->rx.ring, rx, NET_RX_RING_SIZE);
    for (uint32_t id = 0; id < NET_TX_RING_SIZE; id++) {
        new->tx.gref[id] = buffers->tx_gref[id];
        new->tx.frame[id] = buffers->tx_frame[id];
        new->tx.free_ids[id] = (uint16_t)(NET_TX_RING_SIZE - 1 - id);
        new->rx.free_ids[id] = (uint16_t)(NET_RX_RING_SIZE - 1 - id);
        new->rx.gref[id] = buffers->rx_gref[id];
        new->rx.frame[id] = buffers->rx_frame[id];
    }
    new->tx.nr_free = new->tx.window = NET_TX_RING_SIZE;
    new->rx.nr_free = new->rx.window = NET_RX_RING_SIZE;
    front_rx_refill(new);
    queue_publish_indices(&new->base);
    *queue = &new->base;
    return 0;
}

/* Map a ring page for the life of the queue. Return 0 or -EFAULT. */
static int map_ring(struct xv_gnttab_peer *table, uint32_t ring_ref,
                    struct xen_sring **sring)
{
    void *page;

    if (gnttab_map(table, ring_ref, false, &page) != GNTST_okay)
        return -EFAULT;
    *sring = page;
    return 0;
}

static void free_buffers(struct xv_back_queue *queue)
{
    free(queue->tx.batch);
    free(queue->rx.batch);
    munmap(queue->rx.held, XV_FRAME_PAGES * 4096);
}

int xv_back_queue_create(const struct xv_queue_io *io,
                         struct xv_gnttab_peer *peer_table, uint32_t tx_ring_ref,
                         uint32_t rx_ring_ref,
                         const struct xv_peer_features *peer,
                         struct xv_queue_stats *stats, struct xv_queue **queue)
{
    struct xv_back_queue *new = calloc(1, sizeof(*new));
    struct xen_sring *tx, *rx;
    int ret = -ENOMEM;

    if (!new)
        return ret;
    queue_init(&new->base, XV_BACK, io, peer, stats);
    new->table = peer_table;
    credit_init(&new->tx.credit);
    rx_stall_init(&new->rx.stall, peer->rx_notify);
    new->tx.ring_ref = tx_ring_ref;
    new->rx.ring_ref = rx_ring_ref;
    /* Pages of its own: few frames are ever held, and it costs none until then. */
    new->rx.held = mmap(NULL, XV_FRAME_PAGES * 4096, PROT_READ | PROT_WRITE,
                        MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (new->rx.held == MAP_FAILED)
        goto err_free;
    ret = back_tx_prepare(new);
    if (ret < 0)
        goto err_buffers;
    ret = back_rx_prepare(new);
    if (ret < 0)
        goto err_buffers;
    ret = map_ring(peer_table, tx_ring_ref, &tx);
    if (ret < 0)
        goto err_buffers;
    ret = map_ring(peer_table, rx_ring_ref, &rx);
    if (ret < 0)
        goto err_tx_ring;
    ret = -EIO;
    if (!back_ring_attach(&new->tx.ring, tx, NET_TX_RING_SIZE) ||
        !back_ring_attach(&new->rx.ring, rx, NET_RX_RING_SIZE))
        goto err_rx_ring;
    new->rx.mapped_prod = new->rx.ring.req_cons;
    queue_publish_indices(&new->base);
    *queue = &new->base;
    return 0;

err_rx_ring:
    gnttab_unmap(peer_table, rx_ring_ref, false);
err_tx_ring:
    gnttab_unmap(peer_table, tx_ring_ref, false);
err_buffers:
    free_buffers(new);
err_free:
    free(new);
    return ret;
}

void xv_queue_destroy(struct xv_queue *queue)
{
    if (!queue)
        return;
    if (queue->role == XV_BACK) {
        struct xv_back_queue *back = queue_back(queue);

        back_rx_unmap(back);
        gnttab_unmap(back->table, back->rx.ring_ref, false);
        gnttab_unmap(back->table, back->tx.ring_ref, false);
        free_buffers(back);
    }
    free(queue);
}

void queue_break(struct xv_queue *queue, enum xv_broken reason, uint32_t a,
                 uint32_t b, uint32_t c)
{
    struct xv_queue_stats *stats = queue->stats;

    if (queue_broken(queue))
        return;
    shared_write(&stats->broken_args[0], a);
    shared_write(&stats->broken_args[1], b);
    shared_write(&stats->broken_args[2], c);
    shared_release(&stats->broken, reason); /* arguments /before/ the reason */
}

uint32_t queue_read(struct xv_queue *queue, const struct iovec *iov, int count)
{
    int n;

    if (!queue->schedule.tap_readable || queue->settling.on)
        return 0;
    n = tap_read(queue->tap_fd, iov, count);
    if (n > (int)sizeof(struct virtio_net_hdr))
        return (uint32_t)n - (uint32_t)sizeof(struct virtio_net_hdr);
    queue->schedule.tap_readable = false;
    if (n < 0)
        queue_break(queue, XV_TAP_GONE, (uint32_t)-n, 0, 0);
    return 0;
}

/* Copy a frame's first bytes. Return: how many, at most XV_HEADER_MAX. */
static uint32_t copy_header(const struct xv_frame *frame, uint8_t *header)
{
    uint32_t len = 0;

    for (int i = 0; i < frame->count && len < XV_HEADER_MAX; i++) {
        uint32_t size = (uint32_t)frame->data[i].iov_len;

        if (size > XV_HEADER_MAX - len)
            size = XV_HEADER_MAX - len;
        memcpy(header + len, frame->data[i].iov_base, size);
        len += size;
    }
    return len;
}

/* Append what follows the first @skip bytes of a frame. Return: elements of @iov. */
static int append_rest(const struct xv_frame *frame, uint32_t skip,
                       struct iovec *iov, int count)
{
    for (int i = 0; i < frame->count; i++) {
        struct iovec piece = frame->data[i];

        if (skip >= piece.iov_len) {
            skip -= (uint32_t)piece.iov_len;
            continue;
        }
        piece.iov_base = (uint8_t *)piece.iov_base + skip;
        piece.iov_len -= skip;
        skip = 0;
        count = queue_append(iov, count, piece);
    }
    return count;
}

enum xv_write queue_write(struct xv_queue *queue, const struct xv_frame *frame,
                          bool *fixup)
{
    /* In one piece, so that a small frame is one: each costs the kernel its share. */
    struct {
        struct virtio_net_hdr vnet;
        uint8_t header[XV_HEADER_MAX];
    } head;
    uint32_t header_len = copy_header(frame, head.header);
    struct iovec iov[1 + XV_FRAME_SLOTS + 2] = {
        {.iov_base = &head, .iov_len = sizeof(head.vnet) + header_len},
    };
    int count, ret;

    ret = offload_to_vnet(&frame->offload, head.header, header_len, frame->len,
                          &head.vnet);
    if (ret < 0)
        return XV_UNPARSABLE;
    *fixup = ret > 0;
    count = append_rest(frame, header_len, iov, 1);
    ret = tap_write(queue->tap_fd, iov, count);
    if (ret == 0)
        return XV_WRITTEN;
    if (ret != -EAGAIN)
        return XV_TAP_ERROR;
    queue->schedule.tap_writable = false;
    return XV_AGAIN;
}

void xv_queue_tap_ready(struct xv_queue *queue, bool readable, bool writable)
{
    queue->schedule.tap_readable |= readable;
    queue->schedule.tap_writable |= writable;
}

void xv_queue_set_now(struct xv_queue *queue, uint64_t now_ms)
{
    queue->schedule.now_ms = now_ms;
}

void xv_queue_set_credit(struct xv_queue *queue, uint64_t bytes, uint64_t usec)
{
    credit_set(&queue_back(queue)->tx.credit, bytes, usec);
}

void xv_queue_set_rx_timeouts(struct xv_queue *queue, uint32_t drain_ms,
                              uint32_t stall_ms)
{
    struct xv_rx_stall *stall = &queue_back(queue)->rx.stall;

    if (!queue->peer.rx_notify)
        return;
    stall->drain_timeout_ms = drain_ms;
    stall->stall_timeout_ms = stall_ms;
}

uint64_t xv_queue_deadline(struct xv_queue *queue)
{
    struct xv_back_queue *back = queue_back(queue);
    uint64_t rx;

    if (queue->role == XV_FRONT || queue_broken(queue))
        return XV_NEVER;
    rx = rx_stall_deadline(&back->rx.stall);
    return rx < back->tx.credit.timer_ms ? rx : back->tx.credit.timer_ms;
}

int queue_run(struct xv_queue *queue, int budget)
{
    int frames = queue->role == XV_FRONT ? xv_front_rx(queue, budget)
                                         : xv_back_tx(queue, budget);

    /* A lone frame's answer is often in the TAP before epoll can say so. */
    if (frames == 1)
        queue->schedule.tap_readable = true;
    frames += queue->role == XV_FRONT ? xv_front_tx(queue, budget)
                                      : xv_back_rx(queue, budget);
    queue_publish_indices(queue);
    queue_settle_look(queue);
    return frames;
}

bool xv_queue_arm(struct xv_queue *queue)
{
    bool tx, rx;

    if (queue_broken(queue))
        return false; /* and whoever notifies it does so in vain */
    if (queue->eoi.until_ms == 0) {
        evtchn_unmask(&queue->tx_evtchn);
        evtchn_unmask(&queue->rx_evtchn);
    }
    if (queue->role == XV_FRONT) {
        tx = front_tx_arm(queue_front(queue));
        rx = front_rx_arm(queue_front(queue));
    } else {
        tx = back_tx_arm(queue_back(queue));
        rx = back_rx_arm(queue_back(queue));
    }
    return tx || rx;
}

uint32_t queue_consumed(struct xv_queue *queue)
{
    if (queue->role == XV_FRONT) {
        const struct xv_front_queue *front = queue_front(queue);

        return front->tx.ring.rsp_cons + front->rx.ring.rsp_cons;
    }
    return queue_back(queue)->tx.ring.req_cons + queue_back(queue)->rx.mapped_prod;
}

void queue_publish_indices(struct xv_queue *queue)
{
    struct xv_queue_stats *stats = queue->stats;

    if (queue->role == XV_FRONT) {
        struct xv_front_queue *front = queue_front(queue);

        shared_write(&stats->tx_req, front->tx.ring.req_prod_pvt);
        shared_write(&stats->tx_rsp, front->tx.ring.rsp_cons);
        shared_write(&stats->rx_req, front->rx.ring.req_prod_pvt);
        shared_write(&stats->rx_rsp, front->rx.ring.rsp_cons);
    } else {
        struct xv_back_queue *back = queue_back(queue);

        shared_write(&stats->tx_req, back->tx.ring.req_cons);
        shared_write(&stats->tx_rsp, back->tx.ring.rsp_prod_pvt);
        shared_write(&stats->rx_req, back->rx.ring.req_cons);
        shared_write(&stats->rx_rsp, back->rx.ring.rsp_prod_pvt);
    }
}
