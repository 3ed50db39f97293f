"""What a guest writes into the store where others read: names, paths, text (7.5).

The backend and the toolstack go by what domain 0 wrote, and repeat a guest's words
only as what they are.
"""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.integration.links import Link, LinkMaker
from tests.integration.witness import answers
from tests.native.frames import plain
from xenvirt.testing.peer import Frontend
from xenvirt.toolstack import vifs
from xenvirt.toolstack.vif_nodes import read_or_none
from xenvirt.xenstore.errors import StoreAccessError

pytestmark = pytest.mark.root

OTHER = "10.221.2.2"

Words = dict[str, str | bytes | None]


@pytest.fixture(scope="module")
def other(module_links: LinkMaker) -> Link:
    return module_links.up("good", "--ip", f"{OTHER}/24", "--peer-ip", "10.221.2.1/24")


@pytest.fixture
def front(module_links: LinkMaker, other: Link) -> Iterator[Frontend]:
    with Frontend(module_links.run_dir) as front:
        yield front
    assert answers(other, OTHER)


def connects(front: Frontend, words: Words) -> None:
    queue = front.connect(words)
    assert [answer.status for answer in queue.send_frame(plain())] == [0]


def test_paths_of_another_vif_lead_nowhere(front: Frontend, other: Link) -> None:
    others = f"/local/domain/0/backend/vif/{other.domid}/0"
    connects(
        front,
        {
            "backend": others,
            "backend-id": "77",
            "frontend": f"/local/domain/{other.domid}/device/vif/0",
            "frontend-id": str(other.domid),
            "handle": "-1",
        },
    )
    assert vifs.remove(front.host, [front.paths], forced=True, timeout_s=5)
    assert read_or_none(front.host.store, f"{others}/state") == "4"


def test_a_frontend_cannot_write_what_the_backend_goes_by(front: Frontend) -> None:
    for path in (front.paths.backend, front.paths.libxl, front.paths.backend_error):
        with pytest.raises(StoreAccessError):
            front.store.write({f"{path}/frontend": "/local/domain/0"})


def test_script_bridge_and_vifname_of_a_frontend_are_not_heard(
    front: Frontend, tmp_path: Path
) -> None:
    script = tmp_path / "evil"
    ran = tmp_path / "ran"
    script.write_text(f"#!/bin/sh\ntouch {ran}\n")
    script.chmod(0o755)
    connects(
        front,
        {"script": str(script), "bridge": "evil", "vifname": "evil0", "online": "0"},
    )
    assert front.driver.read("vifname") == f"xvif{front.domain.domid}i0"
    assert vifs.remove(front.host, [front.paths], forced=True, timeout_s=5)
    assert not ran.exists()


ODD_WORDS: dict[str, Words] = {
    "a mac that is none": {"mac": "zz"},
    "a mac of 200 characters": {"mac": "00:" * 66 + "00"},
    "an empty mac": {"mac": ""},
    "a handle that is negative": {"handle": "-1"},
    "NULs inside": {"handle": b"1\0002", "mac": b"\0\0\0"},
    "features that are no numbers": {
        "feature-sg": "yes", "feature-gso-tcpv4": "99999999999999999999",
        "feature-rx-notify": b"\xff\xfe", "request-rx-copy": "",
    },
    "a key for each of 100 queues": {f"queue-{n}/tx-ring-ref": "8" for n in range(100)},
}  # fmt: skip


@pytest.mark.parametrize("words", ODD_WORDS.values(), ids=ODD_WORDS)
def test_odd_words_that_the_backend_does_not_need(
    front: Frontend, words: Words
) -> None:
    connects(front, words)
    assert front.driver.error() is None


BAD_WORDS: dict[str, Words] = {
    "a NUL inside a number": {"tx-ring-ref": b"8\x000"},
    "bytes that are no text": {"tx-ring-ref": b"\xff\xfe\x80"},
    "2,000 digits": {"event-channel-tx": "9" * 2000},
    "another script's digits": {"rx-ring-ref": "\u0661\u0662"},
    "blanks and a sign": {"tx-ring-ref": " +8 "},
}


@pytest.mark.parametrize("words", BAD_WORDS.values(), ids=BAD_WORDS)
def test_odd_words_that_it_needs_are_refused(front: Frontend, words: Words) -> None:
    front.offer(words)
    assert front.driver.closed().startswith("22 reading ")
    front.start_over()
    connects(front, {})


def test_words_of_a_guest_forge_no_line_of_the_log(front: Frontend) -> None:
    forged = "8\n2026-01-01T00:00:00.000 backend-0[1] \x1b[31mall is well\r"
    front.offer({"tx-ring-ref": forged})
    front.driver.closed()
    log = front.host.run_dir.log.read_bytes()
    assert b"all is well" in log
    assert b"\x1b" not in log
    assert b"\r" not in log
    assert not any(line.startswith(b"2026-01-01") for line in log.splitlines())


@pytest.mark.parametrize("state", ["9", "abc", "", "-4", "x" * 2000])
def test_a_state_that_is_none_is_told(front: Frontend, state: str) -> None:
    connects(front, {})
    front.write({"state": state})
    assert front.driver.closed() == f"22 saw state {state[:32]} at frontend"
    front.start_over()
    connects(front, {})
