"""The wire layout: octets from netif.h's diagrams, and Xen's own headers as a witness.

The literal tests need nothing. The others compile a program against Debian's
libxen-dev that prints what the real headers say.
"""

import subprocess
from enum import IntEnum, IntFlag
from pathlib import Path
from typing import Final

import pytest

from xenvirt.abi import gnttab, ids, netif, xenbus, xs_wire
from xenvirt.native.extension import ffi, lib

XEN_HEADERS: Final = Path("/usr/include/xen")

LITERALS: Final = [
    (
        "struct netif_tx_request",
        {"gref": 0x01020304, "offset": 0x0506, "flags": 8, "id": 0x0A0B, "size": 1514},
        "04030201 0605 0800 0b0a ea05",
    ),
    ("struct netif_tx_response", {"id": 0x0A0B, "status": -1}, "0b0a ffff"),
    (
        "struct netif_rx_request",
        {"id": 0x0A0B, "pad": 0, "gref": 0x01020304},
        "0b0a 0000 04030201",
    ),
    (
        "struct netif_rx_response",
        {"id": 0x0A0B, "offset": 2, "flags": 4, "status": 4094},
        "0b0a 0200 0400 fe0f",
    ),
    (
        "struct netif_extra_info",  # as xen-netfront writes it for an MSS of 1448
        {"type": 1, "flags": 0, "u": {"gso": {"size": 1448, "type": 1}}},
        "01 00 a805 01 00 0000",
    ),
    (
        "struct netif_extra_info",
        {"type": 2, "flags": 1, "u": {"mcast": {"addr": [1, 0, 0x5E, 0, 0, 0xFB]}}},
        "02 01 01005e0000fb",
    ),
    (
        "struct netif_extra_info",
        {"type": 4, "u": {"hash": {"type": 2, "algorithm": 1, "value": [4, 3, 2, 1]}}},
        "04 00 02 01 04030201",
    ),
    (
        "struct netif_ctrl_request",
        {"id": 1, "type": 3, "data": [0x11223344, 40, 0]},
        "0100 0300 44332211 28000000 00000000",
    ),
    (
        "struct netif_ctrl_response",
        {"id": 1, "type": 5, "status": 2, "data": 128},
        "0100 0500 02000000 80000000",
    ),
    (
        "struct netif_gref",
        {"ref": 0x01020304, "flags": 1, "status": 2},
        "04030201 0100 0200",
    ),
    (
        "struct xen_sring",
        {"req_prod": 1, "req_event": 2, "rsp_prod": 3, "rsp_event": 0xFFFFFFF0},
        "01000000 02000000 03000000 f0ffffff" + "00" * 48,
    ),
    (
        "struct grant_entry_v1",
        {"flags": 0x1D, "domid": 3, "frame": 0x40},
        "1d00 0300 40000000",
    ),
    (
        "struct xsd_sockmsg",
        {"type": 2, "req_id": 7, "tx_id": 0x01020304, "len": 5},
        "02000000 07000000 04030201 05000000",
    ),
]

# Ours -> Xen's, for every struct that has a name there.
STRUCTS: Final = {
    "struct netif_tx_request": "struct netif_tx_request",
    "struct netif_tx_response": "struct netif_tx_response",
    "struct netif_rx_request": "struct netif_rx_request",
    "struct netif_rx_response": "struct netif_rx_response",
    "struct netif_extra_info": "struct netif_extra_info",
    "struct netif_ctrl_request": "struct xen_netif_ctrl_request",
    "struct netif_ctrl_response": "struct xen_netif_ctrl_response",
    "struct netif_gref": "struct xen_netif_gref",
    "union netif_tx_sring_entry": "union netif_tx_sring_entry",
    "union netif_rx_sring_entry": "union netif_rx_sring_entry",
    "struct netif_tx_sring": "struct netif_tx_sring",
    "struct netif_rx_sring": "struct netif_rx_sring",
    "struct grant_entry_v1": "struct grant_entry_v1",
    "struct xsd_sockmsg": "struct xsd_sockmsg",
    "struct xenstore_domain_interface": "struct xenstore_domain_interface",
}

ENUMS: Final[dict[type[IntEnum] | type[IntFlag], str]] = {
    netif.TxFlags: "NETTXF_{lower}",
    netif.RxFlags: "NETRXF_{lower}",
    netif.ExtraType: "XEN_NETIF_EXTRA_TYPE_{upper}",
    netif.GsoType: "XEN_NETIF_GSO_TYPE_{upper}",
    netif.NetifRsp: "NETIF_RSP_{upper}",
    gnttab.GrantFlags: "GTF_{lower}",
    gnttab.GrantStatus: "GNTST_{lower}",
    xs_wire.XsWire: "XS_{upper}",
    xs_wire.ServerFeature: "XENSTORE_SERVER_FEATURE_{upper}",
    xs_wire.RingConnection: "XENSTORE_{upper}",
    xs_wire.RingError: "XENSTORE_ERROR_{upper}",
    xenbus.XenbusState: "XenbusState{title}",
}

# Not in Xen 4.17's headers, which Debian 12 has; protocol.md 5.2 and 5.9.
NEWER: Final = {
    "XS_GET_FEATURE": 23,
    "XS_SET_FEATURE": 24,
    "XS_GET_QUOTA": 25,
    "XS_SET_QUOTA": 26,
    "XENSTORE_SERVER_FEATURE_WATCH_DEPTH": 4,
    "XENSTORE_SERVER_FEATURE_DOMID_ANY": 8,
}
NEWER_FIELDS: Final = {("struct xenstore_domain_interface", "evtchn_port"): 2076}

C_CONSTANTS: Final = (
    "NETTXF_",
    "NETRXF_",
    "XEN_NETIF_",
    "NETIF_RSP_",
    "GTF_",
    "GNTST_",
)

PYTHON_CONSTANTS: Final = {
    "XEN_NETIF_EXTRA_FLAG_MORE": netif.EXTRA_FLAG_MORE,
    "XEN_NETIF_MAX_TX_SIZE": netif.XEN_NETIF_MAX_TX_SIZE,
    "XEN_NETIF_NR_SLOTS_MIN": netif.XEN_NETIF_NR_SLOTS_MIN,
    "__CONST_RING_SIZE(netif_tx, 4096)": netif.NET_TX_RING_SIZE,
    "__CONST_RING_SIZE(netif_rx, 4096)": netif.NET_RX_RING_SIZE,
    "sizeof(struct grant_entry_v1)": gnttab.GRANT_ENTRY_SIZE,
    "4096 / sizeof(struct grant_entry_v1)": gnttab.GRANT_ENTRIES_PER_PAGE,
    "GNTTAB_NR_RESERVED_ENTRIES": ids.GNTTAB_NR_RESERVED_ENTRIES,
    "GNTTAB_RESERVED_CONSOLE": ids.GNTTAB_RESERVED_CONSOLE,
    "GNTTAB_RESERVED_XENSTORE": ids.GNTTAB_RESERVED_XENSTORE,
    "DOMID_FIRST_RESERVED": ids.DOMID_FIRST_RESERVED,
    "DOMID_SELF": ids.DOMID_SELF,
    "XENSTORE_PAYLOAD_MAX": xs_wire.XENSTORE_PAYLOAD_MAX,
    "XENSTORE_ABS_PATH_MAX": xs_wire.XENSTORE_ABS_PATH_MAX,
    "XENSTORE_REL_PATH_MAX": xs_wire.XENSTORE_REL_PATH_MAX,
    "XENSTORE_RING_SIZE": xs_wire.XENSTORE_RING_SIZE,
    "sizeof(struct xsd_sockmsg)": xs_wire.HEADER.size,
}

PROGRAM: Final = """
#include <errno.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#define __XEN_TOOLS__ 1
#include <xen/xen.h>
#include <xen/grant_table.h>
#include <xen/io/ring.h>
#include <xen/io/netif.h>
#include <xen/io/xenbus.h>
#include <xen/io/xs_wire.h>
int main(void)
{
    %s
    for (size_t i = 0; i < sizeof(xsd_errors) / sizeof(xsd_errors[0]); i++)
        printf("xsd_errors\\t%%s\\n", xsd_errors[i].errstring);
    return 0;
}
"""


def enum_constants() -> dict[str, int]:
    """What each member of the Python enums is called in Xen's headers."""
    return {
        form.format(
            lower=name.lower(), upper=name, title=name.title().replace("_", "")
        ): int(member)
        for enum, form in ENUMS.items()
        for name, member in enum.__members__.items()
    }


def c_constants() -> dict[str, int]:
    """The constants that native/ declares."""
    return {
        name: getattr(lib, name) for name in dir(lib) if name.startswith(C_CONSTANTS)
    }


def struct_layout() -> dict[str, int]:
    """Sizes and offsets that native/ declares, as expressions over Xen's headers."""
    layout = {}
    for ours, theirs in STRUCTS.items():
        newer = [field for struct, field in NEWER_FIELDS if struct == ours]
        if not newer and not ours.endswith("_sring"):  # Xen's ends in ring[1]
            layout[f"sizeof({theirs})"] = ffi.sizeof(ours)
        for name, _ in ffi.typeof(ours).fields:
            if name not in newer and name not in ("sring", "extra"):
                layout[f"offsetof({theirs}, {name})"] = ffi.offsetof(ours, name)
    for name in ("req_prod", "req_event", "rsp_prod", "rsp_event"):
        expression = f"offsetof(struct netif_tx_sring, {name})"
        layout[expression] = ffi.offsetof("struct xen_sring", name)
    for path in ("gso.size", "gso.type", "gso.features", "mcast.addr", "hash.value"):
        expression = f"offsetof(struct netif_extra_info, u.{path})"
        layout[expression] = ffi.offsetof(
            "struct netif_extra_info", "u", *path.split(".")
        )
    return layout


def without_newer(constants: dict[str, int]) -> dict[str, int]:
    return {name: value for name, value in constants.items() if name not in NEWER}


@pytest.fixture(scope="module")
def xen(tmp_path_factory: pytest.TempPathFactory) -> dict[str, list[str]]:
    """What Xen's headers say of each expression."""
    if not (XEN_HEADERS / "io/netif.h").exists():
        pytest.skip("Xen's headers are not installed: apt-get install libxen-dev")
    prints = "\n    ".join(
        f'printf("{name}\\t%ld\\n", (long)({name}));' for name in WITNESSED
    )
    directory = tmp_path_factory.mktemp("xen")
    source = directory / "print.c"
    source.write_text(PROGRAM % prints)
    subprocess.run(["gcc", "-o", directory / "print", source], check=True)
    output = subprocess.run(
        [directory / "print"], check=True, capture_output=True, text=True
    ).stdout
    said: dict[str, list[str]] = {}
    for line in output.splitlines():
        name, value = line.split("\t")
        said.setdefault(name, []).append(value)
    return said


WITNESSED: Final = {
    **without_newer(enum_constants()),
    **c_constants(),
    **struct_layout(),
    **PYTHON_CONSTANTS,
}


@pytest.mark.parametrize(("struct", "fields", "octets"), LITERALS)
def test_a_struct_is_these_octets(
    struct: str, fields: dict[str, object], octets: str
) -> None:
    made = ffi.new(f"{struct} *", fields)
    assert bytes(ffi.buffer(made)) == bytes.fromhex(octets)


@pytest.mark.parametrize("kind", ["tx", "rx"])
def test_a_ring_is_a_head_and_256_entries_in_one_page(kind: str) -> None:
    size = {"tx": 12, "rx": 8}[kind]
    assert ffi.offsetof(f"struct netif_{kind}_sring", "ring") == 64
    assert ffi.sizeof(f"union netif_{kind}_sring_entry") == size
    assert ffi.sizeof(f"struct netif_{kind}_sring") == 64 + 256 * size <= 4096


def test_tx_and_rx_say_csum_blank_with_different_bits() -> None:
    assert (netif.TxFlags.CSUM_BLANK, netif.TxFlags.DATA_VALIDATED) == (1, 2)
    assert (netif.RxFlags.CSUM_BLANK, netif.RxFlags.DATA_VALIDATED) == (2, 1)


def test_an_xsd_sockmsg_is_four_words() -> None:
    header = xs_wire.HEADER.pack(xs_wire.XsWire.READ, 7, 0x01020304, 5)
    assert header == bytes.fromhex("02000000 07000000 04030201 05000000")


def test_python_and_c_agree_on_what_both_name() -> None:
    ours, theirs = enum_constants(), c_constants()
    both = ours.keys() & theirs.keys()
    assert len(both) > 25
    assert {name: ours[name] for name in both} == {name: theirs[name] for name in both}


def test_what_debians_headers_do_not_have_yet() -> None:
    constants = enum_constants()
    assert {name: constants[name] for name in NEWER} == NEWER
    for (struct, field), offset in NEWER_FIELDS.items():
        assert ffi.offsetof(struct, field) == offset


@pytest.mark.parametrize("expression", WITNESSED)
def test_xens_header_says_the_same(xen: dict[str, list[str]], expression: str) -> None:
    assert xen[expression] == [str(WITNESSED[expression])]


def test_the_error_strings_are_xens_in_their_order(xen: dict[str, list[str]]) -> None:
    assert tuple(xen["xsd_errors"]) == xs_wire.XSD_ERRORS
