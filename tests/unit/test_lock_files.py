"""The lock files fit the ranges of setup.cfg, pin every package and leave nothing to chance."""

from __future__ import annotations

import ast
import configparser
import re
import sys
import tomllib
from importlib.metadata import packages_distributions
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parent.parent.parent
LOCKS = ("requirements.lock", "requirements-dev.lock")


def pins(name: str) -> dict[str, str]:
    found = re.findall(r"^([A-Za-z0-9._-]+)==([^ ;\\]+)", (ROOT / name).read_text(), re.MULTILINE)
    return {canonicalize_name(package): version for package, version in found}


def ranges(*, dev: bool) -> list[Requirement]:
    setup = configparser.ConfigParser(interpolation=None)
    setup.read(ROOT / "setup.cfg")
    build = tomllib.loads((ROOT / "pyproject.toml").read_text())["build-system"]["requires"]
    lines = [*setup["options"]["install_requires"].splitlines(), *build]
    if dev:
        lines += setup["options.extras_require"]["dev"].splitlines()
    return [Requirement(line) for line in lines if line.strip()]


@pytest.mark.parametrize("name", LOCKS)
def test_the_lock_holds_every_requirement_within_its_range(name: str) -> None:
    pinned = pins(name)
    wrong = [
        f"{requirement} (locked: {pinned.get(canonicalize_name(requirement.name))})"
        for requirement in ranges(dev=name == "requirements-dev.lock")
        if not requirement.specifier.contains(
            pinned.get(canonicalize_name(requirement.name), "0"), prereleases=True
        )
        or canonicalize_name(requirement.name) not in pinned
    ]
    assert not wrong, f"run make lock: {', '.join(wrong)}"


@pytest.mark.parametrize("name", LOCKS)
def test_every_pin_has_a_hash(name: str) -> None:
    entries = re.split(r"^(?=[A-Za-z0-9])", (ROOT / name).read_text(), flags=re.MULTILINE)
    entries = [entry for entry in entries if "==" in entry]
    assert len(entries) > 20
    assert [entry for entry in entries if "--hash=sha256:" not in entry] == []


@pytest.mark.parametrize("name", LOCKS)
def test_the_lock_names_no_index_and_no_address(name: str) -> None:
    text = (ROOT / name).read_text()
    assert "://" not in text
    assert not re.search(r"^--?[a-z]", text, re.MULTILINE)


def test_the_tests_run_on_the_versions_that_are_deployed() -> None:
    run, dev = pins(LOCKS[0]), pins(LOCKS[1])
    assert {name: dev.get(name) for name in run} == run


def imported_modules(folder: Path) -> set[str]:
    """The top-level names that the Python files below ``folder`` import."""
    found = set[str]()
    for path in folder.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Import):
                found |= {alias.name.partition(".")[0] for alias in node.names}
            elif isinstance(node, ast.ImportFrom) and node.module:
                found.add(node.module.partition(".")[0])
    return found


def test_what_the_code_imports_is_asked_for_in_setup_cfg() -> None:
    """A package that only the tests bring along would be missing where botswarm is deployed."""
    asked = {canonicalize_name(requirement.name) for requirement in ranges(dev=False)}
    modules = imported_modules(ROOT / "botswarm") | imported_modules(ROOT / "workers")
    foreign = modules - set(sys.stdlib_module_names) - {"botswarm", "workers", "__future__"}
    # A bench installs it beside us, to run it in comparison.
    foreign -= {"cryptofeed"}
    assert {"click", "amqp"} <= foreign
    givers = packages_distributions()
    missing = [
        module
        for module in sorted(foreign)
        if not asked & {canonicalize_name(giver) for giver in givers.get(module, [])}
    ]
    assert missing == []
