"""Has every Python, and nothing else that tests run, begin with a sanitizer's library.

scripts/sanitize puts this where Python looks for it, and names the library. It must be
there before Python's allocator, hence by LD_PRELOAD; but shells and tools that inherit
that hang now and then, in a lock of it that they forked with.
"""

import os
import sys

library = os.environ["XENVIRT_PRELOAD"]
if os.environ.pop("LD_PRELOAD", None) != library:
    os.execve(
        sys.executable,
        [sys.executable, *sys.orig_argv[1:]],
        os.environ | {"LD_PRELOAD": library},
    )
