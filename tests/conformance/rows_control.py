"""CONTROL: the commands of protocol.md 5.2, row 0.

Texts for people are held against their form only. {dir} is a directory of the test's.
"""

from typing import Final

from tests.conformance.differences import Reason
from tests.conformance.table import (
    ABSENT_DOMID,
    DOM0,
    OK,
    Differs,
    Row,
    control,
    rows,
    text,
    write,
    z,
)
from tests.conformance.wire import XS

C: Final = XS.CONTROL
COMMANDS: Final = (
    "check", "log", "live-update", "memreport", "print", "quota",
    "quota-soft", "help",
)  # fmt: skip

QUOTA_LINES: Final = r"Quota settings:\n([a-z-]+ *: +[0-9]+ [^\n]+\n){%d}"

CONTROL_ROWS: Final = rows((
    *(
        Row(f"help tells of {command}", DOM0, C, z("help"),
            text(rf"(.*\n)*{command}[ \t].*\n(.*\n)*"))
        for command in COMMANDS
    ),
    Row("help of logfile", DOM0, C, z("help"), text(r"((?!logfile).*\n)+"),
        c_417=Differs(text(r"(.*\n)*logfile.*\n(.*\n)*"), Reason.FILES)),
    Row("check", DOM0, C, z("check"), OK, before=(write("/a/b"),)),
    Row("print", DOM0, C, z("print", "a line"), OK),
    Row("log on", DOM0, C, z("log", "on"), OK),
    Row("log off", DOM0, C, z("log", "off"), OK),
    Row("log tells its switches", DOM0, C, z("log"),
        text(r"Log switch settings:\n([a-z]+ *: (on|off)\n)+"),
        c_417=Differs("EINVAL", Reason.CONTROL_TEXT)),
    Row("log switches one off", DOM0, C, z("log", "-wrl"), OK,
        c_417=Differs("EINVAL", Reason.CONTROL_TEXT)),
    Row("log switches one on", DOM0, C, z("log", "+wrl"), OK,
        c_417=Differs("EINVAL", Reason.CONTROL_TEXT)),
    Row("logfile", DOM0, C, z("logfile", "{dir}/log"), "EINVAL",
        c_417=Differs(OK, Reason.FILES)),
    Row("memreport", DOM0, C, z("memreport"), text("([a-z ]+ *: +[0-9]+\n)+"),
        c_417=Differs("EINVAL", Reason.FILES)),
    Row("memreport to a file", DOM0, C, z("memreport", "{dir}/report"), "EINVAL",
        c_417=Differs(OK, Reason.FILES)),
    Row("quota", DOM0, C, z("quota"), text(QUOTA_LINES % 9)),
    Row("quota lists nodes with their default", DOM0, C, z("quota"),
        text(r"Quota settings:\n(.*\n)*nodes +: +1000 .*\n(.*\n)*")),
    Row("quota calls permissions of a node so", DOM0, C, z("quota"),
        text(r"Quota settings:\n(.*\n)*node-permissions *: +5 .*\n(.*\n)*"),
        c_417=Differs(text(r"Quota settings:\n(.*\n)*permissions *: +5 .*\n(.*\n)*"),
                      Reason.CONTROL_TEXT)),
    Row("quota of a domain", DOM0, C, z("quota", 5),
        text(r"Domain 5:\n([a-z-]+ *: +[0-9]+( \(max +[0-9]+\))?\n)+")),
    Row("quota of a domain that does not exist", DOM0, C, z("quota", ABSENT_DOMID),
        "ENOENT"),
    Row("quota max", DOM0, C, z("quota", "max"),
        text(r"Max\. seen accounting values:\n([a-z-]+ *: +[0-9]+\n)+"),
        c_417=Differs(text(r"Domain 0:\n(.*\n)+"), Reason.CONTROL_TEXT)),
    Row("quota max -r", DOM0, C, z("quota", "max", "-r"),
        text(r"Max\. seen accounting values:\n([a-z-]+ *: +[0-9]+\n)+"),
        c_417=Differs("EINVAL", Reason.CONTROL_TEXT)),
    Row("quota set", DOM0, C, z("quota", "set", "nodes", 7), OK,
        then=(control("quota", expect=text(
            r"Quota settings:\n(.*\n)*nodes +: +7 .*\n(.*\n)*")),)),
    Row("quota-soft", DOM0, C, z("quota-soft"), text(QUOTA_LINES % 1)),
    Row("quota-soft set", DOM0, C, z("quota-soft", "set", "memory", 7), OK,
        then=(control("quota-soft", expect=text(
            r"Quota settings:\nmemory +: +7 .*\n")),)),
    Row("a string that is not ended is ignored", DOM0, C, z("check") + b"x", OK),
    *(
        Row(f"CONTROL {' '.join(arguments)!r}, {len(arguments)} strings", DOM0, C,
            z(*arguments), "EINVAL")
        for arguments in (
            (), ("",), ("none",), ("Check",), ("check", "x"), ("help", "x"),
            ("print",), ("print", "x", "y"), ("log", "x"), ("log", "on", "on"),
            ("logfile",), ("logfile", "a", "b"), ("memreport", "a", "b"),
            ("quota", "a", "b"), ("quota", "max", "x"), ("quota", "set"),
            ("quota", "set", "nodes"), ("quota", "set", "nodes", "1", "2"),
            ("quota", "set", "nodes", "0"), ("quota", "set", "nodes", "-1"),
            ("quota", "set", "nodes", "x"), ("quota", "set", "none", "1"),
            ("quota-soft", "x"), ("quota-soft", "set", "nodes", "1"),
            ("quota-soft", "set", "memory", "0"), ("live-update",),
        )
    ),
))  # fmt: skip
