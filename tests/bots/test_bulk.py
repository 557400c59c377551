"""Many bots at once: whom a command is about, whether it is meant, and all or nothing."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from decimal import Decimal
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from botswarm.domain.fill import Fill
from botswarm.domain.order import OrderState, Side
from botswarm.domain.permission import Approved
from botswarm.ledger.bots import BotState
from botswarm.ledger.store import Ledger
from tests.command_line import alone, answer
from tests.strategies.values import BTC, NOW, an_open_order

Ask = Callable[..., Any]


@pytest.fixture
def ask(
    ledger: Ledger,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> Ask:
    url = ledger.database.url.render_as_string(hide_password=False)
    alone(monkeypatch, tmp_path, BOTSWARM_DATABASE_URL=url.replace("+psycopg2", ""))
    return partial(answer, capsys)


BOTS = """
format = 1

[defaults]
strategy = "sma-cross"
market = "BTC-USDT"
tags = ["all"]

[[bot]]
name = "alpha"
tags = ["all", "fast"]
budget = 99.5
parameters = { fast = 3, slow = 9 }

[[bot]]
name = "beta"
timeframe = "1s"

[[bot]]
name = "gamma"
strategy = "rsi-reversion"
shadow = true
parameters = { length = 7, enter_below = 28.5 }
"""


def imported(ask: Ask, text: str = BOTS, *more: str, exits: int = 0) -> Any:
    Path("swarm.toml").write_text(text)
    return ask("bot", "import", "swarm.toml", "--yes", *more, exits=exits)


def states(ask: Ask) -> dict[str, str]:
    return {each["name"]: each["state"] for each in ask("bot", "list")["data"]}


# --- files ----------------------------------------------------------------------------------------


def test_a_file_is_imported_once_and_again_without_effect(ask: Ask, ledger: Ledger) -> None:
    assert imported(ask)["data"] == {
        "created": ["alpha", "beta", "gamma"],
        "edited": [],
        "unchanged": 0,
    }
    alpha, gamma = ledger.bots.get("alpha"), ledger.bots.get("gamma")
    assert alpha.parameters == {"budget": "99.5", "fast": 3, "slow": 9, "margin_percent": "0"}
    assert alpha.tags == ("all", "fast")
    assert gamma.is_shadow
    assert gamma.parameters["enter_below"] == "28.5"
    assert imported(ask)["data"] == {"created": [], "edited": [], "unchanged": 3}
    assert ledger.bots.get("alpha").version == 1
    assert [each.action for each in ledger.audit.of_bot("alpha")] == ["bot.create"]


def test_what_is_exported_is_imported_as_the_same(ask: Ask, ledger: Ledger) -> None:
    imported(ask)
    text = ask("bot", "export")["data"]["toml"]
    assert imported(ask, text)["data"]["unchanged"] == 3
    ask("bot", "delete", "--all", "--yes")
    assert states(ask) == {}
    imported(ask, text)
    assert ask("bot", "export")["data"]["toml"] == text
    assert ask("bot", "export", "--tag", "fast")["data"]["bots"] == 1


def test_what_changed_in_a_file_is_edited_and_nothing_else(ask: Ask, ledger: Ledger) -> None:
    imported(ask)
    changed = BOTS.replace("fast = 3", "fast = 4").replace('name = "beta"', 'name = "delta"')
    seen = ask("bot", "import", "swarm.toml", "--preview")
    assert seen["data"]["unchanged"] == 3
    Path("swarm.toml").write_text(changed)
    assert ask("bot", "import", "swarm.toml", "--preview")["data"]["edited"] == ["alpha"]
    assert ledger.bots.get("alpha").parameters["fast"] == 3, "a preview changes nothing"
    assert imported(ask, changed)["data"] == {
        "created": ["delta"],
        "edited": ["alpha"],
        "unchanged": 1,
    }
    assert ledger.bots.get("alpha").parameters["fast"] == 4
    (before, after) = ask("bot", "history", "alpha")["data"]
    assert after["changes"] == {"fast": [3, 4]}
    assert (before["version"], after["version"]) == (1, 2)
    assert after["reason"] == "from swarm.toml"


def test_every_problem_of_a_file_is_said_with_its_line_and_nothing_is_done(
    ask: Ask, ledger: Ledger
) -> None:
    broken = BOTS.replace("fast = 3", 'fast = "x", slwo = 1').replace('"1s"', '"9m"')
    broken += (
        '\n[[bot]]\nname = "alpha"\n\n[[bot]]\nname = "a b"\nstrategy = "smacross"\ncolour = 1'
    )
    error = imported(ask, broken, exits=2)["error"]
    causes = [each["cause"] for each in error["problems"]]
    assert error["cause"] == "swarm.toml has 4 problems, so nothing was changed"
    for cause, words in zip(
        causes,
        (
            ("line 9, bot 'alpha'", "fast is 'x'", "did you mean slow?"),
            ("line 15, bot 'beta'", "'9m' is no timeframe"),
            ("line 25, bot 'alpha'", "it is there twice"),
            ("line 28, bot 'a b'", "'colour' is nothing", "is no name", "no strategy 'smacross'"),
        ),
        strict=True,
    ):
        for word in words:
            assert word in cause
    assert ledger.bots.list() == []


NONSENSE = {
    "[[bot": "it is no TOML",
    "bot = 3": "bot is no list of tables",
    "format = 7": "its format is 7",
    "[[bots]]": "'bots' is nothing a file of bots says",
    "[[bot]]\nname = 3": "its name is 3, not a word in quotes",
    "[[bot]]\nname = 'x'": "it says no strategy; it says no market",
    "[[bot]]\ntags = 'x'": "its tags are no list",
    "[[bot]]\nparameters = 1": "its parameters are no table",
}


def test_a_file_that_says_nothing_sensible_is_refused(ask: Ask) -> None:
    for text, words in NONSENSE.items():
        problems = imported(ask, text, exits=2)["error"]["problems"]
        assert words in " ".join(each["cause"] for each in problems)


def test_a_file_cannot_turn_a_bot_into_one_of_another_market(ask: Ask) -> None:
    imported(ask)
    problems = imported(ask, BOTS.replace("BTC-USDT", "ETH-USDT"), exits=2)["error"]["problems"]
    assert "bot 'alpha': its symbol is BTC-USDT, not ETH-USDT" in problems[0]["cause"]


def test_a_file_is_imported_whole_or_not_at_all(
    ask: Ask, ledger: Ledger, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("BOTSWARM_BOT_MAX_CONCURRENT", "2")
    error = imported(ask, BOTS, "--start", exits=6)["error"]
    assert error["cause"] == "0 bots run and 3 more would be over 2"
    assert ledger.bots.list() == []
    assert ledger.roster.versions("alpha") == []


# --- whom it is about -----------------------------------------------------------------------------


WHOM: dict[tuple[str, ...], set[str]] = {
    ("--all",): {"alpha", "beta", "gamma"},
    ("--tag", "fast"): {"alpha"},
    ("--tag", "fast", "--tag", "all"): {"alpha", "beta", "gamma"},
    ("--strategy", "sma-cross"): {"alpha", "beta"},
    ("--strategy", "sma-cross", "--tag", "fast"): {"alpha"},
    ("--market", "btc-usdt"): {"alpha", "beta", "gamma"},
    ("--market", "simulated:BTC-USDT"): {"alpha", "beta", "gamma"},
    ("--market", "kraken:BTC-USDT"): set(),
    ("--state", "running"): set(),
    ("--state", "created"): {"alpha", "beta", "gamma"},
    ("alpha", "gamma"): {"alpha", "gamma"},
    ("alpha", "gamma", "--strategy", "sma-cross"): {"alpha"},
}


def test_bots_are_chosen_by_names_and_filters(ask: Ask) -> None:
    imported(ask)
    for words, whom in WHOM.items():
        found = ask("bot", "start", *words, "--dry-run")["data"]
        assert (set(found["names"]), found["count"]) == (whom, len(whom)), words
        assert set(states(ask).values()) == {"created"}, "a preview changes nothing"
    ask("bot", "start", "--tag", "fast", "--strategy", "sma-cross", "--yes")
    assert states(ask) == {"alpha": "running", "beta": "created", "gamma": "created"}


def test_many_are_asked_for_first_and_one_that_is_named_is_not(ask: Ask) -> None:
    imported(ask)
    error = ask("bot", "start", "--all", exits=6)["error"]
    assert error["cause"] == "this would start 3 bots: alpha, beta, gamma; nobody confirmed it"
    assert error["cure"].endswith("if that is meant, add --yes")
    assert set(states(ask).values()) == {"created"}
    ask("bot", "start", "alpha", "beta", exits=6)
    ask("bot", "start", "--tag", "fast", exits=6)
    ask("bot", "start", "alpha")
    assert states(ask) == {"alpha": "running", "beta": "created", "gamma": "created"}


def test_where_confirmation_is_required_even_one_is_asked_for(
    ask: Ask, monkeypatch: pytest.MonkeyPatch
) -> None:
    imported(ask)
    monkeypatch.setenv("BOTSWARM_BOT_REQUIRE_CONFIRMATION", "on")
    ask("bot", "start", "alpha", exits=6)
    ask("bot", "edit", "alpha", "--set", "fast=4", exits=6)
    ask("bot", "create", "x", "--strategy", "grid", "--market", "BTC-USDT", "--start", exits=6)
    ask("bot", "stop", "alpha")
    ask("bot", "start", "alpha", "--yes")


def test_bots_that_are_named_move_all_or_none_and_filters_leave_out_who_cannot(ask: Ask) -> None:
    imported(ask)
    ask("bot", "start", "alpha")
    error = ask("bot", "pause", "alpha", "beta", "--yes", exits=6)["error"]
    assert "the bot beta is created, so there is nothing to pause" in error["cause"]
    assert states(ask)["alpha"] == "running"
    done = ask("bot", "pause", "--all", "--yes", "--reason", "lunch")["data"]
    assert done["changed"] == ["alpha"]
    assert set(done["refused"]) == {"beta", "gamma"}
    ask("bot", "stop", "alpha", "nobody", "--yes", exits=4)
    assert states(ask)["alpha"] == "paused"


def test_one_row_of_the_audit_names_all_whom_an_action_changed(ask: Ask, ledger: Ledger) -> None:
    imported(ask)
    ask("bot", "start", "--all", "--yes", "--reason", "go")
    for name in ("alpha", "gamma"):
        entry = ledger.audit.of_bot(name)[-1]
        assert (entry.action, entry.subject, entry.reason) == ("bot.state", "bots", "go")
        assert entry.before == {"states": {"created": 3}}
        assert entry.after == {"state": "running", "bots": 3}
    rows = ask("bot", "logs", "gamma")["data"]
    assert [row["source"] for row in rows] == ["audit", "audit"]
    assert "bot.state -> running (with 3 bots) by cli:" in rows[-1]["words"]


UNCLEAR = {
    ("bot", "stop"): "no bot is named",
    ("bot", "stop", "alpha", "--all"): "--all leaves nothing to choose",
    ("bot", "stop", "--state", "asleep"): "'asleep' is no state of a bot",
    ("bot", "edit", "alpha"): "nothing is changed",
    ("bot", "clone", "alpha"): "give --as NAME",
    ("bot", "diff", "alpha"): "give two bots",
    ("bot", "why", "alpha", "--at", "yesterday"): "is no time",
}


def test_words_that_leave_it_open_are_not_guessed_at(ask: Ask) -> None:
    for words, complaint in UNCLEAR.items():
        assert complaint in ask(*words, exits=2)["error"]["cause"]


def test_lists_are_filtered_and_paged(ask: Ask) -> None:
    imported(ask)

    def names(*words: str) -> list[str]:
        return [each["name"] for each in ask("bot", "list", *words)["data"]]

    assert names("--tag", "fast") == ["alpha"]
    first = ask("bot", "list", "--limit", "2")
    assert [each["name"] for each in first["data"]] == ["alpha", "beta"]
    assert first["next"] == ["botswarm bot list --limit 2 --after beta"]
    assert names("--limit", "2", "--after", "beta") == ["gamma"]
    (gamma,) = ask("bot", "list", "--strategy", "rsi-reversion")["data"]
    assert gamma["is_shadow"]
    assert gamma["tags"] == ["all"]


def test_where_there_is_nobody_nothing_happens_and_nothing_fails(ask: Ask) -> None:
    for verb in ("start", "stop", "pause", "resume"):
        assert ask("bot", verb, "--all")["data"]["changed"] == []
    assert ask("bot", "delete", "--all")["data"] == {"deleted": []}
    assert ask("bot", "edit", "--all", "--set", "fast=3")["data"]["edited"] == []
    assert ask("bot", "export")["data"] == {"bots": 0, "toml": "format = 1\n"}
    assert imported(ask, "")["data"] == {"created": [], "edited": [], "unchanged": 0}
    assert ask("bot", "list", "--tag", "x") == {
        "ok": True,
        "data": [],
        "warnings": [],
        "next": [],
    }


# --- versions -------------------------------------------------------------------------------------


def test_an_edit_is_a_new_version_with_who_and_why(ask: Ask, ledger: Ledger) -> None:
    imported(ask)
    done = ask("bot", "edit", "alpha", "--set", "fast=5", "--budget", "50", "--add-tag", "new",
               "--reason", "quicker")["data"]  # fmt: skip
    (edited,) = done["edited"]
    assert edited["version"] == 2
    assert edited["changes"] == {
        "fast": [3, 5],
        "budget": ["99.5", "50"],
        "tags": [["all", "fast"], ["all", "fast", "new"]],
    }
    assert ask("bot", "edit", "alpha", "--set", "fast=5")["data"]["edited"] == []
    ask("bot", "edit", "alpha", "--set", "fast=6")
    versions = ask("bot", "history", "alpha")["data"]
    assert [each["version"] for each in versions] == [1, 2, 3]
    assert versions[1]["reason"] == "quicker"
    assert versions[1]["actor"].startswith("cli:")
    two = ask("bot", "diff", "alpha", "--version", "1", "--version", "3")["data"]
    assert two["fast"] == {"version 1": 3, "version 3": 6}
    assert ask("bot", "diff", "alpha", "--version", "2")["data"]["fast"] == {
        "version 2": 5,
        "now": 6,
    }
    assert ask("bot", "diff", "alpha", "beta")["data"]["fast"] == {"alpha": 6, "beta": 10}
    ask("bot", "diff", "alpha", "--version", "9", "--version", "1", exits=4)


def test_an_edit_of_many_that_one_of_them_cannot_bear_changes_none(
    ask: Ask, ledger: Ledger
) -> None:
    imported(ask)
    error = ask("bot", "edit", "--all", "--set", "slow=3", "--yes", exits=2)["error"]
    assert "alpha: fast 3 is not under slow 3" in error["cause"]
    assert "gamma: rsi-reversion has no parameter 'slow'" in error["cause"]
    assert {bot.version for bot in ledger.bots.list()} == {1}
    ask("bot", "edit", "--strategy", "sma-cross", "--set", "slow=40", "--yes")
    assert [bot.version for bot in ledger.bots.list()] == [2, 2, 1]


def test_an_edit_of_what_somebody_else_has_edited_meanwhile_is_refused(
    ask: Ask, ledger: Ledger
) -> None:
    from botswarm.bots.registry import Registry
    from botswarm.clock import SystemClock
    from botswarm.errors import Refused

    imported(ask)
    seen = ledger.bots.get("alpha")
    ask("bot", "edit", "alpha", "--set", "fast=5")
    mine = replace(seen, parameters={**seen.parameters, "fast": 7})
    with pytest.raises(Refused, match="alpha was changed meanwhile, to version 2"):
        Registry(ledger).save(SystemClock().now(), edited=[mine], actor="me", reason="mine")
    assert ledger.bots.get("alpha").parameters["fast"] == 5


def test_a_name_that_is_used_again_goes_on_counting_versions(ask: Ask) -> None:
    imported(ask)
    ask("bot", "delete", "alpha")
    assert ask("bot", "history", "alpha")["data"][0]["version"] == 1, "it outlives the bot"
    imported(ask)
    assert [each["version"] for each in ask("bot", "history", "alpha")["data"]] == [1, 2]
    assert ask("bot", "show", "alpha")["data"]["version"] == 2


def test_clones_are_told_the_same_elsewhere(ask: Ask, ledger: Ledger) -> None:
    imported(ask)
    ask("bot", "clone", "alpha", "--as", "omega", "--set", "fast=2", "--start")
    omega = ledger.bots.get("omega")
    assert (omega.state, omega.parameters["fast"], omega.parameters["slow"]) == (
        BotState.RUNNING,
        2,
        9,
    )
    ask("bot", "clone", "alpha", "--as", "omega", exits=6)
    ledger.books.save_instruments([])
    seen = ask("bot", "clone", "alpha", "--as", "x", "--as", "y", "--dry-run")["data"]
    assert seen["names"] == ["x", "y"]
    ask("bot", "clone", "alpha", "--as", "x", "--as", "y", exits=6)
    made = ask("bot", "clone", "alpha", "--as", "x", "--as", "y", "--yes")["data"]
    assert [each["name"] for each in made] == ["x", "y"]


def test_a_clone_in_a_market_that_is_not_there_is_refused(ask: Ask) -> None:
    imported(ask)
    error = ask("bot", "clone", "alpha", "--market", "BTC-USDC", exits=4)["error"]
    assert error["cause"] == "simulated has no market BTC-USDC"


# --- what keeps bots from running -----------------------------------------------------------------


def test_no_more_run_than_are_allowed(ask: Ask, monkeypatch: pytest.MonkeyPatch) -> None:
    imported(ask)
    monkeypatch.setenv("BOTSWARM_BOT_MAX_CONCURRENT", "2")
    ask("bot", "start", "--all", "--yes", exits=6)
    assert set(states(ask).values()) == {"created"}
    ask("bot", "start", "alpha", "beta", "--yes")
    error = ask("bot", "start", "gamma", exits=6)["error"]
    assert error["cause"] == "2 bots run and 1 more would be over 2"
    ask("bot", "stop", "alpha")
    ask("bot", "start", "gamma")


def test_where_bots_are_switched_off_none_is_started(
    ask: Ask, monkeypatch: pytest.MonkeyPatch
) -> None:
    imported(ask)
    monkeypatch.setenv("BOTSWARM_BOT_ENABLE", "off")
    assert "switched off" in ask("bot", "start", "alpha", exits=6)["error"]["cause"]
    ask("bot", "stop", "alpha")


@pytest.fixture
def live(ask: Ask, monkeypatch: pytest.MonkeyPatch) -> None:
    """A real venue's account of real money."""
    monkeypatch.setenv("BOTSWARM_BINANCE_API_KEY", "a-key")
    monkeypatch.setenv("BOTSWARM_BINANCE_API_SECRET", "a-secret")
    monkeypatch.setenv("BOTSWARM_BINANCE_REST_URL", "https://api.binance.com")


@pytest.mark.usefixtures("live")
def test_a_bot_of_real_money_starts_only_while_it_is_armed(ask: Ask, ledger: Ledger) -> None:
    from datetime import timedelta

    from botswarm.clock import SystemClock

    imported(ask)
    assert ledger.bots.get("alpha").venue == "binance"
    error = ask("bot", "start", "alpha", "--yes", exits=6)["error"]
    assert error["cause"] == ("alpha would trade real money on binance:spot, and is not armed")
    ask("bot", "arm", "alpha", exits=2)
    ask("bot", "arm", "alpha", "--reason", "a first try", exits=6)
    ask("bot", "arm", "alpha", "--reason", "x", "--for", "48", "--yes", exits=6)
    ask("bot", "arm", "alpha", "--reason", "a first try", "--for", "2", "--yes")
    entry = ledger.audit.of_bot("alpha")[-1]
    assert (entry.action, entry.reason) == ("bot.arm", "a first try")
    ask("bot", "start", "alpha", "--yes")
    ask("bot", "start", "beta", "--yes", exits=6)
    ask("bot", "stop", "alpha")
    earlier = SystemClock().now() - timedelta(minutes=1)
    ledger.changes.arm(["alpha"], earlier, earlier, actor="test", reason="over")
    assert "is no longer armed since" in ask("bot", "start", "alpha", exits=6)["error"]["cause"]
    ask("bot", "arm", "alpha", "--reason", "again", "--yes")
    ask("bot", "disarm", "alpha")
    ask("bot", "start", "alpha", exits=6)


def test_play_money_needs_no_arming(ask: Ask, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BOTSWARM_BINANCE_API_KEY", "a-key")
    monkeypatch.setenv("BOTSWARM_BINANCE_API_SECRET", "a-secret")
    imported(ask)
    ask("bot", "start", "alpha")


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("a = " + "[" * 100_000, "it is no TOML"),
        ("a = " + "9" * 5000, "it is no TOML"),
        ('[[bot]]\nname = "a"\nbudget = 1e99999999999\n' + "{}", "the budget is 1E+99999999999"),
        (
            '[[bot]]\nname = "a"\nparameters = {{ fast = 1e999999999 }}\n{}',
            "fast is '1E+999999999'",
        ),
        ('[[bot]]\nname = "a"\naccount = "a\\u0000b"\n{}', r"'a\x00b' is no account"),
        ('[defaults]\nname = "a"\n{0}\n[[bot]]\n[[bot]]', "a would be created twice"),
    ],
)
def test_a_file_that_asks_for_the_impossible_is_refused_in_words(
    ask: Ask, text: str, words: str
) -> None:
    filled = text.replace("{0}", "{}").replace("{{", "{").replace("}}", "}")
    said = 'strategy = "sma-cross"\nmarket = "BTC-USDT"'
    filled = filled.replace("{}", said)
    Path("bots.toml").write_text(filled)
    exits = 6 if "twice" in words else 2
    answer = ask("bot", "import", "bots.toml", "--yes", exits=exits)
    problems = str([each["cause"] for each in answer["error"]["problems"]])
    assert words.replace("\\", "\\\\") in problems or words in problems
    assert len(problems) < 2000
    assert ask("bot", "list")["data"] == []


def test_two_clones_cannot_have_one_name(ask: Ask) -> None:
    words = ("--strategy", "sma-cross", "--market", "BTC-USDT")
    ask("bot", "create", "a", *words)
    answer = ask("bot", "clone", "a", "--as", "b", "--as", "b", "--yes", exits=6)
    assert answer["error"]["cause"] == "b would be created twice"


def test_a_replay_of_a_bot_that_never_decided_finds_nothing(ask: Ask) -> None:
    ask("bot", "create", "a", "--strategy", "sma-cross", "--market", "BTC-USDT")
    assert ask("bot", "replay", "a")["data"]["differences"] == []


def test_a_name_that_is_no_text_is_refused_in_words(ask: Ask) -> None:
    answer = ask("bot", "show", "\udcff", exits=2)
    assert answer["error"]["cause"] == "a word of it is not UTF-8"


def test_a_strategy_cannot_take_the_budgets_place(
    ask: Ask, monkeypatch: pytest.MonkeyPatch
) -> None:
    Path("mine").mkdir()
    Path("mine/rich.py").write_text(
        "from botswarm.strategies.api import *\n\n\n"
        "class Rich(Strategy):\n"
        "    budget: int = parameter(default=1_000_000, words='its own idea')\n\n"
        "    @property\n    def history(self):\n        return 1\n\n"
        "    def decide(self, view):\n        return Decision(verdict='in', target=ALL)\n"
    )
    monkeypatch.setenv("BOTSWARM_STRATEGIES_DIR", "mine")
    words = ("--strategy", "rich", "--market", "BTC-USDT", "--budget", "10")
    answer = ask("bot", "create", "a", *words, exits=2)
    assert (
        answer["error"]["cause"]
        == "the strategy rich calls a parameter budget, which every bot has"
    )


def test_an_edit_cannot_leave_behind_what_a_bot_holds_elsewhere(ask: Ask, ledger: Ledger) -> None:
    others = [replace(BTC, symbol=f"{base}-USDT", base=base) for base in ("ETH", "SOL")]
    ledger.books.save_instruments(others)
    words = ("--strategy", "pairs", "--market", "BTC-USDT")
    ask("bot", "create", "alpha", *words, "--set", "other=ETH-USDT")
    order = replace(
        an_open_order(Side.BUY, 2), symbol="ETH-USDT", state=OrderState.READY, created_at=NOW
    )
    ledger.orders.add(order, NOW)
    edit = ("bot", "edit", "alpha", "--set", "other=SOL-USDT")
    refused = ask(*edit, exits=6)["error"]["cause"]
    assert refused == "alpha has an order open in ETH-USDT, its market until now"
    ledger.books.judge(order.id, lambda order, _: Approved(order), NOW)
    fill = Fill(
        venue=order.venue,
        symbol=order.symbol,
        trade_id=1,
        client_order_id=order.client_order_id,
        side=order.side,
        price=Decimal(100),
        quantity=order.quantity,
        commission=Decimal(0),
        commission_asset="ETH",
        at=NOW,
    )
    ledger.books.book([fill], NOW)
    refused = ask(*edit, exits=6)["error"]["cause"]
    assert "alpha holds 2 of ETH-USDT, its market until now" in refused
    assert ledger.bots.get("alpha").others == ("ETH-USDT",)
    ask("bot", "edit", "alpha", "--set", "length=30")
    assert ledger.bots.get("alpha").version == 2
