/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * A request while it is served. Handlers return 0 when they have replied, -errno for
 * an error reply, or XS_LATER when an upcall's answer will end the request.
 */
#ifndef XV_XENSTORE_REQUEST_H
#define XV_XENSTORE_REQUEST_H

#include "state.h"

enum { XS_LATER = 1 };

struct xs_request {
    struct xs_engine *engine;
    struct xs_conn *conn;
    struct xs_tree tree;
    struct xs_cause *cause; /* NULL for a privileged client */
    struct xsd_sockmsg header;
    const char *payload; /* header.len bytes, not always ended by a NUL */
};

typedef int xs_handler(struct xs_request *request);

/* Queue the reply; -E2BIG if it is too long, and nothing is queued. */
int xs_reply(struct xs_request *request, const void *data, size_t len);
int xs_reply_ok(struct xs_request *request);
int xs_reply_number(struct xs_request *request, uint64_t number);

/*
 * The strings of the payload: how many it has, each ended by a NUL, and where the
 * first @max begin. Bytes after the last NUL are ignored, as C xenstored does.
 */
unsigned int xs_strings(const struct xs_request *request, const char **string,
                        unsigned int max);

/* The payload as one string, with its NUL at the very end, or NULL. */
const char *xs_one_string(const struct xs_request *request);

/* A decimal number of digits alone, at most @max; -EINVAL. */
int xs_number(const char *text, uint64_t max, uint64_t *number);
int xs_domid(const char *text, uint16_t *domid);

/* Make the path canonical; -EINVAL, also above the client's length quota. */
int xs_request_path(const struct xs_request *request, const char *sent,
                    bool special, struct xs_path *path);

/* Tell the watches of a change, now or when the transaction commits. */
void xs_request_changed(struct xs_request *request,
                        const struct xs_change *change);

/* An unprivileged client wrote while there were transactions (XSA-206). */
void xs_request_wrote(struct xs_request *request, uint64_t writes);

xs_handler xs_control;
xs_handler xs_directory, xs_directory_part, xs_read, xs_get_perms, xs_write,
    xs_mkdir, xs_rm, xs_set_perms;
xs_handler xs_watch_request, xs_unwatch_request, xs_transaction_start,
    xs_transaction_end, xs_reset_watches;
xs_handler xs_introduce, xs_release, xs_resume, xs_set_target,
    xs_get_domain_path, xs_is_domain_introduced, xs_get_feature,
    xs_set_feature, xs_get_quota, xs_set_quota;

#endif
