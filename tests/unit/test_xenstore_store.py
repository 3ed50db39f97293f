"""The tree against a plain model: a dictionary of paths and values."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from xenvirt.xenstore import path as paths
from xenvirt.xenstore.perms import Perm
from xenvirt.xenstore.store import Store
from xenvirt.xenstore.transaction import Transaction

PATHS = st.lists(st.sampled_from("abc"), min_size=1, max_size=4).map(
    lambda names: "/" + "/".join(names)
)
OWNERS = st.integers(0, 2)
STEPS = st.lists(
    st.tuples(st.sampled_from(["write", "rm", "chown"]), PATHS, OWNERS), max_size=30
)
FRESH = {"/": 0, "/tool": 0, "/tool/xenstored": 0}
Model = dict[str, int]


def step(
    tree: Store | Transaction, model: Model, kind: str, path: str, owner: int
) -> None:
    """Apply one step to both; the model maps a path to its owner."""
    if kind == "write":
        for new in reversed([path, *paths.ancestors(path)]):
            if new not in model:
                tree.create(new, b"", (Perm(0, owner),))
                model[new] = owner
    elif path not in model:
        return
    elif kind == "chown":
        tree.set_perms(path, tree.node(path), (Perm(0, owner),))
        model[path] = owner
    else:
        tree.remove(path)
        for gone in [p for p in model if p == path or p.startswith(path + "/")]:
            del model[gone]


def check(tree: Store | Transaction, model: Model) -> None:
    assert {path: node.perms[0].domid for path, node in tree.walk("/")} == model
    for owner in (1, 2):
        assert tree.owned_by(owner) == list(model.values()).count(owner)


@given(STEPS)
def test_any_steps_on_the_store_leave_what_the_model_has(
    steps: list[tuple[str, str, int]],
) -> None:
    store, model = Store(), dict(FRESH)
    for kind, path, owner in steps:
        step(store, model, kind, path, owner)
    check(store, model)
    assert store.is_consistent()


@given(STEPS, STEPS)
def test_a_transaction_shows_its_steps_and_the_store_only_after_commit(
    before: list[tuple[str, str, int]], within: list[tuple[str, str, int]]
) -> None:
    store, model = Store(), dict(FRESH)
    for kind, path, owner in before:
        step(store, model, kind, path, owner)
    transaction, view = Transaction(1, store), dict(model)
    for kind, path, owner in within:
        step(transaction, view, kind, path, owner)
    check(transaction, view)
    check(store, model)
    transaction.commit()
    check(store, view)
    assert store.is_consistent()


@given(STEPS, OWNERS.filter(bool))
def test_a_dead_domain_leaves_neither_nodes_nor_gaps(
    steps: list[tuple[str, str, int]], dead: int
) -> None:
    store, model = Store(), dict(FRESH)
    for kind, path, owner in steps:
        step(store, model, kind, path, owner)
    for path in store.owned_tops(dead):
        store.remove(path)
    store.forget_domain(dead)
    assert store.is_consistent()
    assert dead not in {node.perms[0].domid for _, node in store.walk("/")}
    assert store.owned_by(dead) == 0


def test_a_fresh_store_has_xens_initial_nodes() -> None:
    assert [path for path, _ in Store().walk("/")] == list(FRESH)


def test_generations_never_repeat() -> None:
    store = Store()
    seen = set()
    for _ in range(3):
        store.create("/a", b"", (Perm(0, 0),))
        seen |= {store.node("/a").generation, store.node("/").generation}
        store.remove("/a")
        seen.add(store.node("/").generation)
    assert len(seen) == 9


def test_children_are_listed_in_the_order_of_creation() -> None:
    store = Store()
    for name in ("z", "a", "m"):
        store.create(f"/{name}", b"", (Perm(0, 0),))
    assert list(store.node("/").children) == ["tool", "z", "a", "m"]


def test_a_missing_child_makes_the_store_inconsistent() -> None:
    store = Store()
    store.node("/").children["ghost"] = None
    assert not store.is_consistent()


def test_depth_is_no_limit() -> None:
    store, path = Store(), ""
    for _ in range(1400):
        path += "/a"
        store.create(path, b"", (Perm(0, 0),))
    assert len(store.remove("/a")) == 1400


def test_looking_up_a_missing_node_as_existing_is_our_own_bug() -> None:
    with pytest.raises(KeyError):
        Store().node("/none")
