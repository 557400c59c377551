"""The hub's promise about the disk: a confirm means kept, or there is none."""

from __future__ import annotations

import asyncio
import errno
import os
from pathlib import Path

import pytest

from botswarm.broker.hub import Hub
from botswarm.broker.journal import Journal


class Waiting:
    """A channel with one confirm to give."""

    def __init__(self) -> None:
        self.sent: list[int] = []

    def take_outcomes(self) -> list[int]:
        return [1]

    def send_outcomes(self, outcomes: list[int]) -> None:
        self.sent += outcomes


def test_a_disk_that_cannot_sync_stops_the_broker_and_confirms_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(_descriptor: int) -> None:
        raise OSError(errno.EIO, "Input/output error")

    async def publish() -> tuple[Waiting, bool]:
        journal = Journal(tmp_path, lambda: b"[]")
        journal.open(lambda _kind, _payload: None)
        journal.start()
        hub = Hub(journal, fsync="always", memory_high_bytes=1 << 20)
        stop, channel = asyncio.Event(), Waiting()
        hub.give_up = stop.set
        # The one part of a machine that cannot be broken for real.
        monkeypatch.setattr(os, "fsync", broken)
        journal.append_ids(5, 1, [1])
        hub.to_confirm.append(channel)  # type: ignore[arg-type] # all that confirming needs
        hub.wake()
        await asyncio.wait_for(stop.wait(), 10)
        return channel, stop.is_set()

    channel, stopped = asyncio.run(publish())
    assert stopped
    assert channel.sent == []
