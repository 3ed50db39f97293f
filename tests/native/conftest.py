from collections.abc import Iterator
from contextlib import ExitStack

import pytest
from hypothesis import settings

from tests.native.helpers import Link

# No files: the tests run as any user, in a checkout that may be somebody else's. A
# failure prints what reproduces it.
settings.register_profile("no-files", database=None, print_blob=True, deadline=None)
settings.load_profile("no-files")


@pytest.fixture
def stack() -> Iterator[ExitStack]:
    """Closes, at the end of a test, what it opened."""
    with ExitStack() as opened:
        yield opened


@pytest.fixture(scope="module", params=[False, True], ids=["direct", "copied"])
def payload(request: pytest.FixtureRequest) -> Iterator[None]:
    """Has a module's tests run once with each way in which backends reach payload."""
    Link.copying = request.param
    yield
    Link.copying = False
