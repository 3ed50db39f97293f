"""Something that goes on in a thread of its own, step by step, until it is stopped."""

import sys
import threading
import traceback
from collections.abc import Callable


class Activity:
    """Calls `step` again and again; `pause` and `stop` return when none is under way.

    `wrong` has what steps have found wrong, which is shown at once, `count` how many
    there were. An error that a step raises is one of them, and the last one.
    """

    def __init__(self, name: str, step: Callable[[], list[str]]) -> None:
        self.name = name
        self.count = 0
        self.wrong: list[str] = []
        self._step = step
        self._may_run = threading.Lock()
        self._stopping = False
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)

    def start(self) -> None:
        """Begin."""
        self._thread.start()

    def pause(self) -> None:
        """Take no further step before `resume`."""
        self._may_run.acquire()

    def resume(self) -> None:
        """Go on."""
        self._may_run.release()

    def stop(self) -> None:
        """Take no further step at all."""
        self._stopping = True
        self._thread.join()

    def _run(self) -> None:
        while not self._stopping:
            with self._may_run:
                try:
                    found = self._step()
                except Exception:
                    found = [traceback.format_exc()]
                    self._stopping = True
                self.count += 1
                for each in found:
                    self.wrong.append(f"{self.name} {self.count}: {each}")
                    print(self.wrong[-1], file=sys.stderr, flush=True)
