"""The ring's order, checked by a model of weak memory (ring_order.c, weak_memory.h).

Every interleaving and every order that native/ring.h and native/barrier.h leave open is
tried: with both as they are nothing goes wrong, and without any one fence, acquire or
release something does.
"""

import re
import subprocess
from pathlib import Path
from typing import Final

import pytest

HERE: Final = Path(__file__).parent
NATIVE: Final = HERE.parent.parent / "native"

CASES: Final = ("front 3 1", "front 3 2", "back 3 1", "back 3 2")
"""Who sleeps until so many have come, the number of requests, and so many."""

LOST: Final = "a wake-up is lost"
NO_REQUEST: Final = "a request was read that was not there"
NO_RESPONSE: Final = "a response was read that was not there"
FENCE: Final = ("    xen_mb();", "")
RELEASE: Final = ("    shared_release(", "    shared_write(")
ACQUIRE: Final = ("return shared_acquire(", "return shared_read(")

MUTANTS: Final = {
    "push_requests_and_check_notify without fence": ("ring.h", FENCE, 0, LOST),
    "push_responses_and_check_notify without fence": ("ring.h", FENCE, 1, LOST),
    "final_check_for_requests without fence": ("ring.h", FENCE, 2, LOST),
    "final_check_for_responses without fence": ("ring.h", FENCE, 3, LOST),
    "push_requests without release": ("ring.h", RELEASE, 0, NO_REQUEST),
    "push_responses without release": ("ring.h", RELEASE, 1, NO_RESPONSE),
    "push_requests_and_check_notify without release": (
        "ring.h", RELEASE, 2, NO_REQUEST,
    ),
    "push_responses_and_check_notify without release": (
        "ring.h", RELEASE, 3, NO_RESPONSE,
    ),
    "final_check_for_requests without acquire": ("ring.h", ACQUIRE, 0, NO_REQUEST),
    "final_check_for_responses without acquire": ("ring.h", ACQUIRE, 1, NO_RESPONSE),
    "a fence that lets loads pass stores": (
        "barrier.h", ("(memory_order_seq_cst)", "(__ATOMIC_ACQ_REL)"), 0, LOST,
    ),
    "an acquire that is none": (
        "barrier.h", ("word, __ATOMIC_ACQUIRE", "word, __ATOMIC_RELAXED"), 0, None,
    ),
    "a release that is none": (
        "barrier.h", ("value, __ATOMIC_RELEASE", "value, __ATOMIC_RELAXED"), 0, None,
    ),
}  # fmt: skip
"""A file, what becomes of its nth such text, and what goes wrong; None: one of them."""


def changed(text: str, change: tuple[str, str], nth: int) -> str:
    """The text with the nth `change[0]` replaced."""
    parts = text.split(change[0])
    assert len(parts) > nth + 1, change[0]
    before, after = (
        change[0].join(each) for each in (parts[: nth + 1], parts[nth + 1 :])
    )
    return before + change[1] + after


def compiled(directory: Path, headers: dict[str, str]) -> Path:
    """The program, with other headers if some are given."""
    for name, text in headers.items():
        (directory / name).write_text(text)
    if "barrier.h" in headers:  # ring.h looks for it beside itself
        (directory / "ring.h").write_text((NATIVE / "ring.h").read_text())
    program = directory / "ring_order"
    flags = ["-std=gnu11", "-O2", f"-I{directory}", f"-I{NATIVE}"]
    sources = [HERE / "ring_order.c", HERE / "weak_memory.c"]
    subprocess.run(["gcc", *flags, "-o", program, *sources], check=True)
    return program


def checked(program: Path, case: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([program, *case.split()], capture_output=True, text=True)


@pytest.fixture(scope="module")
def program(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return compiled(tmp_path_factory.mktemp("ring_order"), {})


@pytest.mark.parametrize("case", CASES)
def test_nothing_goes_wrong_in_any_order(program: Path, case: str) -> None:
    done = checked(program, case)
    assert done.returncode == 0, done.stdout
    assert done.stdout.endswith("states: all good\n")
    assert int(done.stdout.split()[0]) > 10_000


@pytest.mark.parametrize("mutant", MUTANTS)
def test_without_it_something_does(tmp_path: Path, mutant: str) -> None:
    header, change, nth, expected = MUTANTS[mutant]
    text = changed((NATIVE / header).read_text(), change, nth)
    program = compiled(tmp_path, {header: text})
    results = [checked(program, case) for case in CASES]
    said = {done.stdout.splitlines()[-1].split(": ")[1] for done in results}
    assert said - {"all good"} <= {LOST, NO_REQUEST, NO_RESPONSE}, results
    assert said - {"all good"}, "no case shows it"
    assert expected is None or expected in said


def test_the_hops_read_a_peers_index_as_the_model_does() -> None:
    """Each look at an index that a peer moves acquires, wherever it is in native/."""
    for path in sorted(NATIVE.glob("*.c")):
        for line in re.findall(r".*sring->re[qs]_prod.*", path.read_text()):
            assert "shared_acquire(&" in line, f"{path.name}: {line}"
