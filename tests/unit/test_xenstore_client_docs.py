"""The examples of the client's documentation, run as they stand."""

import ast
import contextlib
import inspect
import io
import re
import textwrap
from collections.abc import Iterator
from pathlib import Path
from types import CodeType

import pytest

from tests.helpers_xenstore import RunningStore, run, running_store
from tests.helpers_xenstore_client import answering
from xenvirt.xenstore import client, sync_client
from xenvirt.xenstore.client import Client

PAGE = (Path(__file__).parents[2] / "docs" / "xenstore-client.md").read_text()
BLOCK = re.compile(r"```python\n(.*?)```(?:\n\n```text\n(.*?)```)?", re.DOTALL)


@pytest.fixture
def store(monkeypatch: pytest.MonkeyPatch) -> Iterator[RunningStore]:
    with running_store(domains=[5]) as running:
        monkeypatch.setenv("XENSTORED_PATH", running.path)
        yield running


def compiled(source: str) -> CodeType:
    """Code in which await may stand outside of functions."""
    flags = ast.PyCF_ALLOW_TOP_LEVEL_AWAIT
    code: CodeType = compile(source, "docs", "exec", flags=flags)
    return code


async def output_of(source: str, namespace: dict[str, object]) -> str:
    """What code prints."""
    shown = io.StringIO()
    with contextlib.redirect_stdout(shown):
        result = eval(compiled(source), namespace)
        if inspect.isawaitable(result):
            await result
    return shown.getvalue()


def test_every_block_of_the_page_prints_what_stands_below_it(
    store: RunningStore,
) -> None:
    blocks = BLOCK.findall(PAGE)

    async def main() -> None:
        with answering(store):
            async with await Client.connect_unix(store.path) as dom0:
                await dom0.introduce(5, 1, 1)
            namespace: dict[str, object] = {}
            for source, expected in blocks:
                assert await output_of(source, namespace) == expected, source

    assert len(blocks) == 11
    run(main())


def example(documentation: str | None) -> str:
    """The first indented block of a docstring."""
    assert documentation is not None
    lines = documentation.split("\n\n", 1)[1].split("\n")
    code = [line for line in lines if not line or line.startswith("    ")]
    assert len(code) > 5
    return textwrap.dedent("\n".join(code))


def test_the_example_of_the_module_runs(store: RunningStore) -> None:
    source = example(client.__doc__).replace("/run/xenstored/socket", store.path)

    async def main() -> None:
        names = {"Client": Client, "Transaction": client.Transaction}
        shown = await output_of(source, dict(names))
        assert shown == "world\n2\n/tool\n"

    run(main())


def test_the_example_of_the_blocking_module_runs(store: RunningStore) -> None:
    source = example(sync_client.__doc__).replace("/run/xenstored/socket", store.path)

    async def main() -> None:
        shown = await output_of(source, {"SyncClient": sync_client.SyncClient})
        assert shown == "world\n/tool\n"

    run(main())


def test_every_error_of_the_table_is_there_with_its_number() -> None:
    from xenvirt.xenstore import errors

    rows = re.findall(r"^\| `(Store\w+)` \| (E\w+) \|", PAGE, re.MULTILINE)
    assert len(rows) == 12
    for name, errno_name in rows:
        assert type(errors.request_error(errno_name.encode())).__name__ == name
