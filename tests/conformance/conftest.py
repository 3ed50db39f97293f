"""A row that fails shows what came instead."""

import pytest

pytest.register_assert_rewrite(
    "tests.conformance.runner", "tests.conformance.served", "tests.conformance.servers"
)
