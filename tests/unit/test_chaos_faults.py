"""A fault of the campaign that struck nothing says so, instead of being counted."""

from __future__ import annotations

import random
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest

from botswarm.chaos.campaign import outside, processes, roles, servers
from botswarm.chaos.campaign.room import Room
from botswarm.errors import BotswarmError, TimedOut, Unreachable


@pytest.fixture(autouse=True)
def _nobody_waits_long(monkeypatch: pytest.MonkeyPatch) -> None:
    def at_once(condition: Callable[[], object], what: str, _: float) -> None:
        if not condition():
            raise TimedOut(f"in vain for {what}")

    for module in (outside, processes, roles, servers):
        monkeypatch.setattr(module, "until", at_once)


def a_stage(**parts: Any) -> Any:
    worker = SimpleNamespace(name="orders-1", running=True, children=list, family=list)
    return SimpleNamespace(workers=[worker], arm=lambda *_, **__: True, **parts)


@pytest.mark.parametrize("seed", range(4))
def test_a_worker_that_was_not_met_at_its_order_was_not_killed_there(
    monkeypatch: pytest.MonkeyPatch, seed: int
) -> None:
    monkeypatch.setattr(processes, "caught_before_send", lambda *_: None)
    monkeypatch.setattr(processes, "_journal_size", lambda _: 0)
    monkeypatch.setattr(processes, "sending", lambda _: set())
    with pytest.raises(TimedOut, match="no order was met between"):
        processes._kill_between(a_stage(), random.Random(seed))


class Letters:
    """A broker with these dead letters, and what a connection to it can be asked."""

    def __init__(self, *ids: str) -> None:
        self.ids = list(ids)

    def __enter__(self) -> Letters:
        self.left = list(self.ids)
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def connection_for_read(self) -> Letters:
        return self

    channel = connection_for_read

    def queue_declare(self, _: str, passive: bool) -> Any:
        return SimpleNamespace(message_count=len(self.ids), passive=passive)

    def basic_get(self, _: str, no_ack: bool) -> Any:
        assert not no_ack
        return SimpleNamespace(headers={"id": self.left.pop(0)}) if self.left else None


def test_another_dead_letter_is_not_the_poison() -> None:
    letters = Letters("one")
    poison = processes._Dead(letters, "poison")  # type: ignore[arg-type]
    assert not poison.is_there()
    letters.ids.append("two")
    assert not poison.is_there()
    letters.ids.append("poison")
    assert poison.is_there()


def test_a_database_without_connections_of_the_swarm_has_no_backend_killed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    cursor = SimpleNamespace(execute=lambda _: None, fetchall=list)
    entered = Entered(cursor)
    monkeypatch.setattr(
        servers, "_query", lambda _: SimpleNamespace(cursor=lambda: entered, close=lambda: None)
    )
    dice = SimpleNamespace(choice=lambda options: "backend" if "backend" in options else None)
    with pytest.raises(TimedOut, match="a backend that serves the swarm"):
        servers._kill_database(a_stage(), dice)  # type: ignore[arg-type]


class Entered:
    def __init__(self, inner: object) -> None:
        self._inner = inner

    def __enter__(self) -> object:
        return self._inner

    def __exit__(self, *_: object) -> None:
        pass


def test_a_venue_that_had_nothing_open_cancelled_nothing() -> None:
    none_open = SimpleNamespace(signed=lambda *_, **__: SimpleNamespace(status=400))
    assert not outside._cancel_all(a_stage(exchange=none_open))
    some = SimpleNamespace(signed=lambda *_, **__: SimpleNamespace(status=200))
    assert outside._cancel_all(a_stage(exchange=some))


def test_a_disk_that_stays_large_is_not_called_full(monkeypatch: pytest.MonkeyPatch) -> None:
    room = Room("test")
    monkeypatch.setattr(room, "_mount", lambda *_: False)
    try:
        with pytest.raises(Unreachable, match="was not filled"):
            room.fill()
    finally:
        room.path.rmdir()


def test_a_disk_that_is_written_to_meanwhile_is_filled_all_the_same(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    room = Room("test")
    answers = iter([False, False, True])
    monkeypatch.setattr(room, "_mount", lambda *_: next(answers))
    try:
        room.fill()
        assert next(answers, None) is None
    finally:
        room.path.rmdir()


def test_a_process_that_is_not_there_is_not_frozen(monkeypatch: pytest.MonkeyPatch) -> None:
    role = object.__new__(roles.Role)
    role.name = "beat"
    monkeypatch.setattr(role, "family", list)
    with pytest.raises(TimedOut, match="beat to be there"):
        role.freeze()


def test_a_dump_that_fails_is_no_backup(tmp_path: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(servers, "find_program", lambda *_, **__: "false")
    stage = a_stage(folder=tmp_path, postgresql=SimpleNamespace(url=lambda _: "nowhere"))
    with pytest.raises(BotswarmError, match="nothing was dumped"):
        servers._back_up(stage, random.Random(2))
