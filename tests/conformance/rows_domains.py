"""protocol.md 5.2 and 5.8: domains made known, their features and their quotas."""

from typing import Final

from tests.conformance.differences import Reason
from tests.conformance.table import (
    ABSENT_DOMID,
    DOM0,
    GUEST,
    HOME,
    OK,
    PRESENT_DOMID,
    Differs,
    NotAsked,
    Row,
    Step,
    introduce,
    read,
    rows,
    text,
    watch,
    write,
    z,
)
from tests.conformance.wire import XS

NO_CHECK: Final = NotAsked(Reason.ATOI)

NUMBERS: Final = (
    *(
        Row(f"GET_DOMAIN_PATH of domain {number!r}", DOM0, XS.GET_DOMAIN_PATH,
            z(number), "EINVAL", c_417=NO_CHECK)
        for number in ("abc", "5x", "x5", "5 ", "0x5", "65536", "-1", "99999999999")
    ),
    *(
        Row(f"{type_.name} of domain {number!r}", DOM0, type_, z(number, *rest),
            "EINVAL", c_417=NO_CHECK)
        for number in ("abc", "65536")
        for type_, rest in (
            (XS.IS_DOMAIN_INTRODUCED, ()), (XS.RELEASE, ()), (XS.RESUME, ()),
            (XS.INTRODUCE, (1, 1)), (XS.SET_TARGET, (5,)), (XS.GET_FEATURE, ()),
            (XS.SET_FEATURE, (0,)), (XS.GET_QUOTA, ("nodes",)),
            (XS.SET_QUOTA, ("nodes", 1)),
        )
    ),
    *(
        Row(f"SET_TARGET to domain {number!r}", DOM0, XS.SET_TARGET, z(5, number),
            "EINVAL", c_417=NO_CHECK)
        for number in ("abc", "65536")
    ),
    *(
        Row(f"GET_DOMAIN_PATH of domain {number!r}", DOM0, XS.GET_DOMAIN_PATH,
            z(number), z(f"/local/domain/{int(number)}"))
        for number in ("05", "00", "65535")
    ),
    *(
        Row(f"GET_DOMAIN_PATH of domain {number!r}", DOM0, XS.GET_DOMAIN_PATH,
            z(number), "EINVAL",
            c_417=Differs(z(f"/local/domain/{meant}"), Reason.LENIENT))
        for number, meant in ((" 5", 5), ("+5", 5), ("", 0))
    ),
)  # fmt: skip

INTRODUCED: Final = (
    Row("IS_DOMAIN_INTRODUCED of one that is", DOM0, XS.IS_DOMAIN_INTRODUCED, z(5),
        z("T")),
    Row("IS_DOMAIN_INTRODUCED of one that is not", DOM0, XS.IS_DOMAIN_INTRODUCED,
        z(PRESENT_DOMID), z("F"), hypervisor=True),
    Row("IS_DOMAIN_INTRODUCED of none", DOM0, XS.IS_DOMAIN_INTRODUCED, z(ABSENT_DOMID),
        z("F")),
    Row("IS_DOMAIN_INTRODUCED of domain 0", DOM0, XS.IS_DOMAIN_INTRODUCED, z(0),
        z("T")),
    Row("IS_DOMAIN_INTRODUCED of DOMID_SELF", DOM0, XS.IS_DOMAIN_INTRODUCED, z(0x7FF0),
        z("T")),
    Row("INTRODUCE of a domain that exists", DOM0, XS.INTRODUCE, z(PRESENT_DOMID, 1, 1),
        OK, hypervisor=True,
        then=(Step(DOM0, XS.IS_DOMAIN_INTRODUCED, z(PRESENT_DOMID), z("T")),)),
    Row("INTRODUCE of a domain that does not exist", DOM0, XS.INTRODUCE,
        z(ABSENT_DOMID, 1, 1), "EINVAL", hypervisor=True,
        then=(Step(DOM0, XS.IS_DOMAIN_INTRODUCED, z(ABSENT_DOMID), z("F")),)),
    Row("INTRODUCE twice", DOM0, XS.INTRODUCE, z(PRESENT_DOMID, 1, 2), OK,
        hypervisor=True,
        before=(introduce(PRESENT_DOMID), watch("@introduceDomain"))),
    Row("INTRODUCE ignores further strings", DOM0, XS.INTRODUCE,
        z(PRESENT_DOMID, 1, 1, "x"), OK, hypervisor=True),
    *(
        Row(f"INTRODUCE with event channel {port!r}", DOM0, XS.INTRODUCE,
            z(PRESENT_DOMID, 1, port), "EINVAL")
        for port in ("0", "-1", "x", "")
    ),
    Row("INTRODUCE again drops the domain's watches and transactions",
        DOM0, XS.INTRODUCE, z(5, 1, 1), OK, hypervisor=True, ring=True,
        before=(*HOME, watch("a", who=GUEST)),
        then=(write("/local/domain/5/a"),
              Step(GUEST, XS.UNWATCH, z("a", "t"), "ENOENT"))),
    Row("RELEASE", DOM0, XS.RELEASE, z(PRESENT_DOMID), OK, hypervisor=True,
        before=(introduce(PRESENT_DOMID),),
        then=(Step(DOM0, XS.IS_DOMAIN_INTRODUCED, z(PRESENT_DOMID), z("F")),)),
    *(
        Row(f"{type_.name} of {what}", DOM0, type_, z(domid), expect,
            hypervisor=domid == PRESENT_DOMID)
        for type_ in (XS.RELEASE, XS.RESUME)
        for what, domid, expect in (
            ("domain 0", 0, "EINVAL"),
            ("a domain that was not introduced", PRESENT_DOMID, "ENOENT"),
            ("a domain that does not exist", ABSENT_DOMID, "ENOENT"),
        )
    ),
    Row("RELEASE twice", DOM0, XS.RELEASE, z(PRESENT_DOMID), "ENOENT", hypervisor=True,
        before=(introduce(PRESENT_DOMID),
                Step(DOM0, XS.RELEASE, z(PRESENT_DOMID), OK))),
    Row("RELEASE takes the domain's nodes along", DOM0, XS.RELEASE, z(PRESENT_DOMID),
        OK, hypervisor=True,
        before=(introduce(PRESENT_DOMID), write("/a"),
                Step(DOM0, XS.SET_PERMS, z("/a", f"n{PRESENT_DOMID}"), OK)),
        then=(read("/a", "ENOENT"),)),
    Row("INTRODUCE after RELEASE", DOM0, XS.INTRODUCE, z(PRESENT_DOMID, 1, 1), OK,
        hypervisor=True,
        before=(introduce(PRESENT_DOMID),
                Step(DOM0, XS.RELEASE, z(PRESENT_DOMID), OK))),
    Row("RESUME", DOM0, XS.RESUME, z(5), OK),
    Row("SET_TARGET", DOM0, XS.SET_TARGET, z(6, 5), OK, hypervisor=True),
    Row("SET_TARGET to itself", DOM0, XS.SET_TARGET, z(5, 5), OK, hypervisor=True),
    Row("SET_TARGET ignores further strings", DOM0, XS.SET_TARGET, z(6, 5, "x"), OK,
        hypervisor=True),
    Row("SET_TARGET of an unknown domain", DOM0, XS.SET_TARGET, z(ABSENT_DOMID, 5),
        "ENOENT"),
    Row("SET_TARGET to an unknown domain", DOM0, XS.SET_TARGET, z(5, ABSENT_DOMID),
        "ENOENT"),
)  # fmt: skip

NEW: Final = Differs("ENOSYS", Reason.NEW_MESSAGES)
NEW_PREPARED: Final = NotAsked(Reason.NEW_MESSAGES)

FEATURES: Final = (
    Row("GET_FEATURE gives what the server offers", DOM0, XS.GET_FEATURE, b"",
        text("1[45]"), c_417=NEW),
    Row("GET_FEATURE of a domain", DOM0, XS.GET_FEATURE, z(PRESENT_DOMID),
        text("1[45]"), c_417=NEW),
    Row("GET_FEATURE by a domain gives its own", GUEST, XS.GET_FEATURE, b"",
        text("1[45]"), c_417=NEW),
    Row("GET_FEATURE of a domain by a domain", GUEST, XS.GET_FEATURE, z(5), "EACCES",
        c_417=NEW),
    Row("GET_FEATURE of a domain that does not exist", DOM0, XS.GET_FEATURE,
        z(ABSENT_DOMID), "ENOENT", c_417=NEW),
    Row("GET_FEATURE with two strings", DOM0, XS.GET_FEATURE, z(5, 5), "EINVAL",
        c_417=NEW),
    Row("SET_FEATURE of a domain that was not introduced", DOM0, XS.SET_FEATURE,
        z(PRESENT_DOMID, 2), OK, hypervisor=True,
        then=(Step(DOM0, XS.GET_FEATURE, z(PRESENT_DOMID), z(2)),), c_417=NEW),
    Row("SET_FEATURE to nothing", DOM0, XS.SET_FEATURE, z(PRESENT_DOMID, 0), OK,
        hypervisor=True,
        then=(Step(DOM0, XS.GET_FEATURE, z(PRESENT_DOMID), z(0)),), c_417=NEW),
    Row("SET_FEATURE of a domain that was introduced", DOM0, XS.SET_FEATURE, z(5, 2),
        "EBUSY", c_417=NEW),
    Row("SET_FEATURE of domain 0", DOM0, XS.SET_FEATURE, z(0, 2), "EBUSY", c_417=NEW),
    Row("SET_FEATURE to what there is not", DOM0, XS.SET_FEATURE, z(PRESENT_DOMID, 16),
        "EINVAL", hypervisor=True, c_417=NEW),
    Row("SET_FEATURE of a domain that does not exist", DOM0, XS.SET_FEATURE,
        z(ABSENT_DOMID, 2), "ENOENT", c_417=NEW),
    *(
        Row(f"SET_FEATURE with {len(strings)} strings", DOM0, XS.SET_FEATURE,
            z(*strings), "EINVAL", c_417=NEW)
        for strings in ((), (PRESENT_DOMID,), (PRESENT_DOMID, 2, 2))
    ),
)  # fmt: skip

DEFAULTS: Final = {
    "nodes": 1000,
    "watches": 128,
    "outstanding": 20,
    "memory": 2621440,
    "soft-memory": 2097152,
    "transactions": 10,
    "transaction-nodes": 1024,
    "node-permissions": 5,
    "path-max": 2048,
    "node-size": 2048,
}
"""Every quota, in the order in which they are named."""

DOMAIN_QUOTAS: Final = (
    Row("GET_QUOTA names the quotas", DOM0, XS.GET_QUOTA, b"",
        z(" ".join(DEFAULTS)), c_417=NEW),
    *(
        Row(f"GET_QUOTA of {name}", DOM0, XS.GET_QUOTA, z(name), z(value), c_417=NEW)
        for name, value in DEFAULTS.items()
    ),
    Row("GET_QUOTA of a domain", DOM0, XS.GET_QUOTA, z(5, "nodes"), z(1000), c_417=NEW),
    Row("GET_QUOTA of an unknown name", DOM0, XS.GET_QUOTA, z("none"), "EINVAL",
        c_417=NEW),
    Row("GET_QUOTA of a soft quota that there is not", DOM0, XS.GET_QUOTA,
        z("soft-nodes"), "EINVAL", c_417=NEW),
    Row("GET_QUOTA of a domain that does not exist", DOM0, XS.GET_QUOTA,
        z(ABSENT_DOMID, "nodes"), "ENOENT", c_417=NEW),
    Row("GET_QUOTA looks for the domain before the name", DOM0, XS.GET_QUOTA,
        z(ABSENT_DOMID, "none"), "ENOENT", c_417=NEW),
    Row("GET_QUOTA with three strings", DOM0, XS.GET_QUOTA, z(5, "nodes", "x"),
        "EINVAL", c_417=NEW),
    Row("SET_QUOTA for all domains", DOM0, XS.SET_QUOTA, z("watches", 7), OK,
        then=(Step(DOM0, XS.GET_QUOTA, z("watches"), z(7)),
              Step(DOM0, XS.GET_QUOTA, z(PRESENT_DOMID, "watches"), z(7))), c_417=NEW),
    Row("SET_QUOTA for all domains but those that have their own", DOM0,
        XS.GET_QUOTA, z(5, "watches"), z(9),
        before=(Step(DOM0, XS.SET_QUOTA, z(5, "watches", 9), OK),
                Step(DOM0, XS.SET_QUOTA, z("watches", 7), OK)), c_417=NEW_PREPARED),
    Row("SET_QUOTA for a domain", DOM0, XS.SET_QUOTA, z(5, "watches", 7), OK,
        then=(Step(DOM0, XS.GET_QUOTA, z("watches"), z(128)),
              Step(DOM0, XS.GET_QUOTA, z(5, "watches"), z(7))), c_417=NEW),
    Row("SET_QUOTA to 0", DOM0, XS.SET_QUOTA, z(5, "watches", 0), OK,
        then=(Step(DOM0, XS.GET_QUOTA, z(5, "watches"), z(0)),), c_417=NEW),
    Row("SET_QUOTA of a soft quota", DOM0, XS.SET_QUOTA, z("soft-memory", 1000), OK,
        then=(Step(DOM0, XS.GET_QUOTA, z("soft-memory"), z(1000)),
              Step(DOM0, XS.GET_QUOTA, z("memory"), z(2621440))), c_417=NEW),
    Row("SET_QUOTA of an unknown name", DOM0, XS.SET_QUOTA, z("none", 1), "EINVAL",
        c_417=NEW),
    Row("SET_QUOTA of a domain that does not exist", DOM0, XS.SET_QUOTA,
        z(ABSENT_DOMID, "nodes", 1), "ENOENT", c_417=NEW),
    *(
        Row(f"SET_QUOTA with {len(strings)} strings", DOM0, XS.SET_QUOTA, z(*strings),
            "EINVAL", c_417=NEW)
        for strings in ((), ("nodes",), (5, "nodes", 1, 1))
    ),
)  # fmt: skip

DOMAIN_ROWS: Final = rows(NUMBERS, INTRODUCED, FEATURES, DOMAIN_QUOTAS)
