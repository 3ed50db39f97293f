"""The ring of native/ring.h against two lists, from any index on (protocol.md 1.4)."""

from collections import deque
from typing import Final

import hypothesis.strategies as st
import pytest
from hypothesis import given, settings
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
)

from tests.native.ring_shim import Shim

SIZE: Final = 256
U32: Final = 1 << 32
STARTS: Final = st.sampled_from([0, 1, 0x7FFFFFF0, 0xFFFFFF00, 0xFFFFFFF0, 0xFFFFFFFF])


def asked_for(event: int, old: int, new: int) -> bool:
    """Does a push from `old` to `new` pass `event`? Indices here never wrap."""
    return old < event <= new


class RingModel(RuleBasedStateMachine):
    """Two ends that push, consume and go to sleep in any order.

    Model indices are unbounded, so that every wrap of the real ones is tested.
    """

    @initialize(start=STARTS)
    def begin(self, start: int) -> None:
        self.ring = Shim(start)
        self.next_id = 0
        self.req_prod = self.rsp_prod = self.req_cons = self.rsp_cons = start
        self.req_event = self.rsp_event = start + 1
        self.unpushed_requests: list[int] = []
        self.requests: deque[int] = deque()
        self.to_answer: deque[int] = deque()
        self.unpushed_responses: list[int] = []
        self.responses: deque[int] = deque()

    @rule(count=st.integers(1, SIZE))
    def front_writes_requests(self, count: int) -> None:
        for _ in range(min(count, self.free())):
            self.ring.call("put_request", self.next_id)
            self.unpushed_requests.append(self.next_id)
            self.next_id = (self.next_id + 1) % 65536

    @rule()
    def front_pushes(self) -> None:
        old = self.req_prod
        self.req_prod += len(self.unpushed_requests)
        told = self.ring.call("push_requests")
        assert told == asked_for(self.req_event, old, self.req_prod)
        self.requests.extend(self.unpushed_requests)
        self.unpushed_requests = []

    @rule(count=st.integers(1, SIZE))
    def back_takes_requests(self, count: int) -> None:
        for _ in range(min(count, len(self.requests))):
            expected = self.requests.popleft()
            assert self.ring.call("take_request") == expected
            self.req_cons += 1
            self.to_answer.append(expected)

    @rule(count=st.integers(1, SIZE))
    def back_writes_responses(self, count: int) -> None:
        for _ in range(min(count, len(self.to_answer))):
            answered = self.to_answer.popleft()
            self.ring.call("put_response", answered)
            self.unpushed_responses.append(answered)

    @rule()
    def back_pushes(self) -> None:
        old = self.rsp_prod
        self.rsp_prod += len(self.unpushed_responses)
        told = self.ring.call("push_responses")
        assert told == asked_for(self.rsp_event, old, self.rsp_prod)
        self.responses.extend(self.unpushed_responses)
        self.unpushed_responses = []

    @rule(count=st.integers(1, SIZE))
    def front_takes_responses(self, count: int) -> None:
        for _ in range(min(count, len(self.responses))):
            assert self.ring.call("take_response") == self.responses.popleft()
            self.rsp_cons += 1

    @rule(ahead=st.integers(1, SIZE))
    def back_arms(self, ahead: int) -> None:
        assert self.ring.call("final_check_for_requests", ahead) == len(self.requests)
        self.req_event = self.req_cons + ahead

    @rule(ahead=st.integers(1, SIZE))
    def front_arms(self, ahead: int) -> None:
        came = self.ring.call("final_check_for_responses", ahead)
        assert came == len(self.responses)
        self.rsp_event = self.rsp_cons + ahead

    @precondition(lambda self: not self.to_answer and not self.unpushed_responses)
    @rule()
    def another_backend_takes_the_ring_up(self) -> None:
        assert self.ring.attach_again()

    @rule(beyond=st.integers(-3, 3))
    def an_impossible_req_prod_is_told_from_a_possible_one(self, beyond: int) -> None:
        answered = self.rsp_prod + len(self.unpushed_responses)
        for distance in (0, SIZE, SIZE + beyond, SIZE * 2, U32 - 1, U32 // 2):
            prod = (answered + distance) % U32
            overflow = self.ring.call("request_prod_overflow", prod)
            assert overflow == (distance > SIZE)
            overflow = self.ring.call("request_cons_overflow", prod)
            assert overflow == (distance >= SIZE)

    @rule(beyond=st.integers(-3, 3))
    def an_impossible_rsp_prod_is_told_from_a_possible_one(self, beyond: int) -> None:
        written = self.req_prod + len(self.unpushed_requests) - self.rsp_cons
        for distance in (0, written, max(written + beyond, 0), SIZE + 1, U32 - 1):
            prod = (self.rsp_cons + distance) % U32
            overflow = self.ring.call("response_prod_overflow", prod)
            assert overflow == (distance > written)

    def free(self) -> int:
        return SIZE - (self.req_prod + len(self.unpushed_requests) - self.rsp_cons)

    @invariant()
    def the_page_says_what_was_pushed(self) -> None:
        words = [int.from_bytes(self.ring.page[at : at + 4], "little") for at in (0, 8)]
        assert words == [self.req_prod % U32, self.rsp_prod % U32]

    @invariant()
    def the_front_knows_its_free_slots(self) -> None:
        assert self.ring.call("free_requests") == self.free()


TestRingModel = RingModel.TestCase
TestRingModel.settings = settings(max_examples=150, stateful_step_count=60)


@given(start=STARTS, pushes=st.lists(st.integers(1, SIZE), min_size=1, max_size=12))
@pytest.mark.parametrize("ahead", [1, 2, 100, SIZE])
def test_an_armed_end_is_told_exactly_once(
    ahead: int, start: int, pushes: list[int]
) -> None:
    """However the requests are cut into pushes, one of them passes the event."""
    ring = Shim(start)
    assert ring.call("final_check_for_requests", ahead) == 0
    told, pushed = [], 0
    for count in pushes:
        count = min(count, SIZE - pushed)
        for _ in range(count):
            ring.call("put_request", 0)
        pushed += count
        told.append(ring.call("push_requests"))
    assert sum(told) == (1 if pushed >= ahead else 0)
