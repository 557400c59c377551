"""The runbook: a page for each alert and each group of commands, installed with the program."""

from __future__ import annotations

from collections.abc import Mapping
from difflib import get_close_matches
from pathlib import Path

from botswarm.errors import NotFound

FOLDER = Path(__file__).with_name("runbook")


def names() -> Mapping[str, str]:
    """Each page's first sentence, by its name."""
    return {path.stem: _first_sentence(path.read_text()) for path in sorted(FOLDER.glob("*.md"))}


def page(name: str) -> str:
    """Whatever its case; raises NotFound with what may have been meant."""
    there = {path.stem.lower(): path for path in FOLDER.glob("*.md")}
    wanted = name.lower().removesuffix(".md")
    if wanted in there:
        return there[wanted].read_text()
    near = [there[each].stem for each in get_close_matches(wanted, there, n=3, cutoff=0.5)]
    meant = f"did you mean {' or '.join(near)}? " if near else ""
    raise NotFound(f"the runbook has no page {name}", cure=f"{meant}All pages: botswarm runbook")


def _first_sentence(text: str) -> str:
    body = [line for line in text.splitlines() if line.strip() and not line.startswith("#")]
    return body[0].partition(". ")[0].rstrip(".") if body else ""
