"""A subtree becomes text and is the same again; nothing is half restored."""

from collections.abc import Iterator

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.helpers_xenstore import RunningStore, running_store
from xenvirt.errors import UsageError
from xenvirt.xenstore.errors import RequestError, StoreAccessError, StoreNotFoundError
from xenvirt.xenstore.snapshot import SavedNode, Snapshot, dump, load, restore, take
from xenvirt.xenstore.sync_client import SyncClient

TEXT = """\
# xenvirt snapshot 1 of /t
. (n0) = "root"
a (n1,r2) = ""
a/b (b0) = "tab \\t nul \\000 quote " back \\\\ high \\xff"
a-b (w3) = "x"
"""


@pytest.fixture(scope="module")
def store() -> Iterator[RunningStore]:
    with running_store() as running:
        yield running


@pytest.fixture(scope="module")
def dom0(store: RunningStore) -> Iterator[SyncClient]:
    with SyncClient(store.path) as client:
        yield client


@pytest.fixture
def tree(dom0: SyncClient) -> None:
    """What TEXT says, made in another order."""
    dom0.rm("/t")
    dom0.write({"/t": "root", "/t/a-b": "x", "/t/a": ""})
    dom0.write({"/t/a/b": b'tab \t nul \0 quote " back \\ high \xff'})
    perms = {"/t": ["n0"], "/t/a": ["n1", "r2"], "/t/a/b": ["b0"], "/t/a-b": ["w3"]}
    for path, entries in perms.items():
        dom0.set_perms(path, entries)


@pytest.mark.usefixtures("tree")
def test_a_subtree_is_sorted_text_with_all_bytes_and_permissions(
    dom0: SyncClient,
) -> None:
    assert dump(take(dom0, "/t")) == TEXT


@pytest.mark.usefixtures("tree")
def test_what_was_restored_gives_the_same_text(dom0: SyncClient) -> None:
    saved = load(TEXT)
    dom0.write({"/t/a/extra": "v", "/other": "stays"})
    dom0.transact(lambda nodes: restore(nodes, saved, "/t"))
    assert dump(take(dom0, "/t")) == TEXT
    assert dom0.read("/other") == "stays"
    dom0.rm("/other")


@pytest.mark.usefixtures("tree")
def test_it_can_be_restored_elsewhere(dom0: SyncClient) -> None:
    dom0.transact(lambda nodes: restore(nodes, load(TEXT), "/new/place"))
    assert take(dom0, "/new/place").nodes == load(TEXT).nodes
    dom0.rm("/new")


@pytest.mark.usefixtures("tree")
def test_the_whole_store_can_be_restored(dom0: SyncClient) -> None:
    everything = take(dom0, "/")
    dom0.write({"/t/a/b": "changed", "/more": "v"})
    dom0.rm("/tool")
    dom0.transact(lambda nodes: restore(nodes, everything, "/"))
    assert take(dom0, "/") == everything


@pytest.mark.parametrize("path", ["/none", "a//b"])
def test_what_is_not_there_cannot_be_taken(dom0: SyncClient, path: str) -> None:
    with pytest.raises(RequestError):
        take(dom0, path)


@pytest.mark.usefixtures("tree")
def test_what_may_not_be_read_cannot_be_taken(store: RunningStore) -> None:
    with SyncClient.from_socket(store.socket(1)) as guest:
        with pytest.raises(StoreAccessError):
            take(guest, "/t")
        assert take(guest, "/t/a/b").nodes == [
            SavedNode(".", ("b0",), load(TEXT).nodes[2].value)
        ]


@pytest.mark.usefixtures("tree")
def test_what_is_refused_is_not_half_restored(
    dom0: SyncClient, store: RunningStore
) -> None:
    nobody = TEXT + 'last (n7777) = ""\n'
    with pytest.raises(StoreNotFoundError) as caught:
        dom0.transact(lambda nodes: restore(nodes, load(nobody), "/t"))
    assert caught.value.path == "/t/last"
    assert dump(take(dom0, "/t")) == TEXT
    guest = SyncClient.from_socket(store.socket(1))
    with guest, pytest.raises(StoreAccessError):
        guest.transact(lambda nodes: restore(nodes, load(TEXT), "/t"))
    assert dump(take(dom0, "/t")) == TEXT


def test_a_large_and_a_deep_tree_survive(dom0: SyncClient) -> None:
    wide = [SavedNode("wide", ("n0",), b"")]
    wide += [SavedNode(f"wide/{n:040}", ("n0",), b"v" * n) for n in range(500)]
    deep = [SavedNode("/".join(["d"] * n), ("n0", "r1"), b"") for n in range(1, 1200)]
    root = SavedNode(".", ("n0",), b"")
    saved = Snapshot("/big", [root, *deep, *wide])
    dom0.transact(lambda nodes: restore(nodes, saved, "/big"))
    assert take(dom0, "/big") == saved
    assert load(dump(saved)) == saved
    dom0.rm("/big")


NAMES = st.text("ab-_@9Z", min_size=1, max_size=3)
PERMS = st.lists(
    st.builds(str.__add__, st.sampled_from("nrwb"), st.sampled_from(["0", "1", "2"])),
    min_size=1,
    max_size=3,
).map(tuple)


@st.composite
def snapshots(draw: st.DrawFn) -> Snapshot:
    paths = draw(st.lists(st.lists(NAMES, min_size=1, max_size=3), max_size=8))
    below = {"/".join(p[:n]) for p in paths for n in range(1, len(p) + 1)}
    ordered = sorted(below, key=lambda path: path.split("/"))
    saved = [
        SavedNode(path, draw(PERMS), draw(st.binary(max_size=20)))
        for path in (".", *ordered)
    ]
    return Snapshot("/h", saved)


@given(snapshots())
def test_text_is_exact(saved: Snapshot) -> None:
    assert load(dump(saved)) == saved
    assert dump(saved).isascii()


@settings(
    max_examples=30,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(saved=snapshots())
def test_the_way_through_the_store_is_exact(dom0: SyncClient, saved: Snapshot) -> None:
    dom0.transact(lambda nodes: restore(nodes, saved, "/h"))
    assert take(dom0, "/h") == saved


@pytest.mark.parametrize(
    ("text", "what"),
    [
        ("", "it begins ''"),
        ('a (n0) = ""\n', "it begins"),
        ("# xenvirt snapshot 2 of /t\n", "it begins"),
        ("# xenvirt snapshot 1 of /t\n", "it has no node"),
        ('# xenvirt snapshot 1 of /t\n. (n0) = "\n', "f:2: not PATH"),
        ("# xenvirt snapshot 1 of /t\n. (n0)\n", "f:2: not PATH"),
        ('# xenvirt snapshot 1 of /t\n. (x0) = ""\n', "f:2: 'x0' is no permission"),
        ('# xenvirt snapshot 1 of /t\n. () = ""\n', "f:2: '' is no permission"),
        ('# xenvirt snapshot 1 of /t\n. (n0) = ""\na//b (n0) = ""\n', "f:3: a//b"),
        ('# xenvirt snapshot 1 of /t\n. (n0) = ""\n/a (n0) = ""\n', "f:3: /a is no"),
        ('# xenvirt snapshot 1 of /t\na (n0) = ""\n', "f:2: a comes without . before"),
        (
            '# xenvirt snapshot 1 of /t\n. (n0) = ""\na/b (n0) = ""\n',
            "f:3: a/b comes without a before",
        ),
        (
            '# xenvirt snapshot 1 of /t\n. (n0) = ""\na (n0) = ""\na (n0) = ""\n',
            "f:4: a is there twice",
        ),
        (
            '# xenvirt snapshot 1 of /t\n. (n0) = ""\n. (n0) = ""\n',
            "f:3: . is there twice",
        ),
    ],
)
def test_what_is_no_snapshot_is_refused_with_its_line(text: str, what: str) -> None:
    with pytest.raises(UsageError) as caught:
        load(text, "f")
    assert what in str(caught.value)


def test_a_snapshot_may_be_edited_by_hand() -> None:
    edited = '# xenvirt snapshot 1 of /t\r\n\n# why\n. (n0) = "grün \\x41\\101"\r\n'
    assert load(edited).nodes == [SavedNode(".", ("n0",), "grün AA".encode())]
