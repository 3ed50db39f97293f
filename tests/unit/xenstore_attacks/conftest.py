from collections.abc import Iterator

import pytest

from tests.store_process import StoreProcess


@pytest.fixture
def store() -> Iterator[StoreProcess]:
    """A store with domains 1, 2 and 3, which must outlive the test unharmed."""
    with StoreProcess() as started:
        yield started
