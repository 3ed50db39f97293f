"""What blocks, in a thread; and no more threads is an error like another."""

import asyncio
import errno
import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Final, Generic, ParamSpec, TypeVar

P = ParamSpec("P")
T = TypeVar("T")

# Not the loop's, which needs one more thread to end.
_executor: Final = ThreadPoolExecutor(max_workers=4, thread_name_prefix="blocking")


async def in_thread(call: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
    """Return what `call` does, which may block; OSError, EAGAIN, without a thread."""
    work = _Work(lambda: call(*args, **kwargs))
    try:
        done = asyncio.get_running_loop().run_in_executor(_executor, work.run)
    except RuntimeError as error:
        # The executor keeps it for the first thread that there will be.
        work.given_up = True
        why = os.strerror(errno.EAGAIN)
        raise OSError(errno.EAGAIN, f"starting a thread: {why}") from error
    return await done


class _Work(Generic[T]):
    def __init__(self, call: Callable[[], T]) -> None:
        self._call = call
        self.given_up = False

    def run(self) -> T:
        if self.given_up:
            raise RuntimeError("nobody waits for it any more")
        return self._call()
