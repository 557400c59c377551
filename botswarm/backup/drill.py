"""Rehearse the loss of the ledger: how long until it is back, and how much of it would be gone.

All of a restore but its last step: the bytes are read and checked, the ledger is brought back to
the side as far as the archive reaches, held to what was said of it, brought to this version's
tables and halted. What is left is to swap it in, which takes as long as renaming it.
"""

from __future__ import annotations

import resource
from contextlib import closing
from datetime import datetime, timedelta
from resource import RUSAGE_CHILDREN, RUSAGE_SELF
from typing import Any

from botswarm.backup import folder, sides
from botswarm.backup.choosing import LATEST, named, newest
from botswarm.backup.folder import Backup
from botswarm.backup.page_archive import Reached
from botswarm.backup.place import Place
from botswarm.backup.restore import make_ready
from botswarm.backup.sides import Wish
from botswarm.errors import BotswarmError
from botswarm.ledger.backups import Backups, Drill
from botswarm.ledger.session import Database

ACTOR = "drill"


def drill(place: Place, name: str | None = None) -> Drill:
    """Of the newest there is; measured, noted in the ledger, bad news is part of the answer.

    One that is named is not held to how old it is: after a loss the newest would be restored.
    Raises NotFound for a name that no backup has: a slip of the keyboard is not noted as bad news.
    """
    if name is not None and name != LATEST:
        name = place.folder.named(name)
    began, at, used_s = place.clock.monotonic(), place.clock.now(), _used_s()
    chosen: Backup | None = None
    try:
        chosen, wish = newest(place) if name is None else named(place, name, None, alone=False)
        shows, numbers = _bring_back(place, chosen, wish)
    except BotswarmError as error:
        done = Drill(
            at=at,
            backup=None if chosen is None else chosen.id,
            is_good=False,
            rto_ms=None,
            rpo_ms=None,
            words=str(error),
        )
    else:
        took_ms = round((place.clock.monotonic() - began) * 1000)
        numbers["cpu_s"] = round(_used_s() - used_s, 1)
        is_newest = name is None or name == LATEST
        done = _judged(place, chosen, at, took_ms, at - shows, numbers, is_newest=is_newest)
    with closing(Database(place.database_url)) as database:
        Backups(database).note_drill(done)
    return done


def _bring_back(place: Place, backup: Backup, wish: Wish) -> tuple[datetime, dict[str, Any]]:
    steps: dict[str, Any] = {}
    clock = place.clock
    began = clock.monotonic()

    def step(name: str) -> None:
        nonlocal began
        steps[name] = round((clock.monotonic() - began) * 1000)
        began = clock.monotonic()

    folder.check_bytes(backup)
    step("read_ms")
    with sides.beside(place, backup, is_trial=True, wish=wish) as (side, reached):
        step("bring_back_ms")
        found = sides.check_same(place, backup, side, reached)
        step("check_ms")
        make_ready(place, backup, side, ACTOR)
        step("make_ready_ms")
    steps |= {"fills": found.rows.get("fills", 0), "entries": found.chain_sequence}
    steps |= {"open_orders": len(found.open_orders), "bytes": backup.bytes}
    return _shown(backup, reached), steps


def _used_s() -> float:
    """By us and the programs we ran: what a restore takes of a machine that does nothing else."""
    ours, theirs = (resource.getrusage(who) for who in (RUSAGE_SELF, RUSAGE_CHILDREN))
    return ours.ru_utime + ours.ru_stime + theirs.ru_utime + theirs.ru_stime


def _shown(backup: Backup, reached: Reached | None) -> datetime:
    return backup.manifest.at if reached is None else reached.at


def _judged(
    place: Place,
    backup: Backup,
    at: datetime,
    rto_ms: int,
    lost: timedelta,
    numbers: dict[str, Any],
    *,
    is_newest: bool,
) -> Drill:
    settings = place.settings
    rpo_ms = max(0, round(lost.total_seconds() * 1000))
    words = []
    if rto_ms > settings.backup_rto_max_s * 1000:
        words.append(f"it took {rto_ms / 1000:.0f} s, and may take {settings.backup_rto_max_s} s")
    if is_newest and rpo_ms > settings.backup_rpo_max_s * 1000:
        words.append(
            f"{rpo_ms / 1000:.0f} s would have been lost, and {settings.backup_rpo_max_s} s may be"
        )
    return Drill(
        at=at,
        backup=backup.id,
        is_good=not words,
        rto_ms=rto_ms,
        rpo_ms=rpo_ms,
        words="; ".join(words) or "within its bounds",
        numbers=numbers,
    )
