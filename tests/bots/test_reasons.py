"""What bots say of themselves: nearest misses, what would have been, orders, logs, shadows."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Mapping
from dataclasses import replace
from datetime import timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from botswarm.bots import chain, then, why
from botswarm.bots.brakes import brakes
from botswarm.bots.evaluation import Evaluator
from botswarm.bots.logs import Tail, latest
from botswarm.bots.muster import Muster
from botswarm.bots.registry import Registry, Rules
from botswarm.bots.scene import Scene
from botswarm.bots.spec import BotSpec
from botswarm.bots.strategies import Strategies
from botswarm.cli import botswarm
from botswarm.cli.session import Session
from botswarm.domain.fill import Fill
from botswarm.domain.market import Candle
from botswarm.domain.permission import Approved, TradingState
from botswarm.ledger.halts import bot_scope
from botswarm.ledger.stands import MarketPass
from botswarm.ledger.store import Ledger
from botswarm.strategies.registry import Catalog, load
from botswarm.testing.books import begin_attempt
from tests.ledger.conftest import Request
from tests.strategies.values import BTC, NOW, NOW_MS, SYMBOL, VENUE, a_market, some_candles

CATALOG = load()
RISING = [100.0, 100.0, 100.0, 101.0, 103.0]
FALLING = RISING[::-1]


def a_bot(ledger: Ledger, name: str = "alpha", *, shadow: bool = False, **changes: Any) -> None:
    said: dict[str, Any] = {
        "strategy": "sma-cross",
        "parameters": {"fast": 2, "slow": 5},
        **changes,
    }
    spec = BotSpec.of(
        CATALOG,
        name=name,
        venue=VENUE,
        symbol=SYMBOL,
        account="paper",
        budget=1000,
        is_shadow=shadow,
        **said,
    )
    bots = Registry(ledger)
    bots.create(spec, NOW - timedelta(minutes=1), actor="test")
    bots.start(name, NOW - timedelta(minutes=1), actor="test")


def a_pass(
    ledger: Ledger, closes: list[float], *, seconds: float = 0, rules: Rules | None = None
) -> Mapping[str, Any]:
    """All bots of the market are asked; answers what was written down of alpha."""
    now = NOW + timedelta(seconds=seconds)
    market = a_market(sequence=7 + int(seconds * 10), exchange_ms=NOW_MS + int(seconds * 1000))
    muster = Muster(VENUE, SYMBOL, Strategies(CATALOG))
    muster.take(ledger.stands.since(VENUE, SYMBOL))
    scene = Scene(market=market, candles={"1m": some_candles(closes)})
    made = Evaluator(timedelta(seconds=10)).evaluate(
        muster, scene, now, brakes=lambda bots: brakes(ledger, bots, now, rules)
    )
    ledger.bots.decide_many(made.decisions, now)
    return ledger.bots.get("alpha").last_evaluation or {}


def spoken(ledger: Ledger, capsys: pytest.CaptureFixture[str], *words: str) -> str:
    url = ledger.database.url.render_as_string(hide_password=False)
    session = Session(environ={"BOTSWARM_DATABASE_URL": url})
    assert botswarm.main([*words], prog_name="botswarm", standalone_mode=False, obj=session) == 0
    return capsys.readouterr().out


# --- nearest misses -------------------------------------------------------------------------------


def test_why_names_the_rule_that_is_nearest_to_turning(
    ledger: Ledger, capsys: pytest.CaptureFixture[str]
) -> None:
    a_bot(
        ledger,
        strategy="rsi-reversion",
        parameters={"length": 3, "enter_below": "30", "leave_above": "70"},
    )
    said = a_pass(ledger, [100 + step % 2 * 0.4 + step * 0.01 for step in range(60)])
    rules = {rule["needs"]: rule for rule in said["rules"]}
    failed = [rule for rule in rules.values() if not rule["passed"]]
    assert failed
    nearest = min(failed, key=lambda rule: rule["distance"])
    assert nearest["needs"] in said["nearest"]
    off = abs(nearest["value"] - 30) / 30
    assert nearest["distance"] == pytest.approx(off)
    text = spoken(ledger, capsys, "bot", "why", "alpha")
    assert f"needs {nearest['needs']} ({off * 100:.3g} % away)" in text
    assert said["nearest"] in text


# --- what would have been -------------------------------------------------------------------------


def test_a_shadow_decides_and_orders_nothing(
    ledger: Ledger, capsys: pytest.CaptureFixture[str]
) -> None:
    a_bot(ledger, shadow=True)
    a_bot(ledger, "beta")
    said = a_pass(ledger, RISING)
    assert said["stopped"]["gate"] == "shadow"
    assert [order["side"] for order in said["orders"]] == ["buy"]
    assert [order.bot for order in ledger.orders.list()] == ["beta"]
    assert len(ledger.outbox.pending()) == 1
    (kept,) = ledger.evaluations.between("alpha", NOW, NOW)
    assert kept.record["verdict"] == said["verdict"]
    text = spoken(ledger, capsys, "bot", "why", "alpha")
    assert "gate          shadow: it is a shadow bot" in text
    assert "version 1, a shadow" in text


def test_a_bot_that_is_halted_says_what_it_would_have_ordered(
    ledger: Ledger, capsys: pytest.CaptureFixture[str]
) -> None:
    a_bot(ledger)
    ledger.halts.set(bot_scope("alpha"), TradingState.HALTED, reason="a drill", actor="t", now=NOW)
    said = a_pass(ledger, RISING)
    assert said["orders"] == []
    assert [order["quantity"] for order in said["wanted"]] == ["10"]
    assert ledger.orders.list() == []
    assert "would have    buy 10 BTC-USDT (market)" in spoken(ledger, capsys, "bot", "why", "alpha")


def test_a_bot_of_real_money_that_is_not_armed_orders_nothing(ledger: Ledger) -> None:
    a_bot(ledger)
    live = Rules(is_live=lambda venue, account: True)
    assert a_pass(ledger, RISING, rules=live)["stopped"]["gate"] == "not armed"
    until = NOW + timedelta(seconds=5)
    ledger.changes.arm(["alpha"], until, NOW, actor="test", reason="a try")
    stopped = a_pass(ledger, RISING, seconds=1, rules=live)["stopped"]
    assert "the account simulated:paper is not armed" in stopped["words"]
    ledger.armings.arm("simulated", "paper", actor="test", reason="a try", now=NOW)
    assert a_pass(ledger, RISING, seconds=2, rules=live)["stopped"] is None
    assert len(ledger.orders.list(bot="alpha")) == 1


def test_where_bots_are_switched_off_those_that_run_order_nothing(ledger: Ledger) -> None:
    a_bot(ledger)
    said = a_pass(ledger, RISING, rules=Rules(is_enabled=False))
    assert said["stopped"]["gate"] == "switched off"
    assert ledger.orders.list() == []


# --- changes while it runs ------------------------------------------------------------------------


def test_an_edit_counts_from_the_next_evaluation_on_and_orders_say_which_version(
    ledger: Ledger,
) -> None:
    a_bot(ledger)
    assert a_pass(ledger, FALLING)["version"] == 1
    bot = ledger.bots.get("alpha")
    slower = replace(bot, parameters={**bot.parameters, "fast": 1})
    Registry(ledger).save(NOW, edited=[slower], actor="test", reason="quicker")
    said = a_pass(ledger, RISING, seconds=1)
    assert said["version"] == 2
    (order,) = ledger.orders.list(bot="alpha")
    story = ledger.orders.story(order.id)
    assert story.evaluation is not None
    assert story.evaluation["version"] == 2
    kept = ledger.evaluations.between("alpha", NOW, NOW + timedelta(seconds=2))
    assert [each.version for each in kept] == [1, 2]


def test_a_decision_by_a_version_that_is_no_longer_is_void(ledger: Ledger) -> None:
    a_bot(ledger)
    muster = Muster(VENUE, SYMBOL, Strategies(CATALOG))
    muster.take(ledger.stands.since(VENUE, SYMBOL))
    scene = Scene(market=a_market(), candles={"1m": some_candles(RISING)})
    made = Evaluator(timedelta(seconds=10)).evaluate(muster, scene, NOW)
    bot = ledger.bots.get("alpha")
    slower = replace(bot, parameters={**bot.parameters, "slow": 90})
    Registry(ledger).save(NOW, edited=[slower], actor="test", reason="slower")
    assert ledger.bots.decide_many(made.decisions, NOW).bots == frozenset()
    assert ledger.orders.list() == []


# --- why nobody asks it ---------------------------------------------------------------------------


def test_a_bot_whose_strategy_is_gone_says_so(ledger: Ledger) -> None:
    a_bot(ledger)
    a_pass(ledger, RISING)
    found = why.explain(ledger, "alpha", NOW, Catalog(found={}, broken={"mine.py": "deleted"}))
    assert found.trouble is not None
    assert found.trouble.kind == "strategy"
    assert found.answer.startswith("alpha cannot decide: there is no strategy 'sma-cross'")


def test_a_bot_that_nobody_asks_is_told_which_part_is_missing(ledger: Ledger) -> None:
    a_bot(ledger)

    def trouble(later: timedelta = timedelta(0)) -> tuple[str, str]:
        found = why.explain(ledger, "alpha", NOW + later).trouble
        assert found is not None
        return found.kind, found.words

    kind, words = trouble()
    assert (kind, words.partition(":")[0]) == ("market", "simulated")
    assert "is not followed" in words
    ledger.candles.save([a_minute(NOW_MS - 60_000)])
    assert trouble() == (
        "worker",
        "the feed follows simulated:BTC-USDT, and no strategy worker runs",
    )
    other = MarketPass(venue=VENUE, symbol="ETH-USDT", at=NOW, sequence=1, bots=1)
    ledger.stands.passed([other])
    assert "the workers are behind with it" in trouble()[1]
    kind, words = trouble(timedelta(minutes=5))
    assert kind == "feed"
    assert "its last candle of simulated:BTC-USDT is 360 s old" in words


def a_minute(open_ms: int) -> Candle:
    price = Decimal(100)
    return Candle(
        venue=VENUE,
        symbol=SYMBOL,
        timeframe="1m",
        open_ms=open_ms,
        open=price,
        high=price,
        low=price,
        close=price,
        volume=price,
        trades=1,
        is_closed=True,
    )


def test_the_feed_follows_what_running_bots_look_at(ledger: Ledger) -> None:
    ledger.books.save_instruments([replace(BTC, symbol="ETH-USDT")])
    a_bot(
        ledger,
        "pair",
        strategy="pairs",
        parameters={"other": "ETH-USDT"},
    )
    assert ledger.bots.get("pair").others == ("ETH-USDT",)
    assert ledger.bots.running_markets(VENUE) == {SYMBOL, "ETH-USDT"}
    Registry(ledger).stop("pair", NOW, actor="test")
    assert ledger.bots.running_markets(VENUE) == frozenset()


def test_a_pass_over_its_market_counts_as_being_looked_after(ledger: Ledger) -> None:
    a_bot(ledger)
    a_pass(ledger, RISING)
    later = NOW + timedelta(minutes=10)
    assert why.explain(ledger, "alpha", later).is_silent
    ledger.stands.passed([MarketPass(venue=VENUE, symbol=SYMBOL, at=later, sequence=9, bots=1)])
    found = why.explain(ledger, "alpha", later)
    assert not found.is_silent
    assert found.age_s == 0


# --- orders ---------------------------------------------------------------------------------------


def test_the_chain_of_an_order_goes_from_the_tick_to_the_fill(
    ledger: Ledger, capsys: pytest.CaptureFixture[str]
) -> None:
    a_bot(ledger)
    a_pass(ledger, RISING)
    (order,) = ledger.orders.list(bot="alpha")
    moments = [NOW + timedelta(milliseconds=ms) for ms in (20, 50, 90)]
    verdict = ledger.books.judge(order.id, lambda order, _: Approved(order), moments[0])
    assert isinstance(verdict, Approved)
    request = Request(signed_at=moments[1], fence_at=moments[1] + timedelta(seconds=14))
    assert begin_attempt(ledger.books, verdict.order, request, moments[1])
    fill = Fill(
        venue=VENUE,
        symbol=SYMBOL,
        trade_id=1,
        client_order_id=order.client_order_id,
        side=order.side,
        price=Decimal("99.99"),
        quantity=order.quantity,
        commission=Decimal(0),
        commission_asset="BTC",
        at=moments[2],
    )
    ledger.books.book([fill], moments[2])
    told = chain.data(ledger.orders.story(order.id))
    steps = [each["step"] for each in told]
    assert steps[:4] == ["tick", "feed", "evaluation", "intent"]
    assert steps.index("gate") < steps.index("attempt") < steps.index("fill")
    took = {each["step"]: each["took_ms"] for each in told}
    assert took["gate"] == 20
    assert took["fill"] in (0, 40)
    text = spoken(ledger, capsys, "order", "why", order.id)
    assert "digest 7" in text
    assert "in: the fast average is above the slow one" in text
    assert f"bought 10 {SYMBOL}" not in text
    assert then.explain_at(ledger, "alpha", NOW).kept.record["orders"][0]["id"] == order.id


# --- logs -----------------------------------------------------------------------------------------


def a_line(second: int, bot: str, message: str, **more: Any) -> str:
    moment = f"2026-03-04T12:00:{second:02}.000Z"
    return json.dumps({"time": moment, "level": "info", "message": message, "bot_id": bot, **more})


def test_logs_merge_files_audit_and_orders_by_time(
    ledger: Ledger, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    a_bot(ledger)
    a_pass(ledger, RISING)
    file = tmp_path / "worker.log"
    file.write_text(
        "\n".join(
            [
                a_line(1, "alpha", "took 60 ms to decide"),
                a_line(2, "beta", "is about another"),
                "no JSON, and alpha in it",
                a_line(3, "alpha", "alpha failed", level="error", error="KeyError: x"),
            ]
        )
        + "\n"
    )
    found = latest(ledger, [file], "alpha", 10)
    assert [each.source for each in found] == ["audit", "audit", "order", "log", "log"]
    assert [each.words for each in found if each.source == "log"] == [
        "took 60 ms to decide",
        "alpha failed | KeyError: x",
    ]
    text = spoken(ledger, capsys, "bot", "logs", "alpha", "-n", "2", "--file", str(file))
    assert text.count("\n") == 2
    assert "error: alpha failed" in text


def test_the_last_lines_of_a_large_file_are_found_without_reading_all_of_it(
    ledger: Ledger, tmp_path: Path
) -> None:
    a_bot(ledger)
    file = tmp_path / "worker.log"
    lines = [a_line(1, "alpha", f"{number}") for number in range(5000)]
    file.write_text("\n".join(lines) + "\n")
    found = [each.words for each in latest(ledger, [file], "alpha", 3)]
    assert found == ["4997", "4998", "4999"]
    everything = latest(ledger, [file], "alpha", 100_000)
    assert len([each for each in everything if each.source == "log"]) == 5000


def test_a_log_that_is_rotated_is_read_on(tmp_path: Path) -> None:
    file = tmp_path / "worker.log"
    file.write_text(a_line(1, "alpha", "old") + "\n")
    tail = Tail(file)
    assert tail.new("alpha") == []
    with file.open("a") as more:
        more.write(a_line(2, "alpha", "new") + "\n" + a_line(3, "alpha", "half")[:20])
    assert [each.words for each in tail.new("alpha")] == ["new"]
    with file.open("a") as more:
        more.write(a_line(3, "alpha", "half")[20:] + "\n")
    assert [each.words for each in tail.new("alpha")] == ["half"]
    file.rename(tmp_path / "worker.log.1")
    file.write_text(a_line(4, "alpha", "rotated") + "\n")
    assert [each.words for each in tail.new("alpha")] == ["rotated"]


# --- many at once ---------------------------------------------------------------------------------


def test_two_who_start_bots_at_once_do_not_both_find_room(ledger: Ledger) -> None:
    names = [f"bot-{number}" for number in range(8)]
    bots = Registry(ledger, Rules(running_max=4))
    # Each in a market of its own: those of one market wait for each other anyway.
    symbols = [f"M{number}-USDT" for number in range(8)]
    ledger.books.save_instruments([replace(BTC, symbol=symbol) for symbol in symbols])
    for name, symbol in zip(names, symbols, strict=True):
        spec = BotSpec.of(
            CATALOG,
            name=name,
            strategy="sma-cross",
            venue=VENUE,
            symbol=symbol,
            account="paper",
        )
        bots.create(spec, NOW, actor="test")
    barrier, refused = threading.Barrier(4), []

    def start(mine: list[str]) -> None:
        barrier.wait()
        for name in mine:
            try:
                bots.start(name, NOW, actor="test")
            except Exception as error:
                refused.append(str(error))

    threads = [threading.Thread(target=start, args=(names[each::4],)) for each in range(4)]
    for thread in threads:
        thread.start()
    deadline = time.monotonic() + 30
    for thread in threads:
        thread.join(deadline - time.monotonic())
    states = [bot.state.value for bot in ledger.bots.list()]
    assert states.count("running") == 4
    assert len(refused) == 4
    assert all("over 4" in each for each in refused)
