"""Quotas by their wire names, and the N-1 rule."""

import pytest

from xenvirt.errors import StoreError
from xenvirt.xenstore.quota import QUOTA_NAMES, Quotas, exceeds


@pytest.mark.parametrize(
    ("value", "quota", "refused"),
    [(9, 10, False), (10, 10, True), (11, 10, True), (10**9, 0, False)],
)
def test_one_less_than_the_quota_is_reachable_and_zero_is_unlimited(
    value: int, quota: int, refused: bool
) -> None:
    assert exceeds(value, quota) is refused


def test_defaults_are_those_of_c_xenstored() -> None:
    assert {name: Quotas().get(name) for name in QUOTA_NAMES} == {
        "nodes": 1000,
        "watches": 128,
        "transactions": 10,
        "transaction-nodes": 1024,
        "node-permissions": 5,
        "path-max": 2048,
        "node-size": 2048,
        "outstanding": 20,
        "memory": 2621440,
    }


def test_changing_one_leaves_the_others() -> None:
    changed = Quotas().replaced("node-size", 7)
    assert (changed.node_size, changed.nodes) == (7, 1000)


@pytest.mark.parametrize("name", ["", "node_size", "get", "other"])
def test_an_unknown_name_is_refused(name: str) -> None:
    with pytest.raises(StoreError, match="EINVAL"):
        Quotas().get(name)
    with pytest.raises(StoreError, match="EINVAL"):
        Quotas().replaced(name, 1)
