"""What a vif, a link and a domain are to be, before anything is made."""

import ipaddress

import pytest

from xenvirt.abi.ids import DOM0, DomId
from xenvirt.cli import names
from xenvirt.errors import NotFoundError, UsageError
from xenvirt.netdev import tap
from xenvirt.toolstack import link, vifspec
from xenvirt.toolstack.domains import DomainInfo, EndProcess, find_in
from xenvirt.toolstack.link import Request
from xenvirt.toolstack.runstate import of_domain
from xenvirt.toolstack.vif_nodes import VifConfig
from xenvirt.toolstack.vifs import Plan, plan
from xenvirt.toolstack.vifspec import VifSpec, parse
from xenvirt.vif import features

WEB = DomainInfo(DomId(3), "web", "u", 0.0, ())
HOST = DomainInfo(DOM0, "Domain-0", "u", 0.0, ())


@pytest.fixture(autouse=True)
def a_driver(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tap, "require_driver", lambda: None)


def planned(*words: str, backend_id: DomId = DOM0) -> Plan:
    return plan(parse(words), frontend_id=DomId(1), backend_id=backend_id)


def config(*words: str) -> VifConfig:
    return planned(*words).config


def test_a_vif_of_which_nothing_is_said() -> None:
    made = config()
    assert (made.mtu, made.script, made.trusted, made.type) == (
        1500,
        "builtin:none",
        True,
        "vif",
    )
    assert made.mac.startswith("00:16:3e:")
    assert made.mac != config().mac
    assert (made.bridge, made.rate, made.vifname) == (None, None, None)


def test_rate_is_written_as_bytes_and_microseconds() -> None:
    assert config("rate=1MB/s@20ms").rate == "20000,20000"


def test_a_script_by_path_says_nothing_of_a_bridge_that_only_it_knows() -> None:
    made = config("script=vif-openvswitch", "bridge=br0.10:20")
    assert made.script == "/etc/xen/scripts/vif-openvswitch"
    assert made.bridge == "br0.10:20"
    assert made.mtu == 1500


def test_a_script_by_path_runs_on_the_host_only() -> None:
    with pytest.raises(UsageError, match=r"cannot run in domain 2.*scripts run on"):
        planned("script=/bin/true", backend_id=DomId(2))


def test_the_built_in_bridge_needs_a_bridge() -> None:
    with pytest.raises(UsageError, match="has no bridge"):
        planned("script=builtin:bridge")


@pytest.mark.parametrize("value", ["sg", "gso", "csum", "sg/gso/csum"])
def test_features_may_be_taken_from_an_end(value: str) -> None:
    spec = parse([f"x-front-without={value},x-back-without=gso"])
    assert (spec.front_without, spec.back_without) == (value, "gso")
    assert features.parse_without(value) == frozenset(value.split("/"))


@pytest.mark.parametrize("value", ["tso", "sg/", "sg,x"])
def test_other_features_are_refused(value: str) -> None:
    with pytest.raises(UsageError):
        parse([f"x-front-without={value}"])


def test_the_groups_of_features_are_those_of_the_drivers() -> None:
    assert vifspec._FEATURE_GROUPS == features.GROUPS


def test_completion_knows_the_keys() -> None:
    completed = {key.removesuffix("=") for key in names._VIF_KEYS}
    assert completed == {*vifspec._KEYS, *vifspec._FLAGS} - {"netdev", "accel"}


@pytest.mark.parametrize(
    ("address", "neighbour"),
    [
        ("10.0.0.2/24", "10.0.0.1/24"),
        ("10.0.0.1/24", "10.0.0.2/24"),
        ("10.0.0.0/31", "10.0.0.1/31"),
        ("fd00::2/64", "fd00::1/64"),
    ],
)
def test_the_other_end_gets_the_lowest_address(address: str, neighbour: str) -> None:
    assert link._neighbour(ipaddress.ip_interface(address)) == ipaddress.ip_interface(
        neighbour
    )


def test_a_network_of_one_address_has_no_other() -> None:
    with pytest.raises(UsageError, match="no other address"):
        link.check(Request("web", VifSpec(), ("10.0.0.1/32",)))


@pytest.mark.parametrize(("text", "found"), [("web", WEB), ("3", WEB), ("0", HOST)])
def test_domains_are_found_by_name_and_number(text: str, found: DomainInfo) -> None:
    assert find_in([HOST, WEB], text) is found


def test_a_domain_that_is_not_there_may_have_been_meant_otherwise() -> None:
    with pytest.raises(NotFoundError, match="did you mean web"):
        find_in([HOST, WEB], "wbe")


def test_states_are_xls_letters() -> None:
    gone = (EndProcess("frontend", None, 1),)
    assert of_domain(HOST).letters == "r-----"
    assert of_domain(WEB).letters == "---s--"
    assert of_domain(DomainInfo(DomId(4), "x", "u", 0.0, gone)).letters == "---s--"
