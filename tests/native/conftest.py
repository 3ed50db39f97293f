from collections.abc import Iterator
from contextlib import ExitStack

import pytest

from tests.native.helpers import Link


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
