"""One driver does the same to Linux netback and to our backend."""

import contextlib
import os
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Final

import pytest

from tests.xen import abnormal
from tests.xen.abnormal import (
    CASES,
    CONNECTED,
    LENGTH,
    PLAIN,
    Case,
    Outcome,
    differing,
    side_by_side,
)
from tests.xen.ends import PATIENCE_S, RunningEnd, kernel_takes_no_new_vif, store
from tests.xen.scripted_front import ScriptedFront, attached
from xenvirt.hypervisor import kernel_drivers
from xenvirt.testing.slots import Extra, TxRequest

SILENCE_S: Final = 1.0
"""How long a backend that has given up is watched for an answer all the same."""

RESULTS: Final = Path("/host/results")
ALIVE_ID: Final = 0x4321
GOOD: Final = PLAIN[:LENGTH]

Outcomes = dict[str, Outcome]


def name(case: Case) -> str:
    return case.name


class KernelLog:
    """What the kernel says from now on."""

    def __init__(self) -> None:
        self._fd = os.open("/dev/kmsg", os.O_RDONLY | os.O_NONBLOCK)
        os.lseek(self._fd, 0, os.SEEK_END)

    def close(self) -> None:
        os.close(self._fd)

    def reason(self, front: ScriptedFront) -> str | None:
        """Why netback gave up, by what was said and not yet looked at."""
        text = "\n".join(self._lines())
        vif = re.escape(f" {front.ifname}: ")
        found = re.search(f"{vif}(.*)\n.*{vif}fatal error; disabling device", text)
        return found and found[1]

    def _lines(self) -> Iterator[str]:
        with contextlib.suppress(BlockingIOError):
            while True:
                record = os.read(self._fd, 8192).decode(errors="replace")
                yield record.partition(";")[2].partition("\n")[0]


def observe(
    front: ScriptedFront, case: Case, reason: Callable[[ScriptedFront], str | None]
) -> Outcome:
    """Do it to a connected backend."""
    statuses = rx_statuses(front, case) if case.rx_frames else tx_statuses(front, case)
    alive = is_alive(front)
    return Outcome(statuses, alive, front.backend_state(), reason(front))


def gave_up(front: ScriptedFront) -> Callable[[], bool]:
    """The sign by which no case has to wait for what does not come."""
    return lambda: not front.has_carrier()


def tx_statuses(front: ScriptedFront, case: Case) -> tuple[int | None, ...]:
    front.hold(case.frame)
    slots = [granted(slot, front.tx_gref) for slot in case.slots]
    front.send(slots, case.tx_jump)
    responses = front.tx_responses(len(slots), PATIENCE_S, gave_up(front))
    for slot, response in zip(slots, responses, strict=False):
        assert isinstance(slot, Extra) or response.id == slot.id
    missing = [None] * (len(slots) - len(responses))
    return (*(response.status for response in responses), *missing)


def granted(slot: TxRequest | Extra, gref: int) -> TxRequest | Extra:
    if isinstance(slot, Extra) or slot.gref:
        return slot
    return slot._replace(gref=gref)


def rx_statuses(front: ScriptedFront, case: Case) -> tuple[int | None, ...]:
    if case.rx_gref is not None:
        front.post(case.rx_gref)
    front.push_rx(case.rx_jump)
    responses = [
        front.receive(GOOD, PATIENCE_S, gave_up(front)) for _ in range(case.rx_frames)
    ]
    return tuple(each if each is None else each.status for each in responses)


def is_alive(front: ScriptedFront) -> bool:
    """Whether a good frame is answered; another one then has to come."""
    front.hold(GOOD)
    front.send([TxRequest(front.tx_gref, 0, 0, ALIVE_ID, LENGTH)])
    timeout_s = PATIENCE_S if front.has_carrier() else SILENCE_S
    # One that is not Connected has let go of the rings.
    answers = front.tx_responses(
        1, timeout_s, lambda: front.backend_state() != CONNECTED
    )
    if not answers:
        return False
    assert answers == [(ALIVE_ID, 0)]
    front.post()
    response = front.receive(GOOD, PATIENCE_S, gave_up(front))
    assert response is not None
    assert front.received(response) == GOOD
    return True


def observe_all(
    reason: Callable[[ScriptedFront], str | None], *, by_kernel: bool
) -> Outcomes:
    outcomes = {}
    with store() as client:
        for devid, case in enumerate(CASES):
            with attached(client, devid) as front:
                driver = kernel_drivers.driven_by(f"backend/vif/0/{devid}")
                assert (driver is not None) is by_kernel
                outcomes[case.name] = observe(front, case, reason)
    return outcomes


@pytest.fixture(scope="module")
def linux() -> Outcomes:
    with contextlib.closing(KernelLog()) as log:
        return observe_all(log.reason, by_kernel=True)


@pytest.fixture(scope="module")
def ours() -> Outcomes:
    def reason(front: ScriptedFront) -> str | None:
        error = front.backend_error()
        return error and re.sub(r"^\d+ ", "", error)

    with kernel_takes_no_new_vif(), RunningEnd("backend"):
        return observe_all(reason, by_kernel=False)


def test_all_outcomes_are_shown(
    linux: Outcomes, ours: Outcomes, capsys: pytest.CaptureFixture[str]
) -> None:
    table = "\n".join(side_by_side([*linux.values()], [*ours.values()])) + "\n"
    with capsys.disabled():
        print(f"\n{table}", end="")
    if RESULTS.is_dir():
        (RESULTS / "abnormal.txt").write_text(table)


@pytest.mark.parametrize("case", CASES, ids=name)
def test_linux_is_as_the_table_says(linux: Outcomes, case: Case) -> None:
    assert linux[case.name] == case.linux


@pytest.mark.parametrize("case", CASES, ids=name)
def test_ours_is_as_linux_but_for_what_is_listed(
    linux: Outcomes, ours: Outcomes, case: Case
) -> None:
    listed = abnormal.ours(case)
    assert differing(linux[case.name], ours[case.name]) == differing(case.linux, listed)
    assert ours[case.name] == listed
