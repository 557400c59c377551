"""What a process has set for itself: said once with its line in the ledger, without secrets."""

from __future__ import annotations

import logging
import os
import secrets
from pathlib import Path

from botswarm.config import Settings
from botswarm.config.alike import others

logger = logging.getLogger(__name__)

KEY_FILE, KEY_BYTES = "settings.key", 32


def own(settings: Settings) -> dict[str, str]:
    """What this machine has set for itself. Nothing where its state folder cannot be written."""
    try:
        return others(settings, _key(settings.state_dir / KEY_FILE))
    except OSError as error:
        words = error.strerror or str(error)
        logger.warning("changes of what this machine has set will not be told: %s", words)
        return {}


def _key(path: Path) -> bytes:
    """Of this machine, and never in the ledger: who reads that can try no passwords out by it."""
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        made = path.with_name(f"{path.name}.{os.getpid()}")
        descriptor = os.open(made, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        with os.fdopen(descriptor, "wb") as file:
            file.write(secrets.token_bytes(KEY_BYTES))
        try:
            path.hardlink_to(made)  # whole, and of two who start at once the first one's
        except FileExistsError:
            pass
        finally:
            made.unlink()
    key = path.read_bytes()
    if len(key) != KEY_BYTES:
        raise OSError(f"{path} is no key: delete it")
    return key
