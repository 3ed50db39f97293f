"""xenstore.txt's rules for paths."""

import pytest

from xenvirt.errors import StoreError
from xenvirt.xenstore import path as paths


@pytest.mark.parametrize(
    ("sent", "canonical"),
    [
        ("/", "/"),
        ("/local/domain/0", "/local/domain/0"),
        ("/a@b/c-d_e/0", "/a@b/c-d_e/0"),
        ("device/vif/0", "/local/domain/7/device/vif/0"),
        ("/" + "a" * 3071, "/" + "a" * 3071),
        ("a" * 2048, "/local/domain/7/" + "a" * 2048),
    ],
)
def test_valid_paths_become_absolute(sent: str, canonical: str) -> None:
    assert paths.canonical(sent, 7) == canonical


@pytest.mark.parametrize(
    "sent",
    [
        "", "//", "/a/", "a/", "/a//b", "/local/domain/", "/a b", "/a.b", "/é",
        "/a\n", "/a\0", "@releaseDomain", "/" + "a" * 3072, "a" * 2049,
    ],
)  # fmt: skip
def test_malformed_paths_are_refused(sent: str) -> None:
    with pytest.raises(StoreError, match="EINVAL"):
        paths.canonical(sent, 7)


@pytest.mark.parametrize("name", ["@releaseDomain", "@releaseDomain/12", "@other"])
def test_special_names_pass_for_watches(name: str) -> None:
    assert paths.canonical_or_special(name, 0) == name


@pytest.mark.parametrize("name", ["@", "@a/", "@a/b", "@a//1", "@" + "a" * 2048])
def test_malformed_special_names_are_refused(name: str) -> None:
    with pytest.raises(StoreError, match="EINVAL"):
        paths.canonical_or_special(name, 0)


def test_ancestors_end_at_the_root() -> None:
    assert list(paths.ancestors("/a/b/c")) == ["/a/b", "/a", "/"]
    assert list(paths.ancestors("/")) == []


def test_the_domain_prefix_does_not_count_for_the_quota() -> None:
    assert paths.quota_length("/local/domain/12/abc") == 3
    assert paths.quota_length("/local/domain/12") == 16
    assert paths.quota_length("/vm/abc") == 7
