"""What the clients make of replies."""

from xenvirt.xenstore import payloads
from xenvirt.xenstore.payloads import PartialListing


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


def test_no_children_are_an_empty_listing() -> None:
    listing = PartialListing()
    assert listing.add(b"7\0\0")
    assert listing.children() == []


def test_any_value_survives_a_round_trip_through_text() -> None:
    assert payloads.text(b"gr\xc3\xbcn\xff").encode("utf-8", "surrogateescape") == (
        b"gr\xc3\xbcn\xff"
    )


def test_a_write_keeps_the_bytes_of_its_value() -> None:
    assert payloads.write("/a", b"\xff\0") == b"/a\0\xff\0"
    assert payloads.write("/a", "\u00fc") == b"/a\0\xc3\xbc"
