"""What a backend on Xen says of what cannot be, and that other vifs go on.

The frontend's keys are written by hand, as dom0 may write anybody's.
"""

import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

import pytest

from tests.xen.ends import (
    PATIENCE_S,
    RunningEnd,
    eventually,
    kernel_takes_no_new_vif,
    store,
    wait_for_states,
)
from xenvirt.abi.ids import DOM0, DevId, DomId
from xenvirt.hypervisor.xen_channel import XenChannel
from xenvirt.native.gnttab import GntallocPages
from xenvirt.netdev import namespaces
from xenvirt.toolstack import vif_nodes
from xenvirt.toolstack.vif_nodes import VifConfig, VifPaths
from xenvirt.vif.plug import BUILTIN_NONE

MAC: Final = "00:16:3e:00:00:41"
NOBODY: Final = DomId(4711)
NEVER_GRANTED: Final = 30000
LIMIT: Final = "/sys/module/xen_gntalloc/parameters/limit"


@pytest.fixture(scope="module")
def backend() -> Iterator[RunningEnd]:
    with kernel_takes_no_new_vif(), RunningEnd("backend") as running:
        yield running


@pytest.fixture(scope="module")
def standby(backend: RunningEnd, good: str) -> Iterator[RunningEnd]:
    """Another backend, which finds the good vif served."""
    del good
    with RunningEnd("backend") as second:
        second.wait_for(f"process {backend.process.pid} serves it; waiting for its end")
        yield second


@pytest.fixture(scope="module")
def good(backend: RunningEnd) -> Iterator[str]:
    """A vif of dom0's own, by the same backend; the name of its namespace."""
    del backend
    namespaces.create("good")
    with (
        made(VifPaths(DOM0, DOM0, DevId(9))) as paths,
        RunningEnd("frontend", "9", netns="good"),
    ):
        wait_for_states(paths.frontend_id, "4", "4", paths.devid)
        for command in (
            "ip address add 10.9.9.1/24 dev vif0.9",
            "ip -n good address add 10.9.9.2/24 dev xennet9",
        ):
            subprocess.run(command.split(), check=True)
        yield "good"
    namespaces.delete("good")


@contextmanager
def made(paths: VifPaths) -> Iterator[VifPaths]:
    """A vif's nodes, as libxl writes and removes them."""
    config = VifConfig(MAC, 1500, BUILTIN_NONE)
    with store() as client:
        client.transact(lambda nodes: vif_nodes.write(nodes, paths, config))
        try:
            yield paths
        finally:
            client.transact(lambda nodes: vif_nodes.remove(nodes, paths))


@contextmanager
def vif(frontend_id: DomId, keys: dict[str, str]) -> Iterator[VifPaths]:
    """A vif whose frontend has written `keys`, and says that it is Connected."""
    with made(VifPaths(frontend_id, DOM0, DevId(0))) as paths, store() as client:
        client.wait_for(
            f"{paths.backend}/state", lambda v: v == "2", timeout_s=PATIENCE_S
        )
        client.write({f"{paths.frontend}/{k}": v for k, v in keys.items()})
        client.write({f"{paths.frontend}/state": "4"})
        yield paths


def error(paths: VifPaths) -> str:
    with store() as client:
        client.wait_for(
            f"{paths.backend}/state", lambda v: v == "5", timeout_s=PATIENCE_S
        )
        return client.read(paths.backend_error)


def lives(name: str) -> None:
    done = subprocess.run(
        ["ping", "-c", "3", "-i", "0.2", "-w", "20", "10.9.9.2"], capture_output=True
    )
    assert b" 0% packet loss" in done.stdout, name


def xenvirt(*arguments: str) -> str:
    done = subprocess.run(
        ["xenvirt", *arguments], capture_output=True, text=True, timeout=PATIENCE_S
    )
    assert done.returncode != 0
    return done.stderr


def test_the_kernel_would_take_every_vif() -> None:
    with kernel_takes_no_new_vif():
        pass
    for command in (["backend"], ["up", "x"]):
        said = xenvirt(*command)
        assert "the kernel's netback takes every new vif" in said
        assert "echo 0 > /sys/bus/xen-backend/drivers_autoprobe" in said


def test_a_limit_on_pages_is_told_with_what_raises_it() -> None:
    limit = Path(LIMIT)
    before = limit.read_text()
    limit.write_text("400")
    try:
        with kernel_takes_no_new_vif():
            said = xenvirt("up", "greedy")
    finally:
        limit.write_text(before)
    assert "No space left on device" in said
    assert f"echo 65536 > {LIMIT}" in said


def test_a_module_that_is_not_loaded() -> None:
    subprocess.run(["busybox", "rmmod", "xen_gntalloc"], check=True)
    try:
        said = xenvirt("frontend")
    finally:
        subprocess.run(
            ["busybox", "insmod", "/lib/modules/xen_gntalloc.ko"], check=True
        )
        Path(LIMIT).write_text("4096")
    assert "there is no /dev/xen/gntalloc" in said
    assert "modprobe xen-gntalloc" in said


def test_a_vif_that_the_kernel_drives_is_left_alone() -> None:
    with made(VifPaths(DOM0, DOM0, DevId(3))) as paths:
        driver = Path("/sys/bus/xen-backend/devices/vif-0-3/driver")
        eventually(driver.exists, lambda: "netback has not taken it")
        with RunningEnd("backend", "0/3") as backend:
            backend.wait_for("backend/vif/0/3: the kernel's netback drives it")
            assert "echo vif-0-3 > " in backend.log()
        with store() as client:
            assert client.read(f"{paths.backend}/state") == "2"
            client.write(
                {f"{paths.backend}/online": "0", f"{paths.frontend}/state": "6"}
            )
            client.wait_for(
                f"{paths.backend}/state", lambda v: v == "6", timeout_s=PATIENCE_S
            )


def test_commands_that_are_xls_say_so() -> None:
    assert "xl" in xenvirt("create", "guest")


def test_a_grant_that_is_refused(good: str) -> None:
    channel = XenChannel.unbound(DOM0)
    keys = {
        "tx-ring-ref": str(NEVER_GRANTED),
        "rx-ring-ref": str(NEVER_GRANTED + 1),
        "event-channel": str(channel.port),
    }
    with vif(DOM0, keys) as paths:
        assert error(paths) == (
            f"14 mapping shared-frames {NEVER_GRANTED}/{NEVER_GRANTED + 1} "
            f"port tx {channel.port} rx {channel.port}"
        )
    channel.close()
    lives(good)


def test_an_event_channel_that_is_taken(good: str) -> None:
    channel = XenChannel.unbound(DOM0)
    taken = XenChannel.interdomain(DOM0, channel.port)
    keys = {"tx-ring-ref": "1", "rx-ring-ref": "2", "event-channel": str(channel.port)}
    with vif(DOM0, keys) as paths:
        assert error(paths).startswith(
            f"22 binding event channel {channel.port}: event channel {channel.port} of "
            "domain 0 is not there, or somebody has bound it"
        )
    taken.close()
    channel.close()
    lives(good)


def test_a_domain_that_is_gone(good: str) -> None:
    """Its nodes are still there, as when it died in between."""
    paths = VifPaths(NOBODY, DOM0, DevId(0))
    back = {
        "frontend": paths.frontend,
        "frontend-id": str(NOBODY),
        "online": "1",
        "script": BUILTIN_NONE,
        "mac": MAC,
        "handle": "0",
        "state": "1",
    }
    front = {"tx-ring-ref": "1", "rx-ring-ref": "2", "event-channel": "3", "state": "4"}
    with store() as client:
        client.write({f"{paths.frontend}/{k}": v for k, v in front.items()})
        client.write({f"{paths.backend}/{k}": v for k, v in back.items()})
        try:
            assert "binding event channel 3" in error(paths)
        finally:
            client.transact(lambda nodes: vif_nodes.remove(nodes, paths))
    lives(good)


def test_rings_with_impossible_indices(good: str) -> None:
    pages = GntallocPages(DOM0, [False, False])
    channel = XenChannel.unbound(DOM0)
    pages.page(0)[:4] = (1 << 20).to_bytes(4, "little")
    keys = {
        "tx-ring-ref": str(pages.grefs[0]),
        "rx-ring-ref": str(pages.grefs[1]),
        "event-channel": str(channel.port),
    }
    with vif(DOM0, keys) as paths:
        assert error(paths).startswith("5 mapping shared-frames")
    channel.close()
    pages.close()
    lives(good)


def test_a_second_backend_waits_and_takes_over(
    backend: RunningEnd, standby: RunningEnd, good: str
) -> None:
    lives(good)
    backend.kill()
    standby.wait_for("xvif0i9: resumed")
    lives(good)
