"""What the clients put into requests, and make of replies."""

import pytest

from xenvirt.abi.xs_wire import ServerFeature, XsWire
from xenvirt.xenstore import payloads, requests
from xenvirt.xenstore.errors import (
    StoreAgainError,
    StoreInvalidError,
    StoreProtocolError,
)
from xenvirt.xenstore.payloads import MAX_RESTARTS, PartialListing
from xenvirt.xenstore.perms import Access, Perm
from xenvirt.xenstore.requests import Request


@pytest.mark.parametrize(
    ("request_", "type_", "payload"),
    [
        (requests.control("quota", "1"), XsWire.CONTROL, b"quota\0001\0"),
        (requests.directory("/a"), XsWire.DIRECTORY, b"/a\0"),
        (requests.read("/a"), XsWire.READ, b"/a\0"),
        (requests.read_bytes("a"), XsWire.READ, b"a\0"),
        (requests.get_perms("/a"), XsWire.GET_PERMS, b"/a\0"),
        (requests.watch("/a", "t"), XsWire.WATCH, b"/a\0t\0"),
        (requests.watch("/a", "t", 0), XsWire.WATCH, b"/a\0t\0000\0"),
        (requests.unwatch("/a", "t"), XsWire.UNWATCH, b"/a\0t\0"),
        (requests.transaction_start(), XsWire.TRANSACTION_START, b"\0"),
        (requests.transaction_end(commit=True), XsWire.TRANSACTION_END, b"T\0"),
        (requests.transaction_end(commit=False), XsWire.TRANSACTION_END, b"F\0"),
        (requests.introduce(1, 2, 3), XsWire.INTRODUCE, b"1\0002\0003\0"),
        (requests.release(1), XsWire.RELEASE, b"1\0"),
        (requests.domain_path(1), XsWire.GET_DOMAIN_PATH, b"1\0"),
        (requests.write("/a", b"\xff\0"), XsWire.WRITE, b"/a\0\xff\0"),
        (requests.write("/a", "\u00fc\udcff"), XsWire.WRITE, b"/a\0\xc3\xbc\xff"),
        (requests.mkdir("/a"), XsWire.MKDIR, b"/a\0"),
        (requests.rm("/a"), XsWire.RM, b"/a\0"),
        (
            requests.set_perms("/a", ["n1", Perm(Access.BOTH, 2)]),
            XsWire.SET_PERMS,
            b"/a\0n1\0b2\0",
        ),
        (requests.is_domain_introduced(1), XsWire.IS_DOMAIN_INTRODUCED, b"1\0"),
        (requests.resume(1), XsWire.RESUME, b"1\0"),
        (requests.set_target(1, 2), XsWire.SET_TARGET, b"1\0002\0"),
        (requests.reset_watches(), XsWire.RESET_WATCHES, b"\0"),
        (requests.directory_part("/a", 7), XsWire.DIRECTORY_PART, b"/a\0007\0"),
        (requests.get_features(None), XsWire.GET_FEATURE, b""),
        (requests.get_features(1), XsWire.GET_FEATURE, b"1\0"),
        (
            requests.set_features(1, ServerFeature.ERROR | ServerFeature.WATCH_DEPTH),
            XsWire.SET_FEATURE,
            b"1\0006\0",
        ),
        (requests.quota_names(), XsWire.GET_QUOTA, b""),
        (requests.get_quota("nodes", None), XsWire.GET_QUOTA, b"nodes\0"),
        (requests.get_quota("nodes", 1), XsWire.GET_QUOTA, b"1\0nodes\0"),
        (requests.set_quota("nodes", 5, None), XsWire.SET_QUOTA, b"nodes\0005\0"),
        (requests.set_quota("nodes", 5, 1), XsWire.SET_QUOTA, b"1\0nodes\0005\0"),
    ],
    ids=lambda value: value.name if isinstance(value, XsWire) else "",
)
def test_a_request_is_what_xenstore_txt_says(
    request_: Request[object], type_: XsWire, payload: bytes
) -> None:
    assert (request_.type, request_.payload) == (type_, payload)


def test_there_is_a_request_of_every_type() -> None:
    import inspect

    made = inspect.getsource(requests)
    answers = {XsWire.WATCH_EVENT, XsWire.ERROR, XsWire.INVALID}
    assert {t for t in XsWire if f"XsWire.{t.name}," not in made} == answers


@pytest.mark.parametrize(
    ("request_", "reply", "result"),
    [
        (requests.read("/a"), b"gr\xc3\xbcn\xff", "gr\u00fcn\udcff"),
        (requests.read_bytes("/a"), b"\0\xff", b"\0\xff"),
        (requests.directory("/a"), b"a\0b\0", ["a", "b"]),
        (requests.directory("/a"), b"", []),
        (
            requests.get_perms("/a"),
            b"n5\0r0\0",
            (Perm(Access.NONE, 5), Perm(Access.READ, 0)),
        ),
        (requests.transaction_start(), b"7\0", 7),
        (requests.domain_path(1), b"/local/domain/1\0", "/local/domain/1"),
        (requests.is_domain_introduced(1), b"T\0", True),
        (requests.is_domain_introduced(1), b"F\0", False),
        (requests.get_features(None), b"14\0", ServerFeature(14)),
        (requests.get_features(None), b"4096\0", ServerFeature(4096)),
        (requests.quota_names(), b"nodes watches\0", ["nodes", "watches"]),
        (requests.get_quota("nodes", None), b"1000\0", 1000),
        (requests.control("help"), b"lines\n\0", "lines\n"),
        (requests.mkdir("/a"), b"OK\0", None),
    ],
)
def test_a_reply_is_what_it_means(
    request_: Request[object], reply: bytes, result: object
) -> None:
    assert request_.result(reply) == result


@pytest.mark.parametrize(
    ("request_", "reply"),
    [
        (requests.get_perms("/a"), b""),
        (requests.get_perms("/a"), b"x1\0"),
        (requests.transaction_start(), b""),
        (requests.transaction_start(), b"-1\0"),
        (requests.transaction_start(), "\u00b2".encode()),
        (requests.get_features(None), b"many\0"),
    ],
)
def test_a_reply_that_cannot_be_is_the_stores_fault(
    request_: Request[object], reply: bytes
) -> None:
    with pytest.raises(StoreProtocolError):
        request_.result(reply)


@pytest.mark.parametrize("payload", [b"", b"/a\0", b"/a\0t\0x\0", b"/a"])
def test_an_event_has_a_path_and_a_token(payload: bytes) -> None:
    assert payloads.parse_event(b"/a\0t\0") == ("/a", "t")
    with pytest.raises(StoreProtocolError):
        payloads.parse_event(payload)


@pytest.mark.parametrize("parts", [("a\0b",), ("/a", "t\0"), ("\ud800",)])
def test_what_the_store_would_misread_is_not_sent(parts: tuple[str, ...]) -> None:
    with pytest.raises(StoreInvalidError) as caught:
        payloads.strings(*parts)
    assert caught.value.path == parts[0]


def test_parts_are_joined() -> None:
    listing = PartialListing()
    assert not listing.add(b"7\0a\0b\0")
    assert listing.offset == 4
    assert listing.add(b"7\0c\0\0")
    assert listing.children() == ["a", "b", "c"]


def test_a_listing_starts_over_when_the_directory_has_changed() -> None:
    listing = PartialListing()
    assert not listing.add(b"7\0a\0b\0")
    assert not listing.add(b"8\0c\0\0")
    assert listing.offset == 0
    assert listing.add(b"8\0c\0\0")
    assert listing.children() == ["c"]


def test_a_listing_does_not_start_over_for_ever() -> None:
    listing = PartialListing("/d")
    for generation in range(0, 2 * MAX_RESTARTS, 2):
        assert not listing.add(b"%d\0a\0" % generation)
        assert not listing.add(b"%d\0b\0" % (generation + 1))
    assert not listing.add(b"x\0a\0")
    with pytest.raises(StoreAgainError) as caught:
        listing.add(b"y\0b\0")
    assert caught.value.path == "/d"


@pytest.mark.parametrize("part", [b"", b"7", b"7\0"])
def test_a_part_that_leads_nowhere_is_the_stores_fault(part: bytes) -> None:
    with pytest.raises(StoreProtocolError):
        PartialListing().add(part)


def test_no_children_are_an_empty_listing() -> None:
    listing = PartialListing()
    assert listing.add(b"7\0\0")
    assert listing.children() == []
