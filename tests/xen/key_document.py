"""Prints docs/conformance-keys.md, as which test_conformance_keys_doc.py wants it."""

from collections.abc import Iterator, Sequence
from textwrap import TextWrapper
from typing import Final

from tests.xen.ground_truth import CHANGES, CONNECTED, KEYS, STATES, Phase
from tests.xen.key_differences import DIFFERENCES, Reason
from tests.xen.trace_writes import Who

TITLE: Final = "# Keys and order of writes"
INTRODUCTION: Final = (
    "`tests/xen/test_keys.py` goes through the life of a vif three times in one Xen, "
    "in the lab (`scripts/xen-lab test tests/xen/test_keys.py`): with Linux at both "
    "ends; with `xenvirt backend` and Linux's netfront; with `xenvirt frontend` and "
    "Linux's netback. The toolstack is xl with its script `vif-bridge` each time.",
    "xenstored is started with `--trace-file`, and that trace is compared, by phases: "
    "all changes of the vif's nodes (WRITE, RM, MKDIR, SET_PERMS), by whom, in order, "
    "with their values, which of them are in one transaction, and how it ends; the "
    "order of both ends' states; and, while Connected, the names and permissions of "
    "all keys of both ends. Grant references, event channels, MAC addresses, domids "
    "and paths are compared by their form, other values as they are.",
    "The life with Linux at both ends is held against `tests/xen/ground_truth.py`: "
    "what was traced with xenstored and xl 4.17.7, and netback and netfront of Linux "
    "6.1.192, with one queue. The lab has Debian 12's packages, so that a change in "
    "them is seen there. The lives with our ends are held against the one with "
    "Linux's in the same run.",
)
KILLED: Final = (
    "There is one more phase in the lives with our ends: ours is killed, and the next "
    "one started. A backend then changes nothing. A frontend does what netfront does "
    "at a reload."
)
DIFFERENT: Final = (
    "All that is different is on this page, which is made from the table in "
    "`tests/xen/key_differences.py` by `python -m tests.xen.key_document`; a test "
    "fails when the two differ, and another one when a difference does not occur."
)
NOT_COMPARED: Final = (
    "Not compared: reads and watches, several queues, `xenvirt frontend` with "
    "`xenvirt backend` on Xen, and drivers of other systems than Linux."
)
WRAPPER: Final = TextWrapper(width=100, break_on_hyphens=False)


def document() -> str:
    """The whole page."""
    lines = [TITLE]
    for text in INTRODUCTION:
        lines += ["", WRAPPER.fill(text)]
    lines += ["", *_phases(), "", WRAPPER.fill(_keys())]
    for text in (KILLED, DIFFERENT):
        lines += ["", WRAPPER.fill(text)]
    for reason in Reason:
        lines += _differences(reason)
    return "\n".join([*lines, "", "## Limits", "", WRAPPER.fill(NOT_COMPARED)]) + "\n"


def _phases() -> Iterator[str]:
    yield f"| phase | {' | '.join(f'changes by {who}' for who in Who)} | states |"
    yield "|---" * (len(Who) + 2) + "|"
    for phase in Phase:
        counts = [_changes(CHANGES[phase].get(who, ())) for who in Who]
        yield "| " + " | ".join([phase, *map(str, counts), STATES[phase]]) + " |"


def _changes(lines: Sequence[str]) -> int:
    return sum(line not in ("start", "commit", "abort") for line in lines)


def _keys() -> str:
    nodes = [key for key in KEYS if "/" in key]
    return (
        f"{len(nodes)} keys are there while Connected, at the end of "
        f"{', '.join(CONNECTED[:-1])} and {CONNECTED[-1]}."
    )


def _differences(reason: Reason) -> Iterator[str]:
    heading, text = reason.value
    yield from ("", f"## {heading}", "", WRAPPER.fill(text), "")
    yield from ("| run with | written by the | Linux | ours |", "|---|---|---|---|")
    for each in DIFFERENCES:
        if reason in each.reasons:
            linux, ours = map(_shown, (each.linux, each.ours))
            yield f"| `{each.end}` | {each.who} | {linux} | {ours} |"


def _shown(lines: Sequence[str]) -> str:
    if not lines:
        return "nothing"
    return "`" + "; ".join(line.strip() for line in lines) + "`"


if __name__ == "__main__":
    print(document(), end="")
