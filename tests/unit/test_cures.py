"""What we tell people to do can be done: settings, their values, commands and options exist."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import click
import pytest

from botswarm.cli import botswarm
from botswarm.config.table import SETTINGS
from botswarm.errors import Problem

ROOT = Path(__file__).parents[2]
FILES = sorted([*(ROOT / "botswarm").rglob("*.py"), *(ROOT / "workers").rglob("*.py")])
KNOWN = {each.variable: each for each in SETTINGS}
OF_A_SHELL = "BOTSWARM_COMPLETE"
UNSAID = "{}"
"""What is known only when it is said: no name is made of it here."""
NAMES_OF_CONNECTIONS = ("feed health", "queue mending")
_VARIABLE = re.compile(r"\bBOTSWARM_[A-Z0-9_]*[A-Z0-9](?![A-Z0-9_{])")
_SET = re.compile(r"\b(BOTSWARM_[A-Z0-9_]+)=([a-z0-9.]+\b)(?![:/@])")
_COMMAND = re.compile(r"(?<![-\w./])(?<!-A )botswarm((?: [^\s;,)`\"]+)+)")
_NAME = re.compile(r"[a-z][a-z-]*")


class _Texts(ast.NodeVisitor):
    """Every text of a file, with its line and whether it says what to do about an error."""

    def __init__(self) -> None:
        self.found: list[tuple[int, str, bool]] = []
        self._is_cure = False

    def visit_keyword(self, node: ast.keyword) -> None:
        self._visit(node.value, is_cure=node.arg == "cure")

    def visit_Call(self, node: ast.Call) -> None:
        is_problem = isinstance(node.func, ast.Name) and node.func.id == Problem.__name__
        for place, given in enumerate(node.args):
            self._visit(given, is_cure=is_problem and place == 1)
        for each in (node.func, *node.keywords):
            self.visit(each)

    def _visit(self, node: ast.expr, *, is_cure: bool) -> None:
        before, self._is_cure = self._is_cure, self._is_cure or is_cure
        self.visit(node)
        self._is_cure = before

    def visit_JoinedStr(self, node: ast.JoinedStr) -> None:
        said = (
            str(part.value) if isinstance(part, ast.Constant) else UNSAID for part in node.values
        )
        self._keep(node, "".join(said))

    def visit_Constant(self, node: ast.Constant) -> None:
        if isinstance(node.value, str):
            self._keep(node, node.value)

    def _keep(self, node: ast.expr, text: str) -> None:
        self.found.append((node.lineno, " ".join(text.split()), self._is_cure))


@pytest.fixture(scope="module")
def texts() -> list[tuple[str, str, bool]]:
    found = []
    for path in FILES:
        source = path.read_text()
        if "botswarm " in source or "BOTSWARM_" in source:
            reader = _Texts()
            reader.visit(ast.parse(source))
            place = path.relative_to(ROOT)
            found += [(f"{place}:{line}", text, is_cure) for line, text, is_cure in reader.found]
    assert found
    return found


def test_every_setting_that_is_named_exists(texts: list[tuple[str, str, bool]]) -> None:
    assert [
        f"{place}: {name}"
        for place, text, _ in texts
        for name in _VARIABLE.findall(text)
        if name != OF_A_SHELL and not _is_known(name)
    ] == []


def _is_known(name: str) -> bool:
    """A secret may be in a file that is named instead."""
    setting = KNOWN.get(name) or KNOWN.get(name.removesuffix("_FILE"))
    return setting is not None and (setting.variable == name or setting.secret)


def test_every_value_that_is_advised_is_one_its_setting_takes(
    texts: list[tuple[str, str, bool]],
) -> None:
    assert [
        f"{place}: {name}={value}"
        for place, text, _ in texts
        for name, value in _SET.findall(text)
        if isinstance(KNOWN[name].kind.read(value), Problem)
    ] == []


def test_every_command_that_is_advised_exists_with_its_options(
    texts: list[tuple[str, str, bool]],
) -> None:
    assert [
        f"{place}: botswarm {words}: {problem}"
        for place, text, is_cure in texts
        for words in _commands(text)
        if (problem := _problem_of(words.split(), is_cure=is_cure))
    ] == []


def _commands(text: str) -> Iterator[str]:
    for match in _COMMAND.finditer(text):
        words = match[1].partition(" botswarm ")[0].strip()
        if words not in NAMES_OF_CONNECTIONS:
            yield words


def _problem_of(words: list[str], *, is_cure: bool) -> str:
    command: click.Command = botswarm
    context = click.Context(command)
    while isinstance(command, click.Group) and words:
        name = words[0].rstrip(".:")
        if not _NAME.fullmatch(name):
            break
        following = command.get_command(context, name)
        if following is None:
            # In a sentence "botswarm" may be just the name.
            return f"no command {name}" if is_cure or command is not botswarm else ""
        command, words = following, words[1:]
    options = {"--help"}.union(*((*each.opts, *each.secondary_opts) for each in command.params))
    unknown = [word for word in words if word.startswith("-") and word.rstrip(".:") not in options]
    return f"no option {', '.join(unknown)}" if unknown else ""
