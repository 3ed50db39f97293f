import logging
from collections.abc import Iterator

import pytest
from hypothesis import settings

# No files: the tests run as any user, in a checkout that may be somebody else's. A
# failure prints what reproduces it. No deadline: the machine is not ours alone.
settings.register_profile(
    "xenvirt", settings.default, database=None, print_blob=True, deadline=None
)
settings.load_profile("xenvirt")


@pytest.fixture(autouse=True)
def own_log() -> Iterator[None]:
    """Takes back, at the end of a test, how a command that ran in here set its log."""
    root = logging.getLogger()
    before = root.handlers[:], root.level
    yield
    root.handlers[:], root.level = before
