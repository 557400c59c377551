"""Protections pause trading after losses, where they were switched on, and let it go on."""

from __future__ import annotations

from datetime import timedelta
from decimal import Decimal
from typing import Any

import pytest
from sqlalchemy import select

from botswarm.domain.order import OrderKind
from botswarm.domain.permission import TradingState
from botswarm.domain.protections import KINDS, Protection, ProtectionKind
from botswarm.errors import NotFound, Refused
from botswarm.ledger.models import AuditRow
from botswarm.ledger.store import Ledger
from botswarm.sweeps import positions, protections
from tests.ledger.conftest import NOW
from tests.ledger.sweeping import OF_ACCOUNT, OF_MARKET, SWARM, Floor

D = Decimal
ETH, OF_ETH = "ETH-USDT", "market:simulated:ETH-USDT"


@pytest.fixture
def floor(quick_ledger: Ledger) -> Floor:
    made = Floor(quick_ledger)
    for name, symbol in (("alpha", "BTC-USDT"), ("beta", ETH)):
        made.bot(name, symbol=symbol)
        made.trade(name, "buy", "100", "100", symbol=symbol)
    return made


def protect(floor: Floor, kind: str, scope: str = SWARM, **said: int) -> None:
    values = {name: D(value) for name, value in said.items()}
    made = Protection.of(scope, ProtectionKind(kind), values)
    floor.ledger.protections.set(made, actor="test", reason="test", now=NOW)


def sweep(floor: Floor) -> None:
    floor.sweep(positions.sweep)
    floor.sweep(protections.sweep, "protections")


def lose(floor: Floor, *prices: str, bot: str = "alpha", stop: bool = False) -> None:
    symbol = "BTC-USDT" if bot == "alpha" else ETH
    for price in prices:
        floor.wait(1)
        kind: dict[str, Any] = {"kind": OrderKind.STOP, "stop_price": D(price)} if stop else {}
        floor.trade(bot, "sell", "1", price, symbol=symbol, **kind)


def test_a_market_cools_down_after_a_loss_and_goes_on_by_itself(floor: Floor) -> None:
    protect(floor, "cool_down", losses=1, within=600, pause=300)
    lose(floor, "101")
    sweep(floor)
    assert floor.state(OF_MARKET) == "active"
    lose(floor, "99")
    for _ in range(3):
        sweep(floor)
        floor.wait(5)
    assert floor.state(OF_MARKET) == "reducing"
    assert floor.state(OF_ETH) == "active"
    (event,) = floor.events("cool_down")
    assert event.numbers is not None
    assert event.numbers["lost"] == "1"
    floor.wait(300)
    sweep(floor)
    assert floor.state(OF_MARKET) == "active"
    assert floor.events("cool_down")[-1].severity == "info"


def test_what_a_person_resumed_does_not_pause_again_for_the_same_loss(floor: Floor) -> None:
    protect(floor, "cool_down", pause=300)
    lose(floor, "99")
    sweep(floor)
    floor.wait(1)
    floor.ledger.halts.set(
        OF_MARKET, TradingState.ACTIVE, reason="!", actor="me", now=floor.clock.at, is_human=True
    )
    sweep(floor)
    assert floor.state(OF_MARKET) == "active"
    lose(floor, "98")
    sweep(floor)
    assert floor.state(OF_MARKET) == "reducing"


def test_of_an_account_or_a_bot_only_the_bot_pauses(floor: Floor) -> None:
    protect(floor, "cool_down", OF_ACCOUNT)
    lose(floor, "99")
    sweep(floor)
    assert (floor.state("bot:alpha"), floor.state(OF_MARKET)) == ("reducing", "active")
    assert floor.state("bot:beta") == "active"


def test_the_stop_guard_counts_stops_that_lost_and_nothing_else(floor: Floor) -> None:
    protect(floor, "stop_guard", OF_ACCOUNT, stops=3, within=60, pause=600)
    lose(floor, "99", "98", "97")
    lose(floor, "101", stop=True)
    lose(floor, "99", "98", stop=True)
    sweep(floor)
    assert floor.state(OF_ACCOUNT) == "active"
    lose(floor, "98", bot="beta", stop=True)
    sweep(floor)
    assert floor.state(OF_ACCOUNT) == "reducing"


def test_stops_that_are_far_apart_do_not_count_together(floor: Floor) -> None:
    protect(floor, "stop_guard", OF_ACCOUNT, stops=2, within=60, pause=600)
    lose(floor, "99", stop=True)
    floor.wait(60)
    lose(floor, "98", stop=True)
    sweep(floor)
    assert floor.state(OF_ACCOUNT) == "active"


def test_a_market_that_does_not_earn_enough_pauses(floor: Floor) -> None:
    protect(floor, "low_profit", trades=3, percent=1, pause=600)
    lose(floor, "100.5", "100.5")
    lose(floor, "103", "103", "103", bot="beta")
    sweep(floor)
    assert floor.state(OF_MARKET) == "active", "two trades are not enough to tell"
    lose(floor, "100.5")
    sweep(floor)
    assert (floor.state(OF_MARKET), floor.state(OF_ETH)) == ("reducing", "active")


def test_a_fall_of_what_was_realised_pauses_the_scope(floor: Floor) -> None:
    protect(floor, "max_drawdown", OF_ACCOUNT, loss=30, pause=600)
    lose(floor, "120", "90", "81")
    sweep(floor)
    assert floor.state(OF_ACCOUNT) == "active"
    lose(floor, "99")
    sweep(floor)
    assert floor.state(OF_ACCOUNT) == "reducing"
    (event,) = floor.events("max_drawdown")
    assert event.numbers is not None
    assert event.numbers["drawdown"] == "30"


def test_what_was_lost_in_one_asset_is_not_made_up_for_by_what_another_brought(
    floor: Floor,
) -> None:
    floor.bot("gamma", symbol="ETH-BTC")
    floor.trade("gamma", "buy", "200", "0.05", symbol="ETH-BTC")
    protect(floor, "max_drawdown", OF_ACCOUNT, loss=30, pause=600)
    floor.wait(1)
    floor.trade("gamma", "sell", "200", "0.04", symbol="ETH-BTC")
    lose(floor, "71")
    sweep(floor)
    assert floor.state(OF_ACCOUNT) == "active", "29 USDT and 2 BTC are not 31 of anything"
    lose(floor, "99")
    sweep(floor)
    assert floor.state(OF_ACCOUNT) == "reducing"


def test_losses_in_several_assets_are_told_each_by_itself(floor: Floor) -> None:
    floor.bot("gamma", symbol="ETH-BTC")
    floor.trade("gamma", "buy", "1000", "0.05", symbol="ETH-BTC")
    protect(floor, "stop_guard", OF_ACCOUNT, stops=2, within=60, pause=600)
    floor.wait(1)
    stop: dict[str, Any] = {"kind": OrderKind.STOP, "stop_price": D("0.04")}
    floor.trade("gamma", "sell", "1000", "0.04", symbol="ETH-BTC", **stop)
    lose(floor, "71", stop=True)
    sweep(floor)
    (event,) = floor.events("stop_guard")
    assert "10 BTC and 29 USDT lost" in event.words


def test_a_pause_goes_on_when_a_person_s_shorter_halt_is_over(floor: Floor) -> None:
    protect(floor, "cool_down", pause=600)
    lose(floor, "99")
    floor.wait(1)
    now = floor.clock.at
    floor.ledger.halts.set(
        OF_MARKET,
        TradingState.HALTED,
        reason="let me look",
        actor="me",
        now=now,
        is_human=True,
        until=now + timedelta(seconds=60),
    )
    sweep(floor)
    assert floor.state(OF_MARKET) == "halted"
    floor.wait(61)
    sweep(floor)
    assert floor.state(OF_MARKET) == "reducing"


def test_a_limit_s_halt_is_not_shortened_by_a_pause(floor: Floor) -> None:
    from botswarm.ledger.halts import Cause

    floor.ledger.halts.restrict(
        OF_MARKET,
        TradingState.REDUCING,
        reason="limit",
        actor="limit:daily_loss",
        now=floor.clock.at,
        cause=Cause.LIMIT,
    )
    protect(floor, "cool_down", pause=60)
    lose(floor, "99")
    sweep(floor)
    floor.wait(120)
    assert floor.state(OF_MARKET) == "reducing"


def test_a_sweep_looks_at_the_latest_of_very_many_and_says_so(
    floor: Floor, monkeypatch: pytest.MonkeyPatch
) -> None:
    protect(floor, "max_drawdown", OF_ACCOUNT, loss=30, pause=600)
    lose(floor, "60", "101", "102", "103")
    monkeypatch.setattr(protections, "SINCE_MAX", 3)
    done = floor.sweep(protections.sweep, "protections")
    assert (done.looked, done.result["is_cut"], done.result["pauses"]) == (0, False, 0)
    floor.sweep(positions.sweep)
    done = floor.sweep(protections.sweep, "protections")
    assert (done.looked, done.result["is_cut"], done.result["pauses"]) == (3, True, 0)
    monkeypatch.undo()
    done = floor.sweep(protections.sweep, "protections")
    assert (done.looked, done.result["is_cut"], done.result["pauses"]) == (4, False, 1)


def test_nothing_pauses_where_nobody_switched_a_protection_on(floor: Floor) -> None:
    lose(floor, "50", "40", "30", stop=True)
    sweep(floor)
    assert {each.scope for each in floor.ledger.halts.all()} == {SWARM}
    assert floor.state(SWARM) == "active"


def test_switching_on_and_off_is_audited_and_unknown_parameters_are_refused(floor: Floor) -> None:
    protect(floor, "cool_down", OF_ACCOUNT, pause=60)
    (said,) = floor.ledger.protections.all()
    assert said.protection.parameters == {"losses": D(1), "within": D(3600), "pause": D(60)}
    floor.ledger.protections.unset(
        OF_ACCOUNT, ProtectionKind.COOL_DOWN, actor="me", reason="enough", now=NOW
    )
    question = select(AuditRow.action).where(AuditRow.subject == OF_ACCOUNT)
    actions = floor.ledger.database.read(lambda session: list(session.scalars(question)))
    assert actions == ["protection.set", "protection.unset"]
    with pytest.raises(NotFound):
        floor.ledger.protections.unset(
            OF_ACCOUNT, ProtectionKind.COOL_DOWN, actor="me", reason="", now=NOW
        )
    for values in ({"pause": D(0)}, {"losses": D("1.5")}, {"colour": D(1)}):
        with pytest.raises(Refused):
            Protection.of(SWARM, ProtectionKind.COOL_DOWN, values)
    with pytest.raises(Refused):
        Protection.of(SWARM, ProtectionKind.MAX_DRAWDOWN, {})


def test_every_kind_says_what_it_is_and_what_it_needs() -> None:
    assert set(KINDS) == set(ProtectionKind)
    assert all(kind.words and kind.parameters for kind in KINDS.values())
