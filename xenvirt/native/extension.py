"""The compiled extension, which nothing else imports, and its -errno as OSError."""

import os

# Spelt as re-exports: all others look at C's declarations through this module.
from xenvirt._native import ffi as ffi
from xenvirt._native import lib as lib


def check(result: int, what: str) -> int:
    """A result of C that is not negative; OSError for -errno, about `what`."""
    if result < 0:
        raise OSError(-result, f"{what}: {os.strerror(-result)}")
    return result
