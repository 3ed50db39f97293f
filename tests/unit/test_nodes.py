"""The toolstack's nodes against what a real libxl was seen to write."""

import re
from collections.abc import Iterator

import pytest

from tests.helpers_xenstore import running_store
from xenvirt.abi.ids import DOM0, DevId, DomId
from xenvirt.abi.xs_wire import XsWire
from xenvirt.toolstack import domain_nodes, vif_nodes
from xenvirt.toolstack.domain_nodes import NewDomain
from xenvirt.toolstack.vif_nodes import VifConfig, VifPaths
from xenvirt.xenstore.sync_client import SyncClient
from xenvirt.xenstore.sync_nodes import SyncNodes

PATHS = VifPaths(DomId(1), DOM0, DevId(0))
FRONT = "/local/domain/1/device/vif/0"
BACK = "/local/domain/0/backend/vif/1/0"
LIBXL = "/libxl/1/device/vif/0"

# xl create with vif=['mac=00:16:3e:00:00:01,bridge=xenbr0'], Xen 4.17: every request
# that changes something, as xenstored traced them.
ATTACH_TRACE = """
RM        /libxl/1/device/vif/0
WRITE     /libxl/1/device/vif/0/frontend /local/domain/1/device/vif/0
WRITE     /libxl/1/device/vif/0/backend /local/domain/0/backend/vif/1/0
RM        /local/domain/1/device/vif/0
MKDIR     /local/domain/1/device/vif/0
SET_PERMS /local/domain/1/device/vif/0 n1 r0
WRITE     /local/domain/1/device/vif/0/backend /local/domain/0/backend/vif/1/0
WRITE     /local/domain/1/device/vif/0/backend-id 0
SET_PERMS /local/domain/1/device/vif/0/backend-id n1 r0
WRITE     /local/domain/1/device/vif/0/state 1
SET_PERMS /local/domain/1/device/vif/0/state n1 r0
WRITE     /local/domain/1/device/vif/0/handle 0
SET_PERMS /local/domain/1/device/vif/0/handle n1 r0
WRITE     /local/domain/1/device/vif/0/mac 00:16:3e:00:00:01
SET_PERMS /local/domain/1/device/vif/0/mac n1 r0
WRITE     /local/domain/1/device/vif/0/trusted 1
SET_PERMS /local/domain/1/device/vif/0/trusted n1 r0
WRITE     /local/domain/1/device/vif/0/mtu 1500
SET_PERMS /local/domain/1/device/vif/0/mtu n0 r1
RM        /local/domain/0/backend/vif/1/0
MKDIR     /local/domain/0/backend/vif/1/0
SET_PERMS /local/domain/0/backend/vif/1/0 n0 r1
WRITE     /local/domain/0/backend/vif/1/0/frontend /local/domain/1/device/vif/0
WRITE     /local/domain/0/backend/vif/1/0/frontend-id 1
WRITE     /local/domain/0/backend/vif/1/0/online 1
WRITE     /local/domain/0/backend/vif/1/0/state 1
WRITE     /local/domain/0/backend/vif/1/0/script /etc/xen/scripts/vif-bridge
WRITE     /local/domain/0/backend/vif/1/0/mac 00:16:3e:00:00:01
WRITE     /local/domain/0/backend/vif/1/0/bridge xenbr0
WRITE     /local/domain/0/backend/vif/1/0/handle 0
WRITE     /local/domain/0/backend/vif/1/0/type vif
WRITE     /local/domain/0/backend/vif/1/0/hotplug-status
WRITE     /libxl/1/device/vif/0/frontend-id 1
WRITE     /libxl/1/device/vif/0/online 1
WRITE     /libxl/1/device/vif/0/state 1
WRITE     /libxl/1/device/vif/0/script /etc/xen/scripts/vif-bridge
WRITE     /libxl/1/device/vif/0/mac 00:16:3e:00:00:01
WRITE     /libxl/1/device/vif/0/bridge xenbr0
WRITE     /libxl/1/device/vif/0/handle 0
WRITE     /libxl/1/device/vif/0/type vif
WRITE     /libxl/1/device/vif/0/hotplug-status
"""

# xl network-detach: first what tells the backend, then the removal.
DETACH_TRACE = """
WRITE /local/domain/0/backend/vif/1/0/online 0
WRITE /local/domain/0/backend/vif/1/0/state 5
"""
REMOVE_TRACE = """
RM /local/domain/1/device/vif/0
RM /local/domain/1/device/vif
RM /libxl/1/device/vif/0
RM /libxl/1/device/vif
RM /local/domain/0/backend/vif/1/0
RM /local/domain/0/backend/vif/1
RM /local/domain/0/backend/vif
"""

# xenstore-ls -fp of the same vif, without what the two drivers added.
PERMS = """
/local/domain/0/backend/vif = "" (n0)
/local/domain/0/backend/vif/1 = "" (n0)
/local/domain/0/backend/vif/1/0 = "" (n0,r1)
/local/domain/0/backend/vif/1/0/hotplug-status = "" (n0,r1)
/local/domain/1/device/vif = "" (n0,r1)
/local/domain/1/device/vif/0 = "" (n1,r0)
/local/domain/1/device/vif/0/backend = "/local/domain/0/backend/vif/1/0" (n1,r0)
/local/domain/1/device/vif/0/state = "1" (n1,r0)
/local/domain/1/device/vif/0/mtu = "1500" (n0,r1)
/libxl/1/device/vif = "" (n0)
/libxl/1/device/vif/0 = "" (n0)
/libxl/1/device/vif/0/hotplug-status = "" (n0)
"""

CHANGES = {XsWire.WRITE, XsWire.MKDIR, XsWire.RM, XsWire.SET_PERMS}


class TracedNodes(SyncClient):
    """Requests of domain 0 on a store; `trace` has those that change it."""

    trace: list[str]

    def _ask(self, type_: XsWire, payload: bytes, path: str) -> bytes:
        if type_ in CHANGES:
            words = payload.replace(b"\0", b" ").decode().strip()
            self.trace.append(f"{type_.name} {words}")
        return super()._ask(type_, payload, path)


def lines(trace: str) -> list[str]:
    return [re.sub(r"\s+", " ", line) for line in trace.strip().split("\n")]


def about_the_vif(trace: list[str]) -> list[str]:
    return [line for line in trace if "/error/" not in line]


def domain(domid: int = 1) -> NewDomain:
    return NewDomain(DomId(domid), "web", f"uuid-{domid}", 32833, 64, 1)


def config(**changes: object) -> VifConfig:
    given = {
        "mac": "00:16:3e:00:00:01",
        "mtu": 1500,
        "script": "/etc/xen/scripts/vif-bridge",
        "bridge": "xenbr0",
    }
    return VifConfig(**given | changes)  # type: ignore[arg-type]


@pytest.fixture
def nodes() -> Iterator[TracedNodes]:
    with running_store() as store, TracedNodes(store.path) as nodes:
        nodes.trace = []
        domain_nodes.write(nodes, domain())
        nodes.trace.clear()
        yield nodes


def keys(nodes: SyncNodes, path: str) -> list[str]:
    return nodes.ls(path)


def tree(nodes: SyncNodes, path: str = "") -> set[str]:
    found = {path}
    for name in nodes.ls(path or "/"):
        found |= tree(nodes, f"{path}/{name}")
    return found


# --- vifs ---


def test_attach_writes_what_libxl_writes_in_its_order(nodes: TracedNodes) -> None:
    vif_nodes.write(nodes, PATHS, config())
    assert about_the_vif(nodes.trace) == lines(ATTACH_TRACE)


def test_attach_sets_the_permissions_of_libxl(nodes: TracedNodes) -> None:
    vif_nodes.write(nodes, PATHS, config())
    for line in lines(PERMS):
        path, value, perms = re.fullmatch(r"(\S+) = \"(.*)\" \((.*)\)", line).groups()  # type: ignore[union-attr]
        assert nodes.read(path) == value
        assert ",".join(map(str, nodes.get_perms(path))) == perms, path


def test_optional_keys_stand_where_libxl_has_them(nodes: TracedNodes) -> None:
    everything = config(
        vifname="web0",
        ip="10.0.0.2",
        gatewaydev="eth0",
        rate="20000,20000",
        mtu=9000,
        vlan="10p",
        trusted=False,
        queues=4,
        front_without="sg/gso",
        back_without="csum",
    )
    vif_nodes.write(nodes, PATHS, everything)
    assert keys(nodes, BACK) == [
        "frontend", "frontend-id", "online", "state", "script", "vifname", "mac",
        "ip", "gatewaydev", "rate", "mtu", "vlan", "bridge", "handle", "type",
        "x-queues", "x-without", "hotplug-status",
    ]  # fmt: skip
    assert keys(nodes, FRONT) == [
        "backend", "backend-id", "state", "handle", "mac", "trusted", "x-queues",
        "x-without", "mtu",
    ]  # fmt: skip
    assert nodes.read(f"{BACK}/rate") == "20000,20000"
    assert nodes.read(f"{FRONT}/trusted") == "0"
    assert nodes.read(f"{FRONT}/mtu") == nodes.read(f"{BACK}/mtu") == "9000"
    assert nodes.read(f"{FRONT}/x-without") == "sg/gso"
    assert nodes.read(f"{BACK}/x-without") == "csum"
    assert nodes.read(f"{FRONT}/x-queues") == nodes.read(f"{BACK}/x-queues") == "4"


def test_the_keys_of_several_queues_are_read_with_the_others(
    nodes: TracedNodes,
) -> None:
    vif_nodes.write(nodes, PATHS, config())
    flat = vif_nodes.read_frontend(nodes, PATHS)
    assert flat == vif_nodes.read_directory(nodes, PATHS.frontend)
    assert vif_nodes.queue_prefixes(flat) == [""]
    keys = {f"queue-{n}/tx-ring-ref": str(8 + n) for n in (0, 1, 8)}
    nodes.write({f"{FRONT}/{key}": value for key, value in keys.items()})
    front = vif_nodes.read_frontend(nodes, PATHS)
    assert vif_nodes.queue_prefixes(front) == ["queue-0/", "queue-1/"]
    assert front["queue-1/tx-ring-ref"] == "9"
    # No vif has a ninth one, whatever a frontend has written.
    assert "queue-8/tx-ring-ref" not in front


def test_a_vif_without_a_bridge_has_no_such_key(nodes: TracedNodes) -> None:
    vif_nodes.write(nodes, PATHS, config(bridge=None))
    assert "bridge" not in keys(nodes, BACK)


def test_a_backend_elsewhere_has_its_nodes_there(nodes: TracedNodes) -> None:
    domain_nodes.write(nodes, domain(2))
    paths = VifPaths(DomId(1), DomId(2), DevId(3))
    vif_nodes.write(nodes, paths, config())
    back = "/local/domain/2/backend/vif/1/3"
    assert paths.backend == back
    assert nodes.read(f"{paths.frontend}/backend") == back
    assert nodes.read(f"{paths.frontend}/backend-id") == "2"
    assert list(map(str, nodes.get_perms(back))) == ["n2", "r1"]
    assert list(map(str, nodes.get_perms(paths.frontend))) == ["n1", "r2"]
    assert list(map(str, nodes.get_perms(f"{paths.frontend}/mtu"))) == ["n2", "r1"]


def test_attach_removes_what_was_there_before(nodes: TracedNodes) -> None:
    nodes.write({f"{BACK}/hotplug-error": "old", f"{FRONT}/tx-ring-ref": "8"})
    nodes.write({PATHS.frontend_error: "22 old", PATHS.backend_error: "5 old"})
    vif_nodes.write(nodes, PATHS, config())
    assert "hotplug-error" not in keys(nodes, BACK)
    assert "tx-ring-ref" not in keys(nodes, FRONT)
    assert not nodes.exists(PATHS.frontend_error)
    assert not nodes.exists(PATHS.backend_error)


def test_detach_asks_the_backend_as_libxl_does(nodes: TracedNodes) -> None:
    vif_nodes.write(nodes, PATHS, config())
    nodes.trace.clear()
    vif_nodes.begin_removal(nodes, PATHS, forced=False)
    assert nodes.trace == lines(DETACH_TRACE)


def test_a_closed_backend_stays_closed(nodes: TracedNodes) -> None:
    vif_nodes.write(nodes, PATHS, config())
    nodes.write({f"{BACK}/state": "6"})
    vif_nodes.begin_removal(nodes, PATHS, forced=False)
    assert nodes.read(f"{BACK}/state") == "6"
    assert nodes.read(f"{BACK}/online") == "0"


def test_destroy_removes_the_frontend_first(nodes: TracedNodes) -> None:
    vif_nodes.write(nodes, PATHS, config())
    nodes.trace.clear()
    vif_nodes.begin_removal(nodes, PATHS, forced=True)
    assert nodes.trace == [f"RM {FRONT}", *lines(DETACH_TRACE)]


def test_removal_of_a_backend_that_is_gone_does_not_bring_it_back(
    nodes: TracedNodes,
) -> None:
    vif_nodes.begin_removal(nodes, PATHS, forced=True)
    assert not nodes.exists(BACK)


def test_the_trees_go_in_the_order_of_libxl(nodes: TracedNodes) -> None:
    vif_nodes.write(nodes, PATHS, config())
    nodes.trace.clear()
    vif_nodes.remove(nodes, PATHS)
    assert about_the_vif(nodes.trace) == lines(REMOVE_TRACE)


def test_directories_that_other_vifs_use_stay(nodes: TracedNodes) -> None:
    other = VifPaths(DomId(1), DOM0, DevId(1))
    vif_nodes.write(nodes, PATHS, config())
    before = tree(nodes)
    vif_nodes.write(nodes, other, config())
    nodes.write({other.backend_error: "5 broken", other.frontend_error: "5 broken"})
    vif_nodes.remove(nodes, other)
    assert tree(nodes) == before


def test_attach_and_removal_leave_the_store_as_it_was(nodes: TracedNodes) -> None:
    nodes.mkdir("/local/domain/0/backend")
    nodes.mkdir("/libxl/1/device")
    before = tree(nodes)
    vif_nodes.write(nodes, PATHS, config())
    nodes.write({PATHS.backend_error: "5 broken", PATHS.frontend_error: "5 broken"})
    vif_nodes.remove(nodes, PATHS)
    assert tree(nodes) == before


# --- domains ---


def test_a_domain_may_write_where_libxl_lets_it(nodes: TracedNodes) -> None:
    path = "/local/domain/1"
    for name in ("", "/cpu", "/memory", "/device", "/control"):
        assert list(map(str, nodes.get_perms(path + name))) == ["n0", "r1"], name
    for name in ("/control/shutdown", "/data", "/drivers", "/attr", "/error"):
        assert list(map(str, nodes.get_perms(path + name))) == ["n1"], name
    assert list(map(str, nodes.get_perms("/vm/uuid-1"))) == ["n0", "r1"]
    assert list(map(str, nodes.get_perms("/libxl/1"))) == ["n0"]


def test_a_domain_is_told_who_it_is(nodes: TracedNodes) -> None:
    path = "/local/domain/1"
    assert nodes.read(f"{path}/name") == "web"
    assert nodes.read(f"{path}/domid") == "1"
    assert nodes.read(f"{path}/vm") == "/vm/uuid-1"
    assert nodes.read(f"{path}/store/ring-ref") == "64"
    assert nodes.read(f"{path}/store/port") == "1"
    assert nodes.read(f"{path}/memory/target") == str(32833 * 4)


def test_removal_of_a_domain_leaves_nothing(nodes: TracedNodes) -> None:
    before = tree(nodes)
    domain_nodes.write(nodes, domain(2))
    assert tree(nodes) != before
    domain_nodes.remove(nodes, DomId(2), "uuid-2")
    domain_nodes.remove(nodes, DomId(2), "uuid-2")
    assert tree(nodes) == before
