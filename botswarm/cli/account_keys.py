"""Where the command line takes an exchange key from: never from its own words."""

from __future__ import annotations

import json
import stat
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from botswarm.config import Secret
from botswarm.errors import Refused, Unreachable

if TYPE_CHECKING:
    from botswarm.cli.session import Session
    from botswarm.keys.ring import ApiKeys

NAMES = {"key": ("key", "name"), "secret": ("secret", "privateKey")}
"""Ours first, then those of the file that Coinbase gives out."""
SHAPE = '{"key": "...", "secret": "...", "passphrase": "..."}'
BYTES_MAX = 64 * 1024


def read(session: Session, file: Path | None, *, with_passphrase: bool) -> ApiKeys:
    """From the file, from standard input where that is a pipe, else asked for without echo."""
    if file is not None and str(file) != "-":
        return _parsed(_of_file(session, file), str(file))
    if file is not None or not sys.stdin.isatty():
        return _parsed(sys.stdin.read(BYTES_MAX), "standard input")
    if session.no_input:
        raise Refused("there is no key to take", cure="name a file: --from-file")
    from botswarm.keys.ring import ApiKeys

    return ApiKeys(
        key=_asked("Key"),
        secret=_asked("Secret"),
        passphrase=_asked("Passphrase") if with_passphrase else None,
    )


def _asked(what: str) -> Secret:
    return Secret(click.prompt(what, hide_input=True, err=True).strip())


def _of_file(session: Session, file: Path) -> str:
    try:
        text = file.read_text()[:BYTES_MAX]
        if file.stat().st_mode & (stat.S_IRWXG | stat.S_IRWXO):
            session.warnings.append(f"{file} can be read by others: delete it, or chmod 600")
        return text
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or "it is no text"
        raise Unreachable(f"{file} cannot be read: {reason}", cure="name another file") from error


def _parsed(text: str, where: str) -> ApiKeys:
    from botswarm.keys.ring import ApiKeys

    try:
        said: Any = json.loads(text)
    except (ValueError, RecursionError):
        said = None
    found = {
        what: next((said[name] for name in names if said.get(name)), None)
        for what, names in (NAMES | {"passphrase": ("passphrase",)}).items()
        if isinstance(said, dict)
    }
    key, secret, passphrase = (found.get(what) for what in ("key", "secret", "passphrase"))
    if not (isinstance(key, str) and isinstance(secret, str)):
        # Not shown, not chained: whatever stands there may be a secret.
        raise Refused(f"{where} holds no key", cure=f"write it as {SHAPE}")
    return ApiKeys(
        key=Secret(key),
        secret=Secret(secret),
        passphrase=Secret(passphrase) if isinstance(passphrase, str) else None,
    )
