"""A share of a worker's children for each account: more of them no mute venue can hold."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import quote

from botswarm.errors import Unreachable
from botswarm.exchanges.accounts import Account
from botswarm.queueing.slots import FileSlots

WAIT_S = 0.25
"""Who finds the share used up waits so long: long for a venue that answers, short for others."""
POLL_S = 0.01


class NoShare(Unreachable):
    """All children that this account may have are waiting for its venue."""


class Shares:
    """By file locks of this machine, which a dead child gives back."""

    def __init__(self, folder: Path) -> None:
        self._slots = FileSlots(folder)

    @contextmanager
    def taken(self, worker: str, account: Account, most: int) -> Iterator[None]:
        """One of ``most``; raises NoShare."""
        name = quote(f"share-{worker}-{account}", safe="")
        slot, deadline = self._slots.take(name, most), time.monotonic() + WAIT_S
        while slot is None:
            if time.monotonic() >= deadline:
                raise NoShare(
                    f"{account} has {most} processes waiting for its venue already",
                    cure="it is tried again by itself; see whether the venue answers",
                )
            time.sleep(POLL_S)
            slot = self._slots.take(name, most)
        try:
            yield
        finally:
            self._slots.give_back(slot)
