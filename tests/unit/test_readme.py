"""The README names commands, files and headings that are there."""

import re
from pathlib import Path

import pytest

from xenvirt.cli.main import cli

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text()
TABLE_ROWS = [line for line in README.splitlines() if re.match(r"\| `[a-z]", line)]


def commands() -> set[str]:
    """The first word of each command in the table of commands."""
    words = set()
    for row in TABLE_ROWS:
        for command in re.findall(r"`([a-z][^`]*)`", re.split(r"(?<!\\)\|", row)[1]):
            words.add(command.split()[0])
    return words - {"cannot"}


def test_the_table_names_every_command_and_no_other() -> None:
    assert commands() == set(cli.list_commands(None)), commands()  # type: ignore[arg-type]


@pytest.mark.parametrize("path", re.findall(r"\]\(([^)#h][^)]*)\)", README))
def test_links_lead_somewhere(path: str) -> None:
    name, _, heading = path.partition("#")
    assert (ROOT / name).exists()
    if heading:
        lines = (ROOT / name).read_text().splitlines()
        headings = [line.strip("# ") for line in lines if line.startswith("#")]
        assert heading in [each.lower().replace(" ", "-") for each in headings]


@pytest.mark.parametrize("path", sorted(set(re.findall(r"(?<!`)scripts/\w+", README))))
def test_scripts_are_there(path: str) -> None:
    assert (ROOT / path).stat().st_mode & 0o100


def test_the_demo_shows_what_the_readme_shows() -> None:
    shown = re.findall(r"^    == (\w+ ?\w+)", README, re.MULTILINE)
    source = "".join(p.read_text() for p in (ROOT / "xenvirt/cli").glob("*.py"))
    assert shown
    for heading in shown:
        assert heading in source or heading.split()[0] in source, heading
