"""What the program on this machine is made of, as a hash that two machines can compare."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from importlib.util import find_spec
from pathlib import Path

PACKAGES = ("botswarm", "workers")
LENGTH = 12
NOTHING = "none"


def program() -> str:
    """Over the source files of our packages, wherever they are installed."""
    found = []
    for package in PACKAGES:
        spec = find_spec(package)
        places = spec.submodule_search_locations if spec is not None else None
        found += [(package, Path(place)) for place in places or ()]
    return _digest(
        (f"{package}/{path.relative_to(folder).as_posix()}", path)
        for package, folder in found
        for path in sorted(folder.rglob("*.py"))
    )


def folder(path: Path | None) -> str:
    """Over the Python files of a folder that may not be there."""
    if path is None or not path.is_dir():
        return NOTHING
    return _digest((each.name, each) for each in sorted(path.glob("*.py")))


def _digest(files: Iterable[tuple[str, Path]]) -> str:
    whole = hashlib.sha256()
    for name, path in files:
        try:
            content = path.read_bytes()
        except OSError:
            # It went away while we looked: the next look finds it gone.
            continue
        # Each with its name and its own hash: no two sets of files read the same.
        whole.update(f"{name}\0{hashlib.sha256(content).hexdigest()}\n".encode())
    return whole.hexdigest()[:LENGTH]
