"""`botswarm risk` as a person meets it: what is at stake, what was found, what protects."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from decimal import Decimal
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import update

from botswarm.domain.limits import LimitKind
from botswarm.ledger.store import Ledger
from botswarm.ledger.sweep_models import ProtectionRow
from botswarm.sweeps.sweep import Report, run
from tests.command_line import alone, answer
from tests.ledger.sweeping import OF_ACCOUNT, Floor

Ask = Callable[..., Any]


@pytest.fixture
def floor(quick_ledger: Ledger) -> Floor:
    made = Floor(quick_ledger)
    made.clock.at = datetime.now(UTC)
    made.bot("alpha")
    return made


@pytest.fixture
def ask(
    floor: Floor,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> Ask:
    """The answer to ``botswarm risk … --json``; ``exits`` is the exit code that is expected."""
    url = floor.ledger.database.url.render_as_string(hide_password=False)
    alone(monkeypatch, tmp_path, BOTSWARM_DATABASE_URL=url)
    return partial(answer, capsys, "risk")


def test_a_sweep_by_hand_holds_and_shows_what_a_loss_broke(floor: Floor, ask: Ask) -> None:
    assert "nothing was swept yet" in ask("status")["warnings"][0]
    floor.limit(OF_ACCOUNT, LimitKind.DAILY_LOSS, "100")
    floor.trade("alpha", "buy", "1", "1000")
    floor.price("890")
    (done,) = ask("sweep", "positions")["data"]
    assert (done["looked"], done["found"]) == (1, 1)
    assert floor.state(OF_ACCOUNT) == "reducing"
    status = ask("status")["data"]
    (account,) = [each for each in status["standings"] if each["scope"] == OF_ACCOUNT]
    assert (account["unrealised"], account["today"], account["drawdown"]) == ("-110", "-110", "110")
    assert [each["kind"] for each in status["findings"]] == ["daily_loss"]
    (event,) = ask("history", "--severity", "breach")["data"]
    assert (event["scope"], event["limit"], event["value"]) == (OF_ACCOUNT, "100", "110")
    assert event["numbers"]["unrealised"] == "-110"
    assert ask("history", "--kind", "drawdown")["data"] == []
    assert ask("status", "--for", "bot:alpha")["data"]["standings"][0]["gross"] == "890"


def test_all_sweeps_run_by_hand_and_unknown_ones_are_named(ask: Ask) -> None:
    assert len(ask("sweep")["data"]) == 8
    assert "is one of positions" in ask("sweep", "everything", exits=4)["error"]["cure"]


def test_a_sweep_that_failed_last_time_is_warned_of(floor: Floor, ask: Ask) -> None:
    def broken(_: object, __: object) -> Report:
        raise ValueError("no sense in it")

    run("guards", broken, floor.tools)
    floor.sweep()
    assert ask("status")["warnings"] == ["the sweep guards failed: ValueError: no sense in it"]


def test_a_peak_begins_anew_only_when_somebody_confirms_it(floor: Floor, ask: Ask) -> None:
    floor.trade("alpha", "buy", "1", "1000")
    floor.price("800")
    ask("sweep", "positions")
    ask("reset", "--for", OF_ACCOUNT, exits=6)
    assert floor.standing(OF_ACCOUNT).drawdown == Decimal(200)
    ask("reset", "--for", OF_ACCOUNT, "--yes")
    assert floor.standing(OF_ACCOUNT).drawdown == Decimal(0)
    ask("reset", "--for", "bot:nobody", "--yes", exits=4)


def test_protections_are_switched_on_shown_and_off(floor: Floor, ask: Ask) -> None:
    ask("protections", "set", "cool_down", "losses=2", "pause=15m")
    ask("protections", "set", "stop_loss", "percent=5%", "--for", "bot:alpha")
    stop, cool = ask("protections")["data"]["protections"]
    assert (stop["scope"], stop["parameters"]) == ("bot:alpha", {"percent": "5"})
    assert cool["parameters"] == {"losses": "2", "pause": "900", "within": "3600"}
    ask("protections", "unset", "cool_down", exits=6)
    ask("protections", "unset", "cool_down", "--yes")
    assert len(ask("protections")["data"]["protections"]) == 1
    for words in (("stop_loss",), ("cool_down", "losses"), ("cool_down", "pause=soon")):
        assert ask("protections", "set", *words, exits=2 if words[1:] else 6)["ok"] is False
    assert len(ask("protections", "--kinds")["data"]) == 6


@pytest.mark.parametrize(
    ("words", "code", "cause"),
    [
        (("protections", "set", "cool_down", "losses=nan"), 6, "losses of cool_down cannot be NaN"),
        (("protections", "set", "cool_down", "losses=Infinity"), 6, "cannot be Infinity"),
        (("protections", "set", "cool_down", "losses=1e400"), 6, "cannot be 1E+400"),
        (("protections", "set", "cool_down", "pause=1001d"), 6, "pause of cool_down cannot be"),
        (("protections", "set", "cool_down", "pause=99999999d"), 2, "is longer than any clock"),
        (("protections", "set", "stop_loss", "percent=5", "--for", "mars"), 6, "is no scope"),
        (("status", "--for", "nonsense"), 6, "is no scope"),
        (("history", "--for", "nonsense"), 6, "is no scope"),
        (("history", "--since", "999999d"), 2, "is no time"),
    ],
)
def test_what_nobody_can_mean_is_refused_before_a_sweep_stumbles_over_it(
    ask: Ask, words: tuple[str, ...], code: int, cause: str
) -> None:
    assert cause in ask(*words, exits=code)["error"]["cause"]
    assert ask("protections")["data"]["protections"] == []


def test_a_protection_of_another_version_names_the_command_that_takes_it_away(
    floor: Floor, ask: Ask
) -> None:
    ask("protections", "set", "cool_down", "--for", "bot:alpha")
    mood = update(ProtectionRow).values(parameters={"mood": "1"})
    floor.ledger.database.write(lambda session: session.execute(mood))
    cure = ask("protections", exits=6)["error"]["cure"]
    ask(*cure.removeprefix("botswarm risk ").split(), "--yes")
    assert ask("protections")["data"]["protections"] == []


def test_a_market_is_protected_however_its_name_is_written(floor: Floor, ask: Ask) -> None:
    market = "market:simulated:btc-usdt"
    ask("protections", "set", "cool_down", "--for", market)
    floor.trade("alpha", "buy", "2", "100")
    floor.trade("alpha", "sell", "1", "90")
    ask("sweep", "positions", "protections")
    assert floor.state("market:simulated:BTC-USDT") == "reducing"
    assert len(ask("status", "--for", market)["data"]["findings"]) == 1
    ask("protections", "unset", "cool_down", "--for", market, "--yes")


@pytest.mark.parametrize(
    ("known", "mistyped"),
    [
        ("bot:alpha", "bot:alpa"),
        ("strategy:sma_cross", "strategy:sma_corss"),
        ("account:simulated:paper", "account:simulated:papre"),
        ("market:simulated:BTC-USDT", "market:simulated:BTC-USDX"),
    ],
)
def test_a_name_that_the_ledger_does_not_know_is_warned_of_where_it_is_said(
    capsys: pytest.CaptureFixture[str], ask: Ask, known: str, mistyped: str
) -> None:
    level, _, name = mistyped.partition(":")
    for words in (("limits", "set", "drawdown", "5"), ("protections", "set", "cool_down")):
        assert ask(*words, "--for", known)["warnings"] == []
        (warning,) = ask(*words, "--for", mistyped)["warnings"]
        assert f"{name}: is the name right?" in warning
    for word in ("halt", "resume"):
        said = partial(answer, capsys, "trading", word, "--yes", f"--{level}")
        assert said(known.partition(":")[2])["warnings"] == []
        (warning,) = said(name)["warnings"]
        assert f"{name}: is the name right?" in warning
