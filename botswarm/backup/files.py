"""What else belongs to the ledger: the configuration, the play exchanges' journals, strategies.

Secrets (the .env file, master keys, a botswarm.toml that names any) are only taken into backups
that are sealed.
"""

from __future__ import annotations

import io
import json
import tarfile
import tomllib
from collections.abc import Iterator, Sequence
from pathlib import Path, PurePosixPath
from typing import IO

from botswarm.backup.sealing import Damaged, spoken
from botswarm.config import Secret, Settings
from botswarm.config.table import BY_NAME

STATE, CONFIG, STRATEGIES = "state", "config", "strategies"
SETTINGS = "settings.json"
JOURNALS = ("exchange.json", "exchange-journal.jsonl", "paper-*.json", "paper-*-journal.jsonl")
KEYS = ("master.key", "master.key.next", "master-*.key")
CONFIG_FILES = ("botswarm.toml",)
SECRET_FILES = (".env",)
FILE_MAX = 512 << 20
"""A journal that has grown larger is left out, and said."""


def pack(settings: Settings, target: IO[bytes], *, is_sealed: bool, folder: Path) -> Sequence[str]:
    """Write them as a tar; answers what was left out. ``folder`` is where the process runs."""
    left: list[str] = []
    with tarfile.open(fileobj=target, mode="w|") as archive:
        _add_bytes(archive, f"{CONFIG}/{SETTINGS}", _shown(settings))
        for name, path in _chosen(settings, is_sealed=is_sealed, folder=folder):
            if path.name in CONFIG_FILES and not is_sealed and _holds_secrets(path):
                left.append(f"{path.name} holds secrets, and the backup is not sealed")
            elif (problem := _add(archive, name, path)) is not None:
                left.append(problem)
    return left


def unpack(source: IO[bytes], state_dir: Path) -> Sequence[str]:
    """Journals and keys where they are missing; the rest into ``restored`` in the state folder.

    What lies there already is never touched. Answers the files that were written.
    """
    written: list[str] = []
    with spoken(state_dir), _opened(source) as archive:
        state_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
        for member in archive:
            target = _target(PurePosixPath(member.name), state_dir)
            content = archive.extractfile(member)
            if content is None or target.exists():
                continue
            target.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            with target.open("xb") as file:
                target.chmod(0o600)
                while chunk := content.read(1 << 20):
                    file.write(chunk)
            written.append(str(target))
    return written


def _opened(source: IO[bytes]) -> tarfile.TarFile:
    try:
        return tarfile.open(fileobj=source, mode="r|")
    except tarfile.TarError as error:
        raise Damaged(f"the files of the backup cannot be read: {error}") from error


def _target(name: PurePosixPath, state_dir: Path) -> Path:
    if name.is_absolute() or ".." in name.parts:
        raise Damaged(f"the backup would write to {name}")
    if name.parts[0] == STATE:
        return state_dir.joinpath(*name.parts[1:])
    return state_dir.joinpath("restored", *name.parts)


def _chosen(settings: Settings, *, is_sealed: bool, folder: Path) -> Iterator[tuple[str, Path]]:
    for pattern in (*JOURNALS, *(KEYS if is_sealed else ())):
        for path in sorted(settings.state_dir.glob(pattern)):
            yield f"{STATE}/{path.name}", path
    for name in (*CONFIG_FILES, *(SECRET_FILES if is_sealed else ())):
        yield f"{CONFIG}/{name}", folder / name
    if settings.strategies_dir is not None:
        for path in sorted(settings.strategies_dir.rglob("*.py")):
            yield f"{STRATEGIES}/{path.relative_to(settings.strategies_dir)}", path


def _holds_secrets(path: Path) -> bool:
    """What cannot be read as settings may hold anything."""
    try:
        found = tomllib.loads(path.read_text())
    except FileNotFoundError:
        return False
    except (OSError, ValueError):
        return True
    return any(name in BY_NAME and BY_NAME[name].secret for name in found)


def _add(archive: tarfile.TarFile, name: str, path: Path) -> str | None:
    """A journal may grow while it is read: what it had at first is taken."""
    try:
        with path.open("rb") as file:
            size = path.stat().st_size
            if size > FILE_MAX:
                return f"{path.name} has {size >> 20} MB"
            about = tarfile.TarInfo(name)
            about.size, about.mtime, about.mode = size, int(path.stat().st_mtime), 0o600
            archive.addfile(about, file)
    except FileNotFoundError:
        pass
    return None


def _add_bytes(archive: tarfile.TarFile, name: str, content: bytes) -> None:
    about = tarfile.TarInfo(name)
    about.size, about.mode = len(content), 0o600
    archive.addfile(about, io.BytesIO(content))


def _shown(settings: Settings) -> bytes:
    """Every setting as it was in force; secrets show their stars."""
    values = {}
    for name in settings.__slots__:
        value = getattr(settings, name)
        values[name] = value.masked if isinstance(value, Secret) else value
    return json.dumps(values, indent=1, sort_keys=True, default=str).encode()
