"""``trading arm``, ``disarm`` and ``enable`` from the shell: asked for, kept, and shown."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from botswarm.ledger import migrate
from botswarm.ledger.store import Ledger
from botswarm.trading.stop_file import Pulled, StopFile
from tests.command_line import alone, answer

REAL = "https://api.binance.com"
Ask = Callable[..., Any]


@pytest.fixture
def ask(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Ask:
    ledger = Ledger(f"sqlite:///{tmp_path / 'ledger.db'}")
    migrate.migrate(ledger.database)
    ledger.close()
    alone(
        monkeypatch,
        tmp_path,
        BOTSWARM_STATE_DIR=str(tmp_path),
        BOTSWARM_BINANCE_API_KEY="some-key",
        BOTSWARM_BINANCE_API_SECRET="some-secret",
        BOTSWARM_BINANCE_REST_URL=REAL,
    )

    def asked(*words: str, exits: int = 0) -> Any:
        said = answer(capsys, *words, exits=exits)
        return said["data"] if exits == 0 else said["error"]

    return asked


def test_an_account_of_real_money_is_off_until_it_is_armed_and_off_again_after(ask: Ask) -> None:
    (listed,) = ask("account", "list")
    assert (listed["kind"], listed["armed"]) == ("live", "not armed")
    refused = ask("account", "balance", "binance:spot", exits=6)
    assert "api.binance.com trades real money, and binance:spot is not armed" in refused["cause"]

    ask("trading", "arm", "binance:spot", exits=2)
    unconfirmed = ask("trading", "arm", "binance:spot", "--reason", "the first day", exits=6)
    assert "nobody confirmed it" in unconfirmed["cause"]
    (listed,) = ask("account", "list")
    assert listed["armed"] == "not armed"

    said = ask("trading", "arm", "binance:spot", "--reason", "first day", "--for", "2", "--yes")
    assert (said["is_armed"], said["until"] is None) == (True, False)
    (listed,) = ask("account", "list")
    assert listed["armed"].startswith("armed since ")

    assert ask("trading", "disarm", "binance:spot")["is_armed"] is False
    (listed,) = ask("account", "list")
    assert listed["armed"].startswith("not armed since ")


def test_what_is_no_real_money_needs_no_arming(ask: Ask) -> None:
    for account in ("simulated:paper", "binance:paper", "ccxt-okx:main"):
        assert ask("trading", "arm", account, "--reason", "why not")["is_needed"] is False
    assert ask("trading", "disarm", "kraken:main")["is_armed"] is False
    ask("trading", "arm", "nonsense", "--reason", "x", exits=2)
    unknown = ask("trading", "arm", "nowhere:main", "--reason", "x", "--yes", exits=4)
    assert "nowhere takes no orders from here" in unknown["cause"]


def test_trading_is_opened_step_by_step_once_somebody_confirms_it(ask: Ask) -> None:
    assert ask("trading", "enable", "--status") == []
    assert "nobody confirmed it" in ask("trading", "enable", "--gradual", exits=6)["cause"]
    words = ("--stages", "20%,100", "--hold", "90s", "--abort-on", "error_rate=2.5%,loss=40")
    begun = ask("trading", "enable", "--gradual", *words, "--abort-on", "data_age=off", "--yes")
    assert (begun["share"], begun["stages"], begun["hold_s"]) == (20, [20, 100], 90)
    assert begun["abort_on"] == {
        "error_rate": "2.5",
        "rejects": "5",
        "slippage": "1",
        "loss": "40",
    }
    (shown,) = ask("trading", "enable", "--status")
    assert (shown["state"], shown["share"], shown["words"]) == ("running", 20, None)
    done = ask("trading", "enable", "--cancel", "--reason", "lunch")
    assert (done["state"], done["share"]) == ("cancelled", 20)
    assert "no enabling is under way" in ask("trading", "enable", "--cancel", exits=4)["cause"]
    assert ask("trading", "enable", "--yes") == {"share": 100}


@pytest.mark.parametrize(
    "words",
    [
        ("--stages", "50,10,100"),
        ("--stages", "10,50"),
        ("--stages", "some"),
        ("--hold", "0s"),
        ("--hold", "soon"),
        ("--abort-on", "weather=5"),
        ("--abort-on", "loss=much"),
        ("--abort-on", "loss"),
        ("--status",),
    ],
    ids=" ".join,
)
def test_a_plan_that_makes_no_sense_is_said_before_anything_is_opened(
    ask: Ask, words: tuple[str, ...]
) -> None:
    ask("trading", "enable", "--gradual", *words, "--yes", exits=2)
    assert ask("trading", "enable", "--status") == []


@pytest.mark.parametrize(
    "words", [("--stages", "10,100"), ("--hold", "1m"), ("--abort-on", "loss=5")]
)
def test_who_forgets_the_word_gradual_does_not_open_trading_to_all_bots(
    ask: Ask, words: tuple[str, ...]
) -> None:
    ask("trading", "halt")
    refused = ask("trading", "enable", *words, "--yes", exits=2)
    assert f"{words[0]} belongs to --gradual" in refused["cause"]
    assert [each["state"] for each in ask("trading", "status")["states"]] == ["halted"]


@pytest.mark.parametrize("duration", ["99999999d", "1e9s"])
def test_an_end_that_no_clock_comes_to_is_refused(ask: Ask, duration: str) -> None:
    ask("trading", "halt", "--for", duration, exits=2)
    ask("trading", "enable", "--gradual", "--hold", duration, "--yes", exits=2)


def test_what_names_no_scope_is_not_halted(ask: Ask) -> None:
    ask("trading", "halt", "--account", "simulated:paper:x", exits=6)
    ask("trading", "halt", "--bot", "a:b", exits=6)
    assert [each["scope"] for each in ask("trading", "status")["states"]] == ["swarm"]


@pytest.mark.parametrize("words", [(), ("--gradual",)])
def test_whoever_opens_trading_takes_an_earlier_stop_file_back(
    ask: Ask, tmp_path: Path, words: tuple[str, ...]
) -> None:
    file = StopFile.of(tmp_path)
    file.pull(Pulled(at=datetime.now(UTC), actor="ada", reason="fire"))
    ask("trading", "enable", *words, "--yes")
    assert file.read() is None


def test_a_halt_that_would_loosen_or_shorten_another_is_asked_about(ask: Ask) -> None:
    ask("trading", "halt", "--reducing", "--for", "2h")
    ask("trading", "halt", "--reducing", "--for", "3h")
    shorter = ask("trading", "halt", "--for", "1h", exits=6)
    assert "let swarm, which" in shorter["cause"]
    ask("trading", "halt")
    for words in (("--reducing",), ("--for", "30m")):
        refused = ask("trading", "halt", *words, exits=6)
        assert "nobody confirmed it" in refused["cause"]
        assert "--dry-run" not in refused["cure"], "there is none"
    (swarm,) = ask("trading", "status")["states"]
    assert (swarm["state"], swarm["until"]) == ("halted", None)
    ask("trading", "halt", "--reducing", "--yes")
    (swarm,) = ask("trading", "status")["states"]
    assert swarm["state"] == "reducing"
