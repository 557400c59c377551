"""What `botswarm risk limits` shows, changes and asks about."""

from __future__ import annotations

from collections.abc import Callable
from decimal import Decimal
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy.orm import Session

from botswarm.domain.limits import LimitKind
from botswarm.errors import Refused
from botswarm.ledger import migrate
from botswarm.ledger.limits import said_of
from botswarm.ledger.risk_models import LimitRow
from botswarm.ledger.store import Ledger
from tests.command_line import alone, called
from tests.ledger.conftest import NOW, a_bot

Run = Callable[..., tuple[int, Any]]


@pytest.fixture
def url(tmp_path: Path) -> str:
    return f"sqlite:///{tmp_path / 'ledger.db'}"


@pytest.fixture
def run(
    url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Run:
    """Exit code, and the answer as JSON or text."""
    ledger = Ledger(url)
    migrate.migrate(ledger.database)
    ledger.bots.create(a_bot(), NOW, actor="anna")
    ledger.close()
    alone(monkeypatch, tmp_path, DATABASE_URL=url)
    return partial(called, capsys, "risk", "limits")


def holding(run: Run, scope: str, kind: str) -> dict[str, Any]:
    code, said = run("--for", scope)
    assert code == 0
    (found,) = (each for each in said["data"] if each["kind"] == kind)
    return dict(found)


def test_without_a_word_the_settings_speak(run: Run) -> None:
    code, said = run()
    assert code == 0
    (found,) = (each for each in said["data"] if each["kind"] == "daily_loss")
    assert (found["scope"], found["breach"], found["warn"]) == ("each account", "500", "400")
    assert found["setting"] == "limit_daily_loss_max"
    assert "each order" in run(is_json=False)[1]


def test_what_is_set_holds_for_the_bots_within_and_says_who_set_it(run: Run) -> None:
    assert (
        run("set", "order_value", "50", "--for", "strategy:sma_cross", "--reason", "thin")[0] == 0
    )
    found = holding(run, "bot:alpha", "order_value")
    assert (found["scope"], found["breach"], found["warn"]) == ("strategy:sma_cross", "50", "40")
    assert found["actor"].startswith("cli:")
    assert found["reason"] == "thin"
    assert holding(run, "market:simulated:btc-usdt", "order_value")["breach"] == "500"


def test_to_allow_more_is_asked_about_and_to_allow_less_is_not(run: Run, url: str) -> None:
    assert run("set", "daily_loss", "300", "--for", "account:simulated:paper")[0] == 0
    code, said = run("set", "daily_loss", "900", "--for", "account:simulated:paper")
    assert code == 6
    assert "raise daily_loss of account:simulated:paper from 300 to 900" in said["error"]["cause"]
    code, _ = run("set", "daily_loss", "900", "--for", "account:simulated:paper", "--yes")
    assert code == 0
    (said_limit,) = Ledger(url).limits.all()
    assert (said_limit.limit.kind, said_limit.limit.breach) == (LimitKind.DAILY_LOSS, Decimal(900))
    assert run("unset", "daily_loss", "--for", "account:simulated:paper")[0] == 6
    assert run("unset", "daily_loss", "--for", "account:simulated:paper", "--yes")[0] == 0
    assert holding(run, "account:simulated:paper", "daily_loss")["breach"] == "500"
    code, said = run("history", "--kind", "daily_loss")
    assert [(each["before"], each["after"]) for each in said["data"]] == [
        ("900", None),
        ("300", "900"),
        (None, "300"),
    ]


@pytest.mark.parametrize(
    ("words", "code", "cause"),
    [
        (("set", "daily_loss", "-1"), 2, "No such option"),
        (("set", "daily_loss", "much"), 2, "is no amount"),
        (("set", "daily_loss", "NaN"), 2, "is no amount"),
        (("set", "luck", "1"), 2, "is not one of"),
        (("set", "order_value", "5", "--for", "planet:mars"), 6, "is no scope"),
        (("set", "order_value", "5", "--warn", "6"), 6, "is beyond the limit"),
        (("unset", "order_value", "--yes"), 4, "no limit order_value was set for swarm"),
        (("set", "order_value", "1e-30"), 6, "1E-30 has more than 18 decimals"),
        (("set", "drawdown", "1e30", "--yes"), 6, "more than 20 digits before the point"),
        (("--for", "bot:nobody"), 4, "there is no bot nobody"),
    ],
)
def test_what_makes_no_sense_is_refused_with_its_cause(
    run: Run, words: tuple[str, ...], code: int, cause: str
) -> None:
    left, said = run(*words, is_json=False)
    assert (left, cause in said) == (code, True), said


def test_a_limit_of_another_version_stops_orders_until_somebody_takes_it_away(
    run: Run, url: str
) -> None:
    ledger = Ledger(url)

    def plant(session: Session) -> None:
        session.add(
            LimitRow(scope="swarm", kind="luck", breach=Decimal(1), at=NOW, actor="x", reason="")
        )

    ledger.database.write(plant)
    with pytest.raises(Refused) as refused:
        ledger.database.read(lambda session: said_of(session, ["swarm"]))
    cure = refused.value.cure.partition("botswarm risk limits ")[2]
    assert run(*cure.split(), "--yes")[0] == 0
    assert ledger.database.read(lambda session: said_of(session, ["swarm"])) == []
    ledger.close()


def test_every_kind_is_explained(run: Run) -> None:
    code, said = run("--kinds")
    assert code == 0
    assert {each["kind"] for each in said["data"]} == {each.value for each in LimitKind}
    assert "halts" in said["data"][0]
