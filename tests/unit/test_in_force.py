"""When a halt is in force: what is waited for, how long, and what is said of the rest."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from datetime import UTC, datetime, timedelta
from typing import cast

import pytest

from botswarm.cli import in_force
from botswarm.cli.in_force import Force
from botswarm.errors import Unreachable
from botswarm.ledger.halting import Halting, OnTheWay, Place

BINANCE: Place = ("binance", "spot")
OKX: Place = ("ccxt-okx", "demo")
WINDOWS = {BINANCE: 0.0, OKX: None}


class FakeHalting:
    """Tells of each look what is on the way then; the last holds on."""

    def __init__(self, *looks: Sequence[OnTheWay]) -> None:
        self.looks = list(looks)
        self.is_away = False

    def wait_for_begun(self, places: Collection[Place] | None) -> Sequence[OnTheWay]:
        return self.on_the_way(places)

    def on_the_way(self, places: Collection[Place] | None) -> Sequence[OnTheWay]:
        if self.is_away:
            self.is_away = False
            raise Unreachable("the ledger is away")
        return self.looks.pop(0) if len(self.looks) > 1 else self.looks[0]


def signed(place: Place = BINANCE, ago_s: float = 0) -> OnTheWay:
    return OnTheWay("1", place, datetime.now(UTC) - timedelta(seconds=ago_s))


def made(*looks: Sequence[OnTheWay]) -> tuple[Force, FakeHalting, list[Sequence[OnTheWay]]]:
    halting, commits = FakeHalting(*looks), list[Sequence[OnTheWay]]()
    force = Force(cast("Halting", halting), None, WINDOWS.__getitem__, commits.append)
    return force, halting, commits


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("ANSWER_MAX_S", "CLOCKS_S", "UNBOUNDED_S"):
        monkeypatch.setattr(in_force, name, 0.1)


def test_it_is_in_force_at_once_where_nothing_is_on_the_way() -> None:
    force, _, commits = made([])
    force.begin()
    assert force.is_reached.is_set()
    assert commits == [[]]


def test_an_answer_that_comes_soon_is_waited_for_by_whoever_pressed() -> None:
    force, _, commits = made([signed()], [signed()], [])
    force.begin()
    assert force.is_reached.is_set()
    assert commits == [[]]


def test_what_was_signed_long_ago_is_not_waited_for() -> None:
    force, _, _ = made([signed(ago_s=3600)])
    force.begin()
    assert force.is_reached.is_set()


def test_a_sender_that_never_answers_is_waited_for_until_its_venue_refuses_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    force, _, commits = made([signed()])
    monkeypatch.setattr(in_force, "CLOCKS_S", 0.3)
    force.begin()
    assert not force.is_reached.is_set()
    assert 0 < force.left_s() <= 0.3
    assert force.wait(30)
    assert commits == [[]]
    assert not force.left


def test_a_venue_that_refuses_nothing_for_being_late_is_told_of_and_not_waited_for_long() -> None:
    late = signed(OKX)
    force, _, commits = made([late])
    force.begin()
    assert force.wait(30)
    assert commits == [[late]]


def test_a_ledger_that_is_away_for_a_moment_leaves_it_open() -> None:
    force, halting, commits = made([signed()])
    force.begin()
    halting.is_away = True
    assert force.wait(30)
    assert commits == [[]]


def test_whoever_does_not_wait_is_told_that_it_is_not_in_force(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    force, _, commits = made([signed()])
    monkeypatch.setattr(in_force, "CLOCKS_S", 3600)
    force.begin()
    assert not force.wait(0.05)
    assert commits == []
