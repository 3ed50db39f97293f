"""What blocks, where there may be no thread for it."""

import asyncio
import errno
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest

from xenvirt.vif import threads
from xenvirt.vif.threads import in_thread


@pytest.fixture(autouse=True)
def executor(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """One without the threads that earlier tests of this process have left idle."""
    with ThreadPoolExecutor(max_workers=4) as own:
        monkeypatch.setattr(threads, "_executor", own)
        yield


def no_thread(*_: object) -> None:
    raise RuntimeError("can't start new thread")


def test_it_runs_in_another_thread_and_its_error_is_the_callers() -> None:
    def fail() -> None:
        raise OSError(errno.EBUSY, "busy")

    async def work() -> None:
        assert await in_thread(threading.get_ident) != threading.get_ident()
        with pytest.raises(OSError, match="busy"):
            await in_thread(fail)

    asyncio.run(work())


def test_without_a_thread_it_is_an_error_and_not_done_later(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    done: list[str] = []
    free = threading.Event()

    async def work() -> None:
        # Nobody is idle, so that one more is needed.
        held = [asyncio.create_task(in_thread(free.wait)) for _ in range(3)]
        await asyncio.sleep(0)
        with monkeypatch.context() as patch:
            patch.setattr("threading.Thread.start", no_thread)
            with pytest.raises(OSError, match="Resource temporarily") as caught:
                await in_thread(done.append, "given up")
        assert caught.value.errno == errno.EAGAIN
        free.set()
        await asyncio.gather(*held)
        await in_thread(done.append, "again")

    asyncio.run(work())
    assert done == ["again"]
