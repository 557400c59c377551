"""A recorded hour decided again: nothing differs, except where something was changed."""

from __future__ import annotations

import math
import random
import sqlite3
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from decimal import Decimal
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import delete, update

from botswarm.bots.brakes import brakes
from botswarm.bots.evaluation import Evaluator
from botswarm.bots.muster import Muster
from botswarm.bots.past import arrays
from botswarm.bots.registry import Registry, Verb
from botswarm.bots.replay import Replay, replay
from botswarm.bots.scene import Scene
from botswarm.bots.spec import BotSpec
from botswarm.bots.strategies import Strategies
from botswarm.cli import botswarm
from botswarm.cli.session import Session
from botswarm.domain.fill import Fill
from botswarm.domain.market import Candle
from botswarm.domain.permission import Approved
from botswarm.errors import BotswarmError
from botswarm.ledger import migrate
from botswarm.ledger.bot import Bot
from botswarm.ledger.models import CandleRow, EvaluationRow
from botswarm.ledger.store import Ledger
from botswarm.strategies.api import ALL, NOTHING, Decision, View
from botswarm.strategies.evaluate import Stop
from botswarm.strategies.registry import Catalog, Found, load
from botswarm.strategies.sma_cross import SmaCross
from tests.strategies.values import BTC, NOW, NOW_MS, SYMBOL, VENUE, a_market, a_quote, a_trade

CATALOG = load()
MINUTE = timedelta(minutes=1)
HOUR = 60 * MINUTE
BEFORE = 60
"""Minutes of history before the hour."""
STEP_S = 20
OTHER = "ETH-USDT"
BOTS: dict[str, tuple[str, str, dict[str, object]]] = {
    "trend": ("sma-cross", "1m", {"fast": 2, "slow": 5}),
    "dip": ("rsi-reversion", "1m", {"length": 4, "enter_below": "45", "leave_above": "55"}),
    "grid": ("grid", "1m", {"levels": 3, "step_percent": "0.2"}),
    "pair": ("pairs", "1m", {"other": OTHER, "length": 20, "enter_at": "1"}),
    "saver": ("dca", "1m", {}),
    "maker": ("market-maker", "1m", {}),
    "quick": ("sma-cross", "1s", {"fast": 2, "slow": 5}),
}


ETH = replace(BTC, symbol=OTHER, base="ETH")


@dataclass(frozen=True, slots=True)
class Hour:
    ledger: Ledger
    path: Path
    first: datetime
    last: datetime

    def replay(self, name: str, catalog: Catalog = CATALOG, **changes: object) -> Replay:
        return replay(self.ledger, catalog, name, self.first, self.last, changes)


def closes() -> list[float]:
    """A minute's price each, the same in every run."""
    walk, price = random.Random(4), 100.0
    found = []
    for _ in range(BEFORE + 60):
        price *= 1 + walk.gauss(0, 0.002)
        found.append(round(price, 2))
    return found


def a_candle(
    place: int, price: float, timeframe: str = "1m", length_s: int = 60, symbol: str = SYMBOL
) -> Candle:
    exact = Decimal(str(price))
    return Candle(
        venue=VENUE,
        symbol=symbol,
        timeframe=timeframe,
        open_ms=NOW_MS + place * length_s * 1000,
        open=exact,
        high=exact + Decimal("0.07"),
        low=exact - Decimal("0.07"),
        close=exact,
        volume=Decimal("1.234"),
        trades=3,
        is_closed=True,
    )


def create(ledger: Ledger) -> None:
    bots = Registry(ledger)
    for name, (strategy, timeframe, parameters) in BOTS.items():
        spec = BotSpec.of(
            CATALOG,
            name=name,
            strategy=strategy,
            venue=VENUE,
            symbol=SYMBOL,
            account="paper",
            timeframe=timeframe,
            budget=1000,
            parameters=parameters,
        )
        bots.create(spec, NOW, actor="test")
    bots.move(list(BOTS), Verb.START, NOW, actor="test")


def fill(ledger: Ledger, now: datetime) -> None:
    """The venue fills every order at once, at the price it was decided at."""
    for doorbell in ledger.outbox.pending():
        order = ledger.orders.get(doorbell.kwargs["order_id"])
        ledger.books.judge(order.id, lambda order, _: Approved(order), now)
        fill = Fill(
            venue=VENUE,
            symbol=order.symbol,
            trade_id=doorbell.id,
            client_order_id=order.client_order_id,
            side=order.side,
            price=order.reference_price,
            quantity=order.quantity,
            commission=Decimal(0),
            commission_asset="BTC",
            at=now,
        )
        ledger.books.book([fill], now)
        ledger.outbox.mark_sent([doorbell.id], now)


def braked_at(ledger: Ledger, now: datetime, bots: Sequence[Bot]) -> Mapping[str, Stop]:
    return brakes(ledger, bots, now)


def record(ledger: Ledger) -> None:
    prices = closes()
    candles = [a_candle(place - BEFORE, price) for place, price in enumerate(prices)]
    dear = [round(price * (1 + 0.004 * math.sin(n / 3)), 2) for n, price in enumerate(prices)]
    others = [a_candle(n - BEFORE, price, symbol=OTHER) for n, price in enumerate(dear)]
    ledger.candles.save([*candles, *others])
    seconds = [a_candle(place, 100 + place // 200 % 3, "1s", 1) for place in range(-60, 3600)]
    evaluator, muster = Evaluator(timedelta(seconds=10)), Muster(VENUE, SYMBOL, Strategies(CATALOG))
    for step in range(3600 // STEP_S):
        at = step * STEP_S + 2
        now, at_ms = NOW + timedelta(seconds=at), NOW_MS + at * 1000
        price = Decimal(str(prices[BEFORE + at // 60]))
        market = a_market(
            sequence=100 + step,
            trade=a_trade(price, at_ms),
            quote=a_quote(price - Decimal("0.01"), price + Decimal("0.01"), at_ms),
            exchange_ms=at_ms,
        )
        shown = {
            "1m": arrays(candles[: BEFORE + at // 60]),
            "1s": arrays(seconds[at : at + 60]),
        }
        there, tick = Decimal(str(dear[BEFORE + at // 60])), Decimal("0.01")
        beside = replace(
            market,
            instrument=ETH,
            trade=replace(a_trade(there, at_ms), symbol=OTHER),
            quote=replace(a_quote(there - tick, there + tick, at_ms), symbol=OTHER),
        )
        further = {"1m": arrays(others[: BEFORE + at // 60])}
        scene = Scene(market=market, candles=shown, others={OTHER: (beside, further)})
        muster.take(ledger.stands.since(VENUE, SYMBOL, muster.revision))
        braked = partial(braked_at, ledger, now)
        made = evaluator.evaluate(muster, scene, now, brakes=braked)
        done = ledger.bots.decide_many(made.decisions, now)
        evaluator.note(muster, scene, made, done.bots, now)
        fill(ledger, now)


@pytest.fixture(scope="module")
def recorded(tmp_path_factory: pytest.TempPathFactory) -> Hour:
    path = tmp_path_factory.mktemp("hour") / "ledger.db"
    ledger = Ledger(f"sqlite:///{path}")
    migrate.migrate(ledger.database)
    ledger.books.save_instruments([BTC, ETH])
    create(ledger)
    record(ledger)
    return Hour(ledger, path, NOW, NOW + HOUR)


@pytest.fixture
def hour(recorded: Hour, tmp_path: Path) -> Iterator[Hour]:
    """A copy, to be spoilt."""
    path = tmp_path / "ledger.db"
    with sqlite3.connect(recorded.path) as source, sqlite3.connect(path) as target:
        source.backup(target)
    copy = replace(recorded, ledger=Ledger(f"sqlite:///{path}"), path=path)
    yield copy
    copy.ledger.close()


@pytest.mark.parametrize("name", BOTS)
def test_a_recorded_hour_is_decided_again_without_a_difference(recorded: Hour, name: str) -> None:
    found = recorded.replay(name)
    assert list(found.differences) == []
    assert found.lost == {}
    assert found.decided_again >= (1 if name == "saver" else 3)
    if name == "trend":
        assert found.closes.checked >= 30, "between its changes the closes agree"


def test_another_parameter_decides_otherwise_and_says_where(recorded: Hour) -> None:
    found = recorded.replay("trend", slow=9)
    assert {"verdict", "indicators"} <= {each.what for each in found.differences}
    one = next(each for each in found.differences if each.what == "verdict")
    assert one.then != one.again
    assert recorded.first <= one.at <= recorded.last


def test_a_smaller_budget_differs_in_its_orders_only(recorded: Hour) -> None:
    found = recorded.replay("trend", budget="500")
    assert {each.what for each in found.differences} == {"orders"}


class Changed(SmaCross, name="sma-cross"):
    """The same strategy after somebody has mended it."""

    def decide(self, view: View) -> Decision:
        is_in = view.candles.close[-1] > view.candles.close[0]
        return Decision(
            verdict="in: it rose" if is_in else "out: it fell",
            indicators={},
            target=ALL if is_in else NOTHING,
        )


def test_changed_code_is_noticed(recorded: Hour) -> None:
    catalog = Catalog(found={"sma-cross": Found(strategy=Changed, source="test")}, broken={})
    assert recorded.replay("trend", catalog).differences


def test_a_decision_that_is_missing_is_noticed_at_the_closes(hour: Hour) -> None:
    kept = hour.ledger.evaluations.between("trend", hour.first, hour.last)
    # One whose verdict then held for minutes: a shorter one may pass between two evaluations.
    lasting = next(
        one
        for before, one, after in zip(kept, kept[1:], kept[2:], strict=False)
        if after.at - one.at > 4 * MINUTE and one.record["verdict"] != before.record["verdict"]
    )
    hour.ledger.database.write(
        lambda session: session.execute(
            delete(EvaluationRow).where(
                EvaluationRow.bot == "trend", EvaluationRow.at == lasting.at
            )
        )
    )
    (missing,) = [each for each in hour.replay("trend").differences if each.what == "decision"]
    assert missing.again == lasting.record["verdict"]
    assert abs(missing.at - lasting.at) < MINUTE


def test_closes_while_it_was_paused_say_nothing(hour: Hour) -> None:
    bots = Registry(hour.ledger)
    bots.pause("trend", NOW + 10 * MINUTE, actor="test")
    bots.resume("trend", NOW + 40 * MINUTE, actor="test")
    before = hour.replay("grid").closes
    found = hour.replay("trend").closes
    assert found.not_covered >= 25
    assert before.checked == 0, "a grid looks at more than candles"


def test_candles_that_are_gone_or_were_changed_are_said_to_be_lost(hour: Hour) -> None:
    first_ms = NOW_MS + 20 * 60_000
    hour.ledger.database.write(
        lambda session: session.execute(delete(CandleRow).where(CandleRow.open_ms < first_ms))
    )
    hour.ledger.database.write(
        lambda session: session.execute(
            update(CandleRow)
            .where(CandleRow.open_ms == first_ms + 30 * 60_000)
            .values(close=Decimal(1))
        )
    )
    found = hour.replay("trend")
    words = " ".join(found.lost)
    assert "of the 5 1m candles of BTC-USDT are still kept" in words
    assert "are not those it saw" in words
    assert found.decided_again > 0


def test_an_edited_bot_is_decided_again_by_the_version_that_decided(hour: Hour) -> None:
    bot = hour.ledger.bots.get("trend")
    later = replace(bot, parameters={**bot.parameters, "slow": 20})
    Registry(hour.ledger).save(hour.last, edited=[later], actor="test", reason="slower")
    assert hour.ledger.bots.get("trend").version == 2
    assert list(hour.replay("trend").differences) == []


def ask(hour: Hour, capsys: pytest.CaptureFixture[str], *words: str) -> tuple[int, str]:
    session = Session(environ={"BOTSWARM_DATABASE_URL": f"sqlite:///{hour.path}"})
    try:
        code = botswarm.main([*words], prog_name="botswarm", standalone_mode=False, obj=session)
    except BotswarmError as error:
        code = session.failed(error)
    return int(code), capsys.readouterr().out


def test_the_command_ends_with_3_where_something_differs_and_with_0_for_what_if(
    hour: Hour, capsys: pytest.CaptureFixture[str]
) -> None:
    span = ("--from", hour.first.isoformat(), "--to", hour.last.isoformat())
    code, text = ask(hour, capsys, "bot", "replay", "trend", *span)
    assert code == 0
    assert ": 0 differences." in text
    code, text = ask(hour, capsys, "bot", "replay", "trend", *span, "--set", "slow=9")
    assert code == 0
    assert "verdict" in text
    row: Any = hour.ledger.evaluations.between("trend", hour.first, hour.last)[3]
    spoilt = {**row.record, "verdict": "out: because I say so"}
    hour.ledger.database.write(
        lambda session: session.execute(
            update(EvaluationRow)
            .where(EvaluationRow.bot == "trend", EvaluationRow.at == row.at)
            .values(record=spoilt)
        )
    )
    code, text = ask(hour, capsys, "bot", "replay", "trend", *span)
    assert code == 3
    assert "because I say so" in text


def test_why_at_shows_what_held_then(hour: Hour, capsys: pytest.CaptureFixture[str]) -> None:
    kept = hour.ledger.evaluations.between("trend", hour.first, hour.last)
    one, after = kept[2], kept[3]
    moment = one.at + (after.at - one.at) / 2
    code, text = ask(hour, capsys, "bot", "why", "trend", "--at", moment.isoformat())
    assert code == 0
    assert one.record["verdict"] in text
    assert f"held until    {after.at:%Y-%m-%d %H:%M:%S}" in text
    assert "rule          " in text
    assert "gates passed  no data, behind, stale" in text
    Registry(hour.ledger).pause("trend", hour.last, actor="someone", reason="enough")
    later = (hour.last + MINUTE).isoformat()
    assert (
        "trend did not run: enough (someone, "
        in ask(hour, capsys, "bot", "why", "trend", "--at", later)[1]
    )


def test_why_at_a_moment_that_is_not_kept_says_since_when_there_is_something(
    hour: Hour, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(BotswarmError) as caught:
        botswarm.main(
            ["bot", "why", "trend", "--at", (NOW - HOUR).isoformat()],
            standalone_mode=False,
            obj=Session(environ={"BOTSWARM_DATABASE_URL": f"sqlite:///{hour.path}"}),
        )
    assert "the oldest that is kept is of 2026-03-04 12:" in caught.value.cause
    assert caught.value.exit_code == 4


def test_old_evaluations_and_too_many_are_pruned(hour: Hour) -> None:
    kept = hour.ledger.evaluations
    count = sum(len(kept.between(name, hour.first, hour.last)) for name in BOTS)
    assert kept.prune(before=hour.first, kept_max=count - 7) == 7
    assert kept.prune(before=hour.first, kept_max=count) == 0
    half = hour.first + HOUR / 2
    assert kept.prune(before=half, kept_max=count) > 0
    assert all((kept.oldest(name) or half) >= half for name in BOTS)
