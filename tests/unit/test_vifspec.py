import re

import pytest

from xenvirt.errors import UsageError
from xenvirt.toolstack import vifspec
from xenvirt.toolstack.mac import parse_mac, random_mac
from xenvirt.toolstack.rate import Rate
from xenvirt.toolstack.vifspec import VifSpec, parse


def test_nothing_said_is_all_defaults() -> None:
    assert parse([]) == VifSpec()


@pytest.mark.parametrize(
    "words",
    [
        ["mac=00:16:3E:00:00:01,bridge=lan,mtu=9000,untrusted"],
        ["mac=00:16:3E:00:00:01", "bridge=lan", "mtu=9000", "untrusted"],
        ["mac=00:16:3E:00:00:01 bridge=lan mtu=9000 untrusted"],
        ["mac=00:16:3E:00:00:01, bridge=lan ,", "mtu=9000,untrusted", ""],
    ],
)
def test_words_are_parted_by_commas_and_by_spaces(words: list[str]) -> None:
    assert parse(words) == VifSpec(
        mac="00:16:3e:00:00:01", bridge="lan", mtu=9000, trusted=False
    )


def test_every_key_lands_in_its_field() -> None:
    spec = parse(
        [
            "mac=00:16:3e:00:00:01",
            "bridge=br0.10:20",
            "script=vif-openvswitch",
            "ip=10.0.0.2 fd00::2/64",
            "backend=net",
            "rate=1MB/s@20ms",
            "mtu=1400",
            "vifname=web0",
            "devid=3",
            "type=vif",
            "gatewaydev=eth0",
            "vlan=10p/20/100+10x4",
            "queues=4",
            "trusted",
        ]
    )
    assert spec == VifSpec(
        mac="00:16:3e:00:00:01",
        bridge="br0.10:20",
        script="/etc/xen/scripts/vif-openvswitch",
        ip="10.0.0.2 fd00::2/64",
        backend="net",
        rate=Rate(20_000, 20_000),
        mtu=1400,
        vifname="web0",
        devid=3,
        gatewaydev="eth0",
        vlan="10p/20/100+10x4",
        queues=4,
    )


def test_a_list_of_addresses_may_be_followed_by_more_in_one_word() -> None:
    spec = parse(["ip=10.0.0.2 10.0.0.3 mtu=1400 untrusted"])
    assert (spec.ip, spec.mtu, spec.trusted) == ("10.0.0.2 10.0.0.3", 1400, False)


def test_the_last_of_two_counts_as_with_xl() -> None:
    assert parse(["mtu=1400", "mtu=1300", "trusted", "untrusted"]) == VifSpec(
        mtu=1300, trusted=False
    )


@pytest.mark.parametrize(
    ("word", "warning"),
    [
        ("type=ioemu", "type=ioemu ignored: no device model"),
        ("model=e1000", "model=e1000 ignored: no device model"),
        ("accel=1", "accel=1 ignored"),
        ("netdev=eth0", "write gatewaydev="),
    ],
)
def test_what_does_nothing_here_is_taken_with_a_warning(
    word: str, warning: str
) -> None:
    (line,) = parse([word]).warnings
    assert warning in line


def test_the_old_name_of_gatewaydev_is_known() -> None:
    assert parse(["netdev=eth0"]).gatewaydev == "eth0"


@pytest.mark.parametrize("mtu", [68, 1500, 9000, 65521])
def test_mtu_within_the_bounds(mtu: int) -> None:
    assert parse([f"mtu={mtu}"]).mtu == mtu


@pytest.mark.parametrize(
    ("word", "says", "what_to_do"),
    [
        ("mtu=67", ["mtu=67", "out of range", "68 to 65521"], "mtu=1500"),
        ("mtu=65522", ["mtu=65522", "68 to 65521"], "mtu=1500"),
        ("mtu=-1", ["mtu=-1", "out of range"], "mtu=1500"),
        ("mtu=1e3", ["mtu=1e3", "not a whole number"], "mtu=1500"),
        ("mtu=\u0661\u0665\u0660\u0660", ["not a whole number"], "mtu=1500"),
        ("mtu=" + "9" * 5000, ["not a whole number"], "mtu=1500"),
        ("devid=-1", ["devid=-1", "out of range", "0 to 65535"], "leave devid= out"),
        ("devid=65536", ["devid=65536", "0 to 65535"], "leave devid= out"),
        ("devid=a", ["devid=a", "not a whole number"], "leave devid= out"),
        ("mac=00:16:3e:00:00", ["00:16:3e:00:00 ", "six pairs"], "00:16:3e"),
        ("mac=00:16:3e:00:00:0g", ["six pairs"], "00:16:3e"),
        ("mac=0:16:3e:0:0:1", ["six pairs"], "00:16:3e"),
        ("mac=00-16-3e-00-00-01", ["six pairs", "colons"], "00:16:3e"),
        ("mac=01:00:5e:00:00:01", ["01:00:5e:00:00:01", "multicast"], "00:16:3e"),
        ("mac=ff:ff:ff:ff:ff:ff", ["multicast"], "00:16:3e"),
        ("mac=00:00:00:00:00:00", ["all zero"], "00:16:3e"),
        ("rate=10", ["rate=10", "N[GMK]{B|b}/s"], "10Mb/s"),
        ("vifname=sixteen-letters-", ["vifname", "16", "1 to 15"], ""),
        ("vifname=a/b", ["vifname", "'a/b'"], ""),
        ("vifname=tap%d", ["vifname", "'tap%d'"], ""),
        ("vifname=..", ["vifname"], ""),
        ("ip=10.0.0.300", ["ip=10.0.0.300", "'10.0.0.300'"], "ip=10.0.0.2"),
        ("type=virtio", ["type=virtio"], "type=vif"),
        ("script=builtin:ovs", ["builtin:ovs", "builtin:none"], "builtin:bridge"),
        ("bridge=", ["bridge has no value"], "bridge=VALUE"),
        ("bridge", ["bridge has no value"], "bridge=VALUE"),
        ("trusted=0", ["trusted takes no value"], "untrusted"),
        ("brigde=lan", ["'brigde'", "did you mean bridge?"], "vifname"),
        ("MAC=00:16:3e:00:00:01", ["'MAC'"], "mac bridge"),
        ("foo", ["'foo'", "not known"], "mac bridge"),
        ("=x", ["''", "not known"], "mac bridge"),
    ],
)
def test_a_bad_value_is_named_with_bound_and_remedy(
    word: str, says: list[str], what_to_do: str
) -> None:
    with pytest.raises(UsageError) as caught:
        parse([word])
    for part in says:
        assert part in str(caught.value)
    assert what_to_do in caught.value.hint


def test_the_largest_devid_still_makes_an_interface_name() -> None:
    assert len(f"xvif{0x7FEF}i{vifspec.DEVID_MAX}") == 15


def test_random_macs_are_xens_and_differ() -> None:
    macs = {random_mac() for _ in range(100)}
    assert len(macs) > 90
    for mac in macs:
        assert re.fullmatch("00:16:3e:[0-7][0-9a-f](:[0-9a-f]{2}){2}", mac)
        assert parse_mac(mac) == mac


@pytest.mark.parametrize("queues", ["1", "2", "8", "08"])
def test_queues_that_can_be(queues: str) -> None:
    assert parse([f"queues={queues}"]).queues == int(queues)


@pytest.mark.parametrize(
    ("queues", "says"),
    [
        ("0", "out of range"),
        ("9", "out of range"),
        ("-1", "out of range"),
        ("4294967297", "out of range"),
        ("two", "not a whole number"),
        ("2.0", "not a whole number"),
        ("1e1", "not a whole number"),
        ("٣", "not a whole number"),
    ],
)
def test_queues_that_cannot_be(queues: str, says: str) -> None:
    with pytest.raises(UsageError, match=f"queues={re.escape(queues)} is {says}") as c:
        parse([f"queues={queues}"])
    assert c.value.cause == "1 to 8 can be"
    assert "leave queues= out" in c.value.hint
