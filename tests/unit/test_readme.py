"""The README's commands, targets and links are held to what really exists."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import click
import pytest

from botswarm.cli import botswarm
from botswarm.strategies.registry import load

ROOT = Path(__file__).parent.parent.parent
README = (ROOT / "README.md").read_text()
CHANGES = (ROOT / "CHANGELOG.md").read_text()
PAGES = [ROOT / "README.md", ROOT / "CHANGELOG.md", *sorted((ROOT / "docs").rglob("*.md"))]
BLOCKS = re.findall(r"```sh\n(.*?)```", README, re.DOTALL)
COMMAND_LINES = [line for block in BLOCKS for line in block.splitlines() if line.strip()]


def inline_code(text: str) -> list[str]:
    return re.findall(r"`([^`\n]+)`", text)


def botswarm_commands() -> list[str]:
    """The words and options after the program's name, in blocks and in sentences alike."""
    code = [*COMMAND_LINES, *inline_code(README), *inline_code(CHANGES)]
    # Not what follows "celery -A": those are Celery's own commands.
    command = re.compile(r"(?<![\w/])(?<!-A )(?:\.venv/bin/)?botswarm((?: [^\s`|]+)+)")
    return sorted({found for text in code for found in command.findall(text)})


def make_targets() -> set[str]:
    lines = (ROOT / "Makefile").read_text().splitlines()
    return {match[1] for line in lines if (match := re.match(r"([a-z]+):", line))}


def test_the_readme_shows_the_two_commands() -> None:
    assert {"make up", "make test"} <= set(COMMAND_LINES)


def test_every_line_of_a_shell_block_starts_a_program_that_is_known() -> None:
    programs = r"make|\.venv/bin/botswarm|\.venv/bin/celery -A botswarm|celery -A yourproject"
    starts = re.compile(rf"(?:[A-Z_]+=\S+ )?({programs}) ?")
    assert [line for line in COMMAND_LINES if not starts.match(line)] == []


def test_every_make_target_that_is_named_exists() -> None:
    named = set(re.findall(r"\bmake ([a-z]+)", "\n".join([*COMMAND_LINES, *inline_code(README)])))
    assert named
    assert named - make_targets() == set()


def test_every_script_that_is_named_can_be_run() -> None:
    named = {code for code in inline_code(README) if code.startswith("scripts/")}
    assert named
    assert [name for name in sorted(named) if not os.access(ROOT / name, os.X_OK)] == []


@pytest.mark.parametrize("command", botswarm_commands())
def test_every_botswarm_command_that_is_named_parses(command: str) -> None:
    path, rest = _found(command.split())
    answer = subprocess.run(
        [sys.executable, "-m", "botswarm", *path, "--help"],
        capture_output=True,
        text=True,
        cwd=ROOT,
        check=False,
    )
    assert answer.returncode == 0, answer.stderr
    assert "Usage: botswarm " + " ".join(path) in answer.stdout
    for word in rest:
        if word.startswith("--"):
            assert word in answer.stdout.split(), f"{command} has no option {word}"


def _found(words: list[str]) -> tuple[list[str], list[str]]:
    """Nouns and verb of a command line, and what follows them."""
    here: click.Command | None = botswarm
    path: list[str] = []
    while isinstance(here, click.Group) and words and not words[0].startswith("-"):
        here = here.get_command(click.Context(here), words[0])
        assert here is not None, f"botswarm {' '.join(path)} has no command {words[0]}"
        path, words = [*path, words[0]], words[1:]
    return path, words


def test_the_strategy_that_is_shown_is_a_whole_one(tmp_path: Path) -> None:
    [code] = re.findall(r"```python\n(.*?)```", README, re.DOTALL)
    (tmp_path / "mine.py").write_text(code)
    catalog = load(tmp_path)
    assert catalog.broken == {}
    assert catalog.found["new-high"].source == str(tmp_path / "mine.py")


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_every_link_leads_to_a_file(page: Path) -> None:
    targets = re.findall(r"\]\(([^)\s]+)\)", page.read_text())
    local = [target.split("#")[0] for target in targets if "://" not in target]
    assert [target for target in local if target and not (page.parent / target).exists()] == []


def test_every_document_is_in_the_index() -> None:
    index = (ROOT / "docs" / "README.md").read_text()
    pages = {str(page.relative_to(ROOT / "docs")) for page in (ROOT / "docs").rglob("*.md")}
    assert [page for page in sorted(pages - {"README.md"}) if f"({page})" not in index] == []


def test_every_line_of_the_procfile_starts_a_command_that_exists() -> None:
    for line in (ROOT / "Procfile").read_text().splitlines():
        name, separator, command = line.partition(": ")
        assert separator, f"not a Procfile line: {line!r}"
        assert name.isalpha()
        words = re.match(r"botswarm(?: [a-z]+)+", command)
        assert words, f"none of our commands: {command!r}"
        assert f"## `{words[0]}`" in (ROOT / "docs" / "commands.md").read_text()


def test_the_licence_is_the_whole_apache_text() -> None:
    text = (ROOT / "LICENSE").read_text()
    assert text.split("\n")[1:3] == [
        "                                 Apache License",
        "                           Version 2.0, January 2004",
    ]
    for section in range(1, 10):
        assert re.search(rf"^   {section}\. [A-Z]", text, re.MULTILINE), f"no section {section}"
    assert "END OF TERMS AND CONDITIONS" in text
