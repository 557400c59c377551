"""The commands and the file of docs/bots.md do what the page says."""

from __future__ import annotations

import os
import re
import shlex
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from botswarm.bots.evaluation import Evaluator
from botswarm.bots.muster import Muster
from botswarm.bots.strategies import Strategies
from botswarm.cli import main
from botswarm.cli.bot import bot
from botswarm.ledger import migrate
from botswarm.ledger.store import Ledger
from botswarm.strategies.registry import load
from tests.bots.test_evaluation import a_scene
from tests.strategies.values import SYMBOL, VENUE, a_market, a_quote, a_trade, some_candles

PAGE = (Path(__file__).parents[2] / "docs" / "bots.md").read_text()
BLOCKS = re.findall(r"```sh\n(.*?)```", PAGE, re.DOTALL)
COMMANDS = [line for block in BLOCKS for line in block.splitlines() if line.strip()]
(FILE,) = re.findall(r"```toml\n(.*?)```", PAGE, re.DOTALL)


def a_pass(ledger: Ledger) -> None:
    """Whoever runs is evaluated, as a worker would."""
    now = datetime.now(UTC) - timedelta(minutes=1)
    at_ms = int(now.timestamp() * 1000)
    market = a_market(
        sequence=at_ms, trade=a_trade(at_ms=at_ms), quote=a_quote(at_ms=at_ms), exchange_ms=at_ms
    )
    muster = Muster(VENUE, SYMBOL, Strategies(load()))
    muster.take(ledger.stands.since(VENUE, SYMBOL))
    candles = {"1m": some_candles([100.0 + place for place in range(60)])}
    made = Evaluator(timedelta(seconds=10)).evaluate(muster, a_scene(market, candles), now)
    ledger.bots.decide_many(made.decisions, now)


def test_every_command_of_the_page_works_in_its_order(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in os.environ:
        if name.startswith("BOTSWARM_"):
            monkeypatch.delenv(name)
    monkeypatch.chdir(tmp_path)
    url = f"sqlite:///{tmp_path / 'ledger.db'}"
    monkeypatch.setenv("BOTSWARM_DATABASE_URL", url)
    ledger = Ledger(url)
    migrate.migrate(ledger.database)
    assert len(COMMANDS) > 25
    for line in COMMANDS:
        words = shlex.split(line)
        assert words.pop(0) == "botswarm", line
        if words[1] == "why":
            a_pass(ledger)
        with pytest.raises(SystemExit) as ended:
            main(words)
        said = capsys.readouterr()
        assert ended.value.code == 0, f"{line}\n{said.err}"
    assert ledger.bots.get("alpha").version == 2
    Path("other.toml").write_text(FILE)
    with pytest.raises(SystemExit) as ended:
        main(["bot", "import", "other.toml", "--yes"])
    assert ended.value.code == 0
    assert ledger.bots.get("quiet").is_shadow
    assert ledger.bots.get("alpha").parameters["slow"] == 40


def test_the_page_speaks_of_every_verb() -> None:
    page = " ".join(PAGE.split())
    unsaid = [name for name in bot.commands if not re.search(rf"`?\b{name}\b", page)]
    assert unsaid == ["demo"], "which is for a first look, and stands in the README"


def test_the_page_names_only_commands_that_there_are() -> None:
    named = set(re.findall(r"botswarm bot ([a-z]+)", PAGE))
    assert named <= set(bot.commands)
