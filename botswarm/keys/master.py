"""Where the master key comes from: the settings, or a file of the state folder."""

from __future__ import annotations

import os
import stat
from collections.abc import Sequence
from pathlib import Path

from botswarm.config import Settings
from botswarm.errors import Misconfigured, Problem, Refused, Unreachable
from botswarm.keys.envelope import MasterKey

FILE = "master.key"
NEXT = "master.key.next"
"""A new one, from before any row is wrapped by it until all are."""
OTHERS_MAY = stat.S_IRWXG | stat.S_IRWXO


def masters(settings: Settings) -> Sequence[MasterKey]:
    """Those that may open something, the one that wraps what is new first."""
    if settings.master_key is not None:
        return [of_text(settings.master_key.reveal(), "BOTSWARM_MASTER_KEY")]
    folder = settings.state_dir
    paths = (folder / FILE, folder / NEXT, *sorted(folder.glob("master-*.key")))
    return [found for path in paths if (found := read(path)) is not None]


def master(settings: Settings) -> MasterKey:
    """The one that wraps what is new; made in the state folder where there is none.

    Raises Unreachable in production without one: what is made by itself is backed up by nobody.
    """
    found = masters(settings)
    if found:
        return found[0]
    if settings.env == "production":
        raise Unreachable(
            "there is no master key to keep exchange keys with",
            cure="give one in BOTSWARM_MASTER_KEY_FILE, or make one: botswarm secrets init",
        )
    return make(settings.state_dir / FILE)


def make(path: Path, key: MasterKey | None = None) -> MasterKey:
    """A new key in a file for its owner only. Raises Refused where there is one already."""
    made = key or MasterKey.new()
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(descriptor, "w") as file:
            file.write(made.written().reveal() + "\n")
            file.flush()
            os.fsync(file.fileno())
        _sync_folder(path)
    except FileExistsError as error:
        raise Refused(
            f"{path} is there already",
            cure="keys are wrapped by it: keep it, or change it with botswarm secrets rotate",
        ) from error
    except OSError as error:
        raise Unreachable(
            f"the master key cannot be written to {path}: {error.strerror}",
            cure="make room or mend the folder's permissions",
        ) from error
    return made


def replace(state_dir: Path) -> None:
    """The new one takes the old one's place, which older backups of the ledger still need."""
    old = read(state_dir / FILE)
    if old is not None:
        (state_dir / FILE).replace(state_dir / f"master-{old.id}.key")
    (state_dir / NEXT).replace(state_dir / FILE)
    _sync_folder(state_dir / FILE)


def read(path: Path) -> MasterKey | None:
    try:
        text = path.read_text()
        mode = path.stat().st_mode
    except FileNotFoundError:
        return None
    except (OSError, UnicodeDecodeError) as error:
        raise Unreachable(
            f"the master key in {path} cannot be read: {error}", cure="mend its permissions"
        ) from error
    if mode & OTHERS_MAY:
        raise Refused(f"{path} can be read by others", cure=f"chmod 600 {path}")
    return of_text(text, str(path))


def of_text(text: str, where: str) -> MasterKey:
    try:
        return MasterKey.read(text)
    except ValueError as error:
        raise Misconfigured(
            Problem(
                f"{where} holds no master key: {error}",
                "it is 32 random bytes in base64, such as from: openssl rand -base64 32",
            )
        ) from error


def _sync_folder(path: Path) -> None:
    folder = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)
