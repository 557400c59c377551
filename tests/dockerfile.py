"""The Dockerfile, read as an engine reads it."""

from __future__ import annotations

import json
import re
from pathlib import Path

ROOT = Path(__file__).parents[1]
TEXT = (ROOT / "docker" / "Dockerfile").read_text()


def instructions() -> list[tuple[str, str]]:
    """As (instruction, arguments), comments dropped and lines joined."""
    kept = "\n".join(line for line in TEXT.splitlines() if not line.startswith("#"))
    joined = re.sub(r"\\\n\s*", " ", kept)
    pairs = (line.partition(" ") for line in joined.splitlines() if line.strip())
    return [(word, rest.strip()) for word, _, rest in pairs]


def last_stage() -> list[tuple[str, str]]:
    everything = instructions()
    starts = [number for number, (word, _) in enumerate(everything) if word == "FROM"]
    assert len(starts) == 2
    return everything[starts[-1] :]


def argument(name: str) -> str:
    found = [rest for word, rest in last_stage() if word == name]
    assert len(found) == 1, f"{len(found)} lines of {name} in the last stage"
    return found[0]


def words(name: str) -> list[str]:
    return [str(word) for word in json.loads(argument(name))]
