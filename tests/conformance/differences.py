"""Why C xenstored 4.17 answers a row otherwise; the text goes into the document."""

from enum import Enum
from typing import Final, NamedTuple


class Reason(Enum):
    """A heading of docs/xenstore-conformance.md, and its paragraph."""

    NEW_MESSAGES = (
        "Messages that 4.17 does not know",
        "GET_FEATURE, SET_FEATURE, GET_QUOTA and SET_QUOTA came after 4.17, which "
        "answers ENOSYS.",
    )
    WATCH_DEPTH = (
        "WATCH with a depth",
        "The third string of WATCH came after 4.17, with feature bit 2, and so did "
        "`@releaseDomain/<domid>`.",
    )
    DOMID_ANY = (
        "DOMID_ANY in permissions",
        "Feature bit 3 came after 4.17, where 32757 (0x7ff5) is a domain like any "
        "other, which does not exist. The first permissions of `@releaseDomain` "
        "came with it.",
    )
    QUOTA_EDGE = (
        "The edge of a quota",
        "Xen's newer xenstored refuses a value that is at least the quota; 4.17 one "
        "that is above it, and counts watches and transactions before it adds the "
        "new one. So 4.17 lets a domain have 1,000 nodes, 129 watches, 11 "
        "transactions, 1,024 nodes in a transaction, 5 permissions for a node and "
        "2,048 bytes of path.",
    )
    QUOTA_ERROR = (
        "The error of a quota",
        "Too many watches was E2BIG; all quotas are ENOSPC now.",
    )
    QUOTA_AT_END = (
        "Nodes made in a transaction",
        "4.17 counts them when the transaction ends, which it then refuses. Ours "
        "counts them at once as well.",
    )
    NODE_HEADER = (
        "The size of a node",
        "4.17 counts 24 bytes for a node besides its permissions, value and names of "
        "children, newer versions 16, and ours does as they do.",
    )
    STALE_ERRNO = (
        "Malformed payloads of one string",
        "4.17 forgets to say what is wrong with a path that is not exactly one "
        "string ended by a NUL: it answers with the error of some earlier request, "
        "and ends with a failed assertion when there was none. It is not asked. "
        "EINVAL now.",
    )
    SPECIAL_NAMES = (
        "Special names",
        "4.17.7 allows SET_PERMS for `@releaseDomain` and `@introduceDomain`, of "
        "which it sends no event, but refuses GET_PERMS, and every refusal is the "
        "error of some earlier request, so that it is not asked. It watches a "
        "special name that ends with a slash.",
    )
    ATOI = (
        "Domain ids that are no numbers",
        "4.17 reads a domain id with atoi(): `abc` is domain 0, `5x` is 5, and "
        "nothing is too large. Now it has to be a number up to 65,535, all of it.",
    )
    LENIENT = (
        "Numbers with more than digits",
        "C xenstored, old and new, takes a sign, leading blanks and nothing at all "
        "for a domain id, and any string for the offset of DIRECTORY_PART. Ours "
        "takes digits.",
    )
    DEAD_ENTRIES = (
        "Permissions of a domain that is gone",
        "C xenstored, old and new, goes on to show the entry of a dead domain, which "
        "it ignores. Ours takes it out of the list.",
    )
    PATH_LENGTH = (
        "Long absolute paths",
        "4.17 refuses more than 2,048 bytes after `/local/domain/<domid>/` from "
        "everybody; newer C xenstored knows no limit for a socket. Ours keeps to "
        "the limits in xs_wire.h for clients without a quota: 3,072 for absolute "
        "paths, 2,048 for relative ones.",
    )
    CONTROL_TEXT = (
        "CONTROL commands that grew",
        "`log` without a parameter, `log +<switch>` and `quota max` came after "
        "4.17; the list of quotas says `node-permissions` where 4.17 says "
        "`permissions`.",
    )
    FILES = (
        "Files that a client names",
        "4.17 writes its log and its memory report into whatever file a client "
        "names. Ours opens no file for a client: `logfile` is not there, and "
        "`memreport` is answered with the report.",
    )
    RING_PAGE = (
        "What a ring page offers",
        "4.17 writes `error`, but says nothing of it in server_features, and serves a "
        "ring that it has given up never again. Ours offers what newer versions do "
        "and, as oxenstored, reconnection, so that a domain outlives its store.",
    )


class Newer(NamedTuple):
    """Where ours is not what Xen's development branch is: read there, not run."""

    name: str
    ours: str
    newer: str


NEWER: Final = (
    Newer(
        "a quota that is set for all domains",
        "counts for all that have none of their own",
        "counts for domains that come later",
    ),
    Newer(
        "paths from a socket",
        "3,072 bytes, relative ones 2,048",
        "as long as a message",
    ),
    Newer(
        "rights of a new domain with a dead one's domid",
        "none, ever",
        "those of nodes that were written last, if nothing was since",
    ),
    Newer("a ring with an error", "mended by INTRODUCE and by reconnection", "ignored"),
    Newer("bit 0 of server_features, reconnection", "offered", "not offered"),
    Newer(
        "`logfile`, and `memreport` to a file",
        "no file is opened for a client",
        "as in 4.17",
    ),
)


class Beyond(NamedTuple):
    """A difference that is no reply to one request: test_connections.py shows it."""

    name: str
    ours: str
    c_417: str
    reason: Reason


FEATURES: Final = Beyond("server_features of a ring page", "15", "0", Reason.RING_PAGE)
RECONNECTION: Final = Beyond(
    "connection=1 in a ring page is answered", "yes", "no", Reason.RING_PAGE
)
HEALED: Final = Beyond(
    "INTRODUCE again mends a ring with an error", "yes", "no", Reason.RING_PAGE
)
BEYOND: Final = (FEATURES, RECONNECTION, HEALED)
