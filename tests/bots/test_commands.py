"""The commands about bots and strategies, as a person types them."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from botswarm.ledger import migrate
from botswarm.ledger.store import Ledger
from tests.command_line import alone, answer

Ask = Callable[..., Any]


@pytest.fixture
def ask(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Ask:
    """The answer to ``botswarm … --json``; ``exits`` is the exit code that is expected."""
    url = f"sqlite:///{tmp_path / 'ledger.db'}"
    alone(monkeypatch, tmp_path, BOTSWARM_DATABASE_URL=url)
    ledger = Ledger(url)
    migrate.migrate(ledger.database)
    ledger.close()
    return partial(answer, capsys)


def create(ask: Ask, name: str, *more: str, exits: int = 0) -> Any:
    words = ("--strategy", "sma-cross", "--market", "btc-usdt", *more)
    return ask("bot", "create", name, *words, exits=exits)


def test_a_bot_is_created_started_shown_and_deleted(ask: Ask) -> None:
    made = create(ask, "alpha", "--set", "fast=3", "--budget", "99.5", "--timeframe", "1s")["data"]
    assert made["state"] == "created"
    assert made["market"] == "simulated:BTC-USDT"
    assert made["account"] == "paper"
    assert made["parameters"] == {
        "budget": "99.5",
        "fast": 3,
        "slow": 30,
        "margin_percent": "0",
    }
    for verb, state in (
        ("start", "running"),
        ("pause", "paused"),
        ("resume", "running"),
        ("stop", "stopped"),
    ):
        moved = ask("bot", verb, "alpha", "--reason", f"to {verb}")["data"]
        assert (moved["state"], moved["reason"]) == (state, f"to {verb}")
    assert [each["name"] for each in ask("bot", "list")["data"]] == ["alpha"]
    assert ask("bot", "list", "--state", "running")["data"] == []
    answer = ask("bot", "why", "alpha")["data"]["answer"]
    assert answer.startswith("alpha is stopped: to stop (cli:")
    ask("bot", "delete", "alpha")
    assert ask("bot", "list")["data"] == []


@pytest.mark.parametrize(
    ("words", "code", "cure"),
    [
        (("bot", "why", "alhpa"), 4, "did you mean alpha?"),
        (("bot", "start", "omega"), 4, "see: botswarm bot list"),
        (("bot", "resume", "alpha"), 6, "to let it run: botswarm bot start alpha"),
        (("bot", "list", "--state", "asleep"), 2, "see: botswarm bot list --help"),
        (("strategy", "show", "gird"), 4, "did you mean grid?"),
    ],
)
def test_what_cannot_be_done_names_its_cure(
    ask: Ask, words: tuple[str, ...], code: int, cure: str
) -> None:
    create(ask, "alpha")
    assert ask(*words, exits=code)["error"]["cure"] == cure


def test_a_name_that_is_taken_is_refused(ask: Ask) -> None:
    create(ask, "alpha")
    assert create(ask, "alpha", exits=6)["error"]["cure"].endswith("botswarm bot show alpha")


def test_everything_wrong_with_a_description_is_said_at_once(ask: Ask) -> None:
    cause = create(ask, "a b", "--budget", "x", "--timeframe", "9m", exits=2)["error"]["cause"]
    for word in ("'a b' is no name", "budget is x", "'9m' is no timeframe"):
        assert word in cause
    wrong = create(ask, "alpha", "--set", "fast=x", "--set", "slwo=1", exits=2)["error"]["cause"]
    assert "fast is 'x'" in wrong
    assert "did you mean slow?" in wrong
    assert create(ask, "alpha", "--set", "fast", exits=2)["error"]["cause"].startswith("--set fast")


def test_strategies_and_their_parameters_are_listed(ask: Ask) -> None:
    names = [each["name"] for each in ask("strategy", "list")["data"]]
    assert {"grid", "rsi-reversion", "sma-cross"} <= set(names)
    shown = ask("strategy", "show", "rsi-reversion")["data"]
    (length, *_) = shown["parameters"]
    assert length["name"] == "length"
    assert length["may_be"] == "a whole number from 2 to 500"
    assert length["help"]


def test_a_broken_strategy_file_is_a_warning(
    ask: Ask, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "mine"
    folder.mkdir()
    (folder / "broken.py").write_text("not Python at all")
    monkeypatch.setenv("BOTSWARM_STRATEGIES_DIR", str(folder))
    answer = ask("strategy", "list")
    assert "sma-cross" in [each["name"] for each in answer["data"]]
    assert "broken.py could not be loaded: SyntaxError" in answer["warnings"][0]
