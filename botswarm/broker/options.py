"""How the embedded broker is run: everything an operator may choose, with its unit."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

Fsync = Literal["always", "interval", "never"]


@dataclass(frozen=True, slots=True, kw_only=True)
class BrokerOptions:
    """``None`` for a port means: the port of the last run, else the usual one or the next free."""

    state_dir: Path
    port: int | None = None
    management_port: int | None = None
    fsync: Fsync = "interval"
    """When the journal is forced to the disk: before each confirm, about once a second, or
    when the operating system likes. ``kill -9`` loses nothing under any of them; a power cut
    loses up to a second of confirmed messages under ``interval``."""
    memory_high_mb: int = 512
    """Publishers are blocked while the messages held in memory weigh more than this."""
    disk_free_low_mb: int = 50
    """Publishers are blocked while the journal's disk has less room than this."""
    consumer_timeout_s: int = 1800
    """A delivery not acknowledged for so long closes its channel, as RabbitMQ does."""
