"""Whose a vif is on Xen, by a sysfs of our own making."""

from pathlib import Path

import pytest

from xenvirt.errors import LocalError, NotFoundError
from xenvirt.hypervisor import kernel_drivers
from xenvirt.hypervisor.detect import found
from xenvirt.hypervisor.devices import Device, open_device, require_xen
from xenvirt.hypervisor.interface import HypervisorKind


def bound(bus: Path, device: str) -> None:
    """A device that the kernel's driver has."""
    driver = bus / "drivers" / "vif"
    driver.mkdir(parents=True, exist_ok=True)
    (bus / "devices" / device).mkdir(parents=True)
    (bus / "devices" / device / "driver").symlink_to(driver)


def test_a_vif_that_nobody_drives(tmp_path: Path) -> None:
    for nodename in ("backend/vif/1/0", "device/vif/0"):
        assert (
            kernel_drivers.driven_by(nodename, backends=tmp_path, frontends=tmp_path)
            is None
        )


@pytest.mark.parametrize(
    ("nodename", "device", "who"),
    [
        ("backend/vif/1/0", "vif-1-0", "netback"),
        ("device/vif/3", "vif-3", "netfront"),
    ],
)
def test_a_vif_that_the_kernel_drives(
    tmp_path: Path, nodename: str, device: str, who: str
) -> None:
    bound(tmp_path, device)
    said = kernel_drivers.driven_by(nodename, backends=tmp_path, frontends=tmp_path)
    assert said == (
        f"the kernel's {who} drives it; to take it over: "
        f"echo {device} > {tmp_path}/drivers/vif/unbind, and start this again"
    )


@pytest.mark.parametrize("autoprobe", ["0", None])
def test_no_contest(tmp_path: Path, autoprobe: str | None) -> None:
    (tmp_path / "drivers" / "vif").mkdir(parents=True)
    if autoprobe is not None:
        (tmp_path / "drivers_autoprobe").write_text(f"{autoprobe}\n")
    kernel_drivers.refuse_contest(tmp_path, udev=tmp_path)


def test_no_driver_is_no_contest(tmp_path: Path) -> None:
    (tmp_path / "drivers_autoprobe").write_text("1\n")
    kernel_drivers.refuse_contest(tmp_path, udev=tmp_path / "none")


def test_udev_would_load_the_driver(tmp_path: Path) -> None:
    (tmp_path / "drivers_autoprobe").write_text("1\n")
    with pytest.raises(LocalError, match="takes every new vif"):
        kernel_drivers.refuse_contest(tmp_path, udev=tmp_path)


def test_a_contest(tmp_path: Path) -> None:
    (tmp_path / "drivers" / "vif").mkdir(parents=True)
    (tmp_path / "drivers_autoprobe").write_text("1\n")
    with pytest.raises(LocalError, match="takes every new vif") as caught:
        kernel_drivers.refuse_contest(tmp_path)
    assert caught.value.hint == f"echo 0 > {tmp_path}/drivers_autoprobe"


@pytest.mark.parametrize(
    ("text", "kind"),
    [("xen\n", HypervisorKind.XEN), ("kvm\n", HypervisorKind.EMULATED)],
)
def test_the_hypervisor_is_found_out(
    tmp_path: Path, text: str, kind: HypervisorKind
) -> None:
    (tmp_path / "type").write_text(text)
    assert found(tmp_path / "type") is kind
    assert found(tmp_path / "none") is HypervisorKind.EMULATED


def test_a_device_whose_module_is_missing(tmp_path: Path) -> None:
    device = Device(str(tmp_path / "evtchn"), "xen-evtchn")
    with pytest.raises(NotFoundError, match="module xen-evtchn") as caught:
        open_device(device, 0)
    assert caught.value.hint == "modprobe xen-evtchn"


@pytest.mark.skipif(Path("/dev/xen").is_dir(), reason="this is a domain of Xen")
def test_no_xen_at_all(tmp_path: Path) -> None:
    with pytest.raises(NotFoundError, match="there is no /dev/xen") as caught:
        require_xen(type_file=tmp_path / "none")
    assert caught.value.hint == "--hypervisor emulated"
