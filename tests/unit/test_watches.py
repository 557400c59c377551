"""What one process of a machine remembers of a round, the next one knows."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import pytest

from botswarm.exchanges.accounts import Account
from botswarm.testing.venue import Fate, Fault
from botswarm.trading.settle import EMPTY_ROUNDS_APART_S, Watch
from tests.unit.test_order_path import PATIENT, world
from workers import watches

FENCE = datetime(2026, 1, 2, 3, 4, 19, 123000, tzinfo=UTC)
KEY = ("01234567-89ab-cdef-0123-456789abcdef", FENCE)


def a_watch() -> Watch:
    return Watch(
        seen={KEY: 1.5},
        asked={KEY: 2.5},
        empty={KEY: 3.5},
        rested_at=4.5,
        unwanted={"x": (1.0, 2.0)},
    )


def test_what_is_kept_is_recalled_whole(tmp_path: Path) -> None:
    path = watches.path_of(tmp_path, Account("binance", "my/spot"))
    assert path.parent == tmp_path / "watches"
    watches.keep(path, a_watch())
    found = Watch()
    watches.recall(path, found, now=100)
    assert found == a_watch()


def test_what_was_remembered_before_the_machine_was_started_is_forgotten(tmp_path: Path) -> None:
    path = tmp_path / "watch.json"
    watches.keep(path, a_watch())
    found = Watch()
    watches.recall(path, found, now=3)
    assert (found.asked, found.empty, found.rested_at) == ({KEY: 2.5}, {}, None)


@pytest.mark.parametrize("text", ["", "{", "[]", '{"seen": 7}', '{"seen": [[1]]}'])
def test_a_file_that_cannot_be_read_costs_nothing_but_time(tmp_path: Path, text: str) -> None:
    path = tmp_path / "watch.json"
    path.write_text(text)
    found = a_watch()
    watches.recall(path, found, now=100)
    assert found == a_watch()
    watches.keep(path, found)
    watches.recall(path, Watch(), now=100)


def test_a_proof_is_found_although_each_round_is_another_process(tmp_path: Path) -> None:
    made = world(Fault.LOSE_REQUEST, Fate.FILLS, PATIENT)
    made.place()
    path = tmp_path / "watch.json"
    asked = 0
    really = made.venue.query

    def query(order: object) -> object:
        nonlocal asked
        asked += 1
        return really(order)  # type: ignore[arg-type]

    made.venue.query = query  # type: ignore[method-assign,assignment]
    rounds = 0
    while len(made.books.attempts[PATIENT.id]) == 1:
        watch = Watch()
        watches.recall(path, watch, made.clock.monotonic())
        made.settle(watch)
        watches.keep(path, watch)
        made.clock.advance(1)
        rounds += 1
        assert rounds < 60
    assert rounds <= 14 + EMPTY_ROUNDS_APART_S + 6
    # As one process would ask: every second at first, and then ever more seldom.
    assert asked < rounds
