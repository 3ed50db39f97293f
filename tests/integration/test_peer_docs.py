"""The examples of docs/testing-peer.md, run as they stand."""

import contextlib
import io
import re
import sys
from pathlib import Path

import pytest

from tests.integration.links import LinkMaker

pytestmark = pytest.mark.root

PAGE = Path(__file__).parents[2] / "docs" / "testing-peer.md"
FILE = re.compile(r"```python\n(# (\S+\.py) .*?)```\n", re.DOTALL)
BLOCK = re.compile(r"```python\n(.*?)```\n\n```text\n(.*?)```", re.DOTALL)


def test_every_block_of_the_page_prints_what_stands_below_it(
    links: LinkMaker, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    links.run("daemon")
    monkeypatch.setenv("XENVIRT_RUN_DIR", str(links.run_dir))
    # The command of this checkout, and what its interpreter finds besides.
    monkeypatch.setenv("PATH", str(Path(sys.executable).parent), prepend=":")
    monkeypatch.setenv("PYTHONPATH", str(PAGE.parents[1]))
    monkeypatch.chdir(tmp_path)
    page = PAGE.read_text()
    for source, name in FILE.findall(page):
        Path(name).write_text(source)
    blocks = BLOCK.findall(FILE.sub("", page))
    assert len(blocks) == page.count("```python") - 1 == 6
    namespace: dict[str, object] = {}
    for source, expected in blocks:
        shown = io.StringIO()
        with contextlib.redirect_stdout(shown):
            exec(compile(source, "docs", "exec"), namespace)
        assert shown.getvalue() == expected, source
