"""native/polling.h: how long a queue polls is learned, and it gives way."""

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import pytest
from cffi import FFI

NATIVE: Final = Path(__file__).resolve().parent.parent.parent / "native"

DECLARATIONS: Final = """
struct xv_polling {
    uint64_t poll_ns;
    uint64_t idle_since_ns;
    uint64_t slept_at_ns;
};
uint64_t polling_clock_ns(void);
bool polling_on(struct xv_polling *polling);
void polling_sleeps(struct xv_polling *polling);
void polling_woken(struct xv_polling *polling, uint64_t max_ns);
"""

LONG_NS: Final = 10 * 10**9
"""Longer than anything here takes, and shorter than a machine is up."""

SHORTEST_NS: Final = 4000

ffi: Final = FFI()
ffi.cdef(DECLARATIONS)


@pytest.fixture(scope="module")
def lib(tmp_path_factory: pytest.TempPathFactory) -> Any:
    library = tmp_path_factory.mktemp("polling") / "polling.so"
    flags = ["-std=gnu11", "-O2", "-shared", "-fPIC", f"-I{NATIVE}"]
    subprocess.run(["gcc", *flags, "-o", library, NATIVE / "polling.c"], check=True)
    return ffi.dlopen(str(library))


@pytest.fixture
def polling() -> Any:
    return ffi.new("struct xv_polling *")


def sleep(lib: Any, polling: Any, max_ns: int, slept_ns: int = 0) -> None:
    """Let it sleep, `slept_ns` longer than it takes to wake it at once."""
    lib.polling_sleeps(polling)
    polling.slept_at_ns -= slept_ns
    lib.polling_woken(polling, max_ns)


def test_short_sleeps_make_it_poll_longer_up_to_a_maximum(
    lib: Any, polling: Any
) -> None:
    polled = []
    for _ in range(4):
        sleep(lib, polling, max_ns=LONG_NS)
        polled.append(polling.poll_ns)
    assert polled == [SHORTEST_NS * factor for factor in (1, 3, 7, 15)]
    polling.poll_ns = LONG_NS - 1
    sleep(lib, polling, max_ns=LONG_NS)
    assert polling.poll_ns == LONG_NS


def test_a_sleep_that_no_poll_would_have_spared_teaches_nothing(
    lib: Any, polling: Any
) -> None:
    polling.poll_ns = SHORTEST_NS
    sleep(lib, polling, max_ns=LONG_NS, slept_ns=LONG_NS)
    assert polling.poll_ns == SHORTEST_NS


def test_it_learns_once_of_a_sleep(lib: Any, polling: Any) -> None:
    sleep(lib, polling, max_ns=LONG_NS)
    lib.polling_woken(polling, LONG_NS)
    assert polling.poll_ns == SHORTEST_NS


def test_where_it_may_not_poll_it_never_does(lib: Any, polling: Any) -> None:
    sleep(lib, polling, max_ns=0)
    assert polling.poll_ns == 0
    assert not lib.polling_on(polling)


def test_after_a_poll_in_vain_it_polls_half_as_long(lib: Any, polling: Any) -> None:
    polling.poll_ns = LONG_NS
    polling.idle_since_ns = lib.polling_clock_ns() - LONG_NS
    assert not lib.polling_on(polling)
    assert polling.poll_ns == LONG_NS // 2


@pytest.fixture
def busy_cpu() -> Iterator[None]:
    """This thread on a CPU where another program computes all the time."""
    cpus = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {min(cpus)})
    program = "import os; os.write(1, b'.')\nwhile True: pass"
    with subprocess.Popen(
        [sys.executable, "-c", program], stdout=subprocess.PIPE
    ) as busy:
        try:
            assert busy.stdout is not None
            assert busy.stdout.read(1) == b"."
            yield
        finally:
            busy.kill()
            os.sched_setaffinity(0, cpus)


@pytest.mark.usefixtures("busy_cpu")
def test_it_gives_way_to_who_wants_the_cpu(lib: Any, polling: Any) -> None:
    polling.poll_ns = LONG_NS
    for _ in range(100):  # which is too short to be pushed aside without a yield
        if not lib.polling_on(polling) or not polling.poll_ns:
            break
    assert polling.poll_ns == 0
