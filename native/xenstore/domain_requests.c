/* SPDX-License-Identifier: BSD-2-Clause */
/* The requests on domains: introduction, release, targets, features and quotas. */
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "request.h"

static int guest(const char *text, uint16_t *domid)
{
    int error = xs_domid(text, domid);

    return error == 0 && *domid == 0 ? -EINVAL : error;
}

/* The one domain in the payload, which has to be introduced. */
static int introduced_guest(const struct xs_request *request, const char *text,
                            struct xs_domain **domain)
{
    uint16_t domid;
    int error = text == NULL ? -EINVAL : guest(text, &domid);

    if (error != 0)
        return error;
    *domain = xs_domain_find(&request->engine->domains, domid);
    return *domain == NULL || !(*domain)->introduced ? -ENOENT : 0;
}

int xs_introduce(struct xs_request *request)
{
    const char *string[3];
    uint64_t gfn, evtchn;
    uint16_t domid;
    int error;

    if (xs_strings(request, string, 3) < 3 || guest(string[0], &domid) != 0 ||
        xs_number(string[1], UINT64_MAX, &gfn) != 0 ||
        xs_number(string[2], INT32_MAX, &evtchn) != 0 || evtchn == 0)
        return -EINVAL;
    error = xs_engine_upcall(request->engine, request->conn,
                             XS_UPCALL_INTRODUCE, domid, gfn, (uint32_t)evtchn,
                             NULL, 0);
    return error != 0 ? error : XS_LATER;
}

int xs_release(struct xs_request *request)
{
    struct xs_domain *domain;
    int error = introduced_guest(request, xs_one_string(request), &domain);

    if (error == 0)
        error = xs_engine_upcall(request->engine, request->conn,
                                 XS_UPCALL_RELEASE, domain->domid, 0, 0, NULL,
                                 0);
    return error != 0 ? error : XS_LATER;
}

/* The domain is no longer shutting down, which nothing here records. */
int xs_resume(struct xs_request *request)
{
    struct xs_domain *domain;
    int error = introduced_guest(request, xs_one_string(request), &domain);

    return error != 0 ? error : xs_reply_ok(request);
}

int xs_set_target(struct xs_request *request)
{
    struct xs_domain *domain, *target;
    const char *string[2];
    int error;

    if (xs_strings(request, string, 2) < 2)
        return -EINVAL;
    error = introduced_guest(request, string[0], &domain);
    if (error == 0)
        error = introduced_guest(request, string[1], &target);
    if (error != 0)
        return error;
    domain->target = target->domid;
    error = xs_engine_note_domain(request->engine, domain);
    return error != 0 ? error : xs_reply_ok(request);
}

int xs_is_domain_introduced(struct xs_request *request)
{
    enum { DOMID_SELF = 0x7FF0 };
    const char *text = xs_one_string(request);
    const struct xs_domain *domain;
    uint16_t domid;

    if (text == NULL || xs_domid(text, &domid) != 0)
        return -EINVAL;
    domain = xs_domain_find(&request->engine->domains, domid);
    return xs_reply(request,
                    domid == DOMID_SELF ||
                            (domain != NULL && domain->introduced)
                        ? "T"
                        : "F",
                    2);
}

int xs_get_domain_path(struct xs_request *request)
{
    char path[sizeof("/local/domain/65535")];
    const char *text = xs_one_string(request);
    uint16_t domid;

    if (text == NULL || xs_domid(text, &domid) != 0)
        return -EINVAL;
    return xs_reply(request, path,
                    (size_t)snprintf(path, sizeof(path), "/local/domain/%u",
                                     (unsigned int)domid) +
                        1);
}

/* The strings of a payload that may be empty; -EINVAL above @max. */
static int optional(const struct xs_request *request, const char **string,
                    unsigned int max)
{
    unsigned int strings = xs_strings(request, string, max);

    if (request->header.len == 1 && request->payload[0] == '\0')
        strings = 0;
    return strings > max ? -EINVAL : (int)strings;
}

int xs_get_feature(struct xs_request *request)
{
    uint16_t domid = request->conn->domid;
    const char *string[1];
    int strings = optional(request, string, 1);

    if (strings != 0 && !request->conn->privileged)
        return -EACCES;
    if (strings < 0 || (strings == 1 && xs_domid(string[0], &domid) != 0))
        return -EINVAL;
    if (xs_domain_find(&request->engine->domains, domid) == NULL)
        return -ENOENT;
    return xs_reply_number(request, xs_engine_features(request->engine, domid));
}

int xs_set_feature(struct xs_request *request)
{
    struct xs_domain *domain;
    const char *string[2];
    uint64_t features;
    uint16_t domid;
    int error;

    if (xs_strings(request, string, 2) != 2 ||
        xs_domid(string[0], &domid) != 0)
        return -EINVAL;
    domain = xs_domain_find(&request->engine->domains, domid);
    if (domain == NULL || !domain->exists)
        return -ENOENT;
    if (domain->introduced)
        return -EBUSY;
    if (xs_number(string[1], UINT32_MAX, &features) != 0 ||
        (features & ~(uint64_t)XS_FEATURES) != 0)
        return -EINVAL;
    domain->features = (uint32_t)features;
    domain->has_features = true;
    error = xs_engine_note_domain(request->engine, domain);
    return error != 0 ? error : xs_reply_ok(request);
}

static int quota_names(struct xs_request *request)
{
    char names[256];
    size_t len = 0;

    for (unsigned int i = 0; i < XS_QUOTAS; i++)
        len += (size_t)snprintf(names + len, sizeof(names) - len, "%s%s",
                                i ? " " : "", xs_quota_info[i].name);
    return xs_reply(request, names, len + 1);
}

int xs_get_quota(struct xs_request *request)
{
    const struct xs_domains *domains = &request->engine->domains;
    const struct xs_domain *domain;
    const char *string[2];
    int strings = optional(request, string, 2);
    enum xs_quota quota;
    uint16_t domid;

    if (strings == 0)
        return quota_names(request);
    if (strings < 0 || (strings == 2 && xs_domid(string[0], &domid) != 0))
        return -EINVAL;
    domain = strings == 2 ? xs_domain_find(domains, domid) : NULL;
    if (strings == 2 && domain == NULL)
        return -ENOENT;
    quota = xs_quota_find(string[strings - 1]);
    if (quota == XS_QUOTAS)
        return -EINVAL;
    return xs_reply_number(request, domain == NULL ? domains->quota[quota]
                                                   : domain->quota[quota]);
}

int xs_set_quota(struct xs_request *request)
{
    struct xs_engine *engine = request->engine;
    const char *string[3];
    unsigned int strings = xs_strings(request, string, 3);
    struct xs_domain *domain = NULL;
    enum xs_quota quota;
    uint64_t value;
    uint16_t domid;
    int error;

    if (strings < 2 || strings > 3 ||
        (strings == 3 && xs_domid(string[0], &domid) != 0))
        return -EINVAL;
    if (strings == 3) {
        domain = xs_domain_find(&engine->domains, domid);
        if (domain == NULL || !domain->exists)
            return -ENOENT;
    }
    quota = xs_quota_find(string[strings - 2]);
    if (quota == XS_QUOTAS ||
        xs_number(string[strings - 1], UINT32_MAX, &value) != 0)
        return -EINVAL;
    if (strings == 2) {
        xs_domains_set_quota(&engine->domains, quota, (uint32_t)value);
        error = xs_engine_note_quota(engine, quota, (uint32_t)value);
    } else {
        xs_domain_set_quota(domain, quota, (uint32_t)value);
        error = xs_engine_note_domain(engine, domain);
    }
    return error != 0 ? error : xs_reply_ok(request);
}
