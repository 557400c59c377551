"""The whole swarm from one command, on what needs no server and on the servers of production."""

from __future__ import annotations

import contextlib
import json
import re
import shlex
import signal
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from botswarm.testing.servers import PostgreSQLServer, RabbitMQServer, RedisServer
from tests.e2e.dashboards import without_data
from tests.e2e.swarm import ROOT, Shell, Swarm, names, until

STOP_S = 30.0


@contextlib.contextmanager
def nothing_installed() -> Iterator[dict[str, str]]:
    yield {}


@contextlib.contextmanager
def real_servers() -> Iterator[dict[str, str]]:
    """As a platform names them."""
    with RabbitMQServer() as rabbitmq, PostgreSQLServer() as postgresql, RedisServer() as redis:
        postgresql.create_database("swarm")
        url = postgresql.url("swarm")
        yield {
            "DATABASE_URL": "postgres://" + url.partition("://")[2],
            "CLOUDAMQP_URL": rabbitmq.url(),
            "REDIS_URL": redis.url(),
        }


class Up:
    """A running swarm and the shell it runs in."""

    def __init__(self, swarm: Swarm) -> None:
        self.swarm = swarm
        self.shell: Shell = swarm.open("botswarm", "up", name="up")
        self.first_fill = swarm.first_fill(self.shell)


@pytest.fixture(scope="module", params=[nothing_installed, real_servers], ids=["embedded", "real"])
def up(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Up]:
    """Started once; the tests follow one another as a person's first ten minutes do."""
    with request.param() as settings:
        swarm = Swarm(tmp_path_factory.mktemp("swarm"), settings)
        try:
            yield Up(swarm)
        finally:
            swarm.end()


def test_the_first_fill_is_shown_with_its_bot_and_its_reason(up: Up) -> None:
    assert re.search(r"first fill: [\w-]+ (bought|sold) [\d.]+ [A-Z-]+ at [\d.]+", up.first_fill)
    assert " because " in up.first_fill


def test_only_what_is_not_configured_is_started(up: Up) -> None:
    started = {each["name"] for each in up.swarm.ask("ps")["processes"]}
    assert {"exchange", "feed", "strategy", "orders", "ops", "beat"} <= started
    assert ("broker" in started) is ("CLOUDAMQP_URL" not in up.swarm.settings)
    assert (up.swarm.state_dir / "ledger.db").exists() is ("DATABASE_URL" not in up.swarm.settings)


def test_another_shell_sees_the_orders(up: Up) -> None:
    def filled() -> list[str]:
        orders = up.swarm.ask("order", "list", "--limit", "200")
        return [order["id"] for order in orders if order["state"] == "filled"]

    # A fill is booked, and told, just before its order's end is.
    until(lambda: bool(filled()), "an order that is filled")
    story = up.swarm.ask("order", "show", filled()[0])
    assert story["attempts"]
    assert story["fills"]


def test_it_goes_on_trading(up: Up) -> None:
    def fills() -> int:
        return sum(each.get("event") == "fill" for each in up.shell.records)

    before = fills()
    until(lambda: fills() >= before + 3, "three more fills")


def test_a_bot_says_why(up: Up) -> None:
    name = re.findall(r"first fill: ([\w-]+)", up.first_fill)[0]
    why = up.swarm.ask("bot", "why", name)
    assert why["bot"] == name
    assert why["fills"]
    assert why["evaluation"]["verdict"]
    spoken = up.swarm.run("botswarm", "bot", "why", name)
    assert spoken.returncode == 0
    assert "verdict" in spoken.stdout


def test_risk_is_swept_and_positions_are_valued_with_nobody_asking(up: Up) -> None:
    """The prices are the strategy worker's, the sweeps are sent by beat."""

    def swept() -> bool:
        found = up.swarm.ask("risk", "status")
        errors = [each["error"] for each in found["sweeps"].values()]
        accounts = [each for each in found["standings"] if each["scope"].startswith("account:")]
        is_valued = any(each["unrealised"] is not None for each in accounts)
        return is_valued and len(errors) >= 6 and not any(errors)

    until(swept, "risk to be swept", 90)


def test_status_knows_every_part_and_finds_nothing_missing(up: Up) -> None:
    def is_well() -> bool:
        return bool(up.swarm.ask("status")["missing"] == [])

    until(is_well, "status to find nothing missing")
    parts = up.swarm.ask("status")["parts"]
    assert set(parts) == {
        *("processes", "broker", "queues", "feed", "beat"),
        *("ledger", "trading", "accounts", "bots", "orders", "builds", "health"),
    }
    assert parts["accounts"]["by_account"] == {"simulated:paper": True}
    assert parts["feed"]["age_s"] is not None
    assert parts["feed"]["age_s"] < 10
    assert parts["bots"]["by_state"]["running"] >= 9
    assert parts["orders"]["recent"]["filled"] > 0


@pytest.mark.timeout(240)
def test_no_panel_of_any_dashboard_is_without_data(up: Up) -> None:
    """Asked of a real Prometheus that scrapes every process; no rule of an alert errs there."""
    with_servers = "DATABASE_URL" in up.swarm.settings
    assert without_data(up.swarm.state_dir, with_servers=with_servers) == []


def test_a_worker_of_another_shell_joins_and_takes_orders(up: Up) -> None:
    words = ("-A", "botswarm", "worker", "-Q", "orders", "-n", "second@%h", "-l", "info")
    second = up.swarm.open("celery", *words, name="second")

    def listeners() -> list[str]:
        asked = up.swarm.run("celery", "-A", "botswarm", "inspect", "active_queues", "--json")
        with contextlib.suppress(ValueError):
            answers: dict[str, list[dict[str, str]]] = json.loads(asked.stdout)
            return [
                name.partition("@")[0]
                for name, queues in sorted(answers.items())
                if "orders" in [queue["name"] for queue in queues]
            ]
        return []

    until(lambda: listeners() == ["orders", "second"], "both workers to be listed")
    until(lambda: '"event": "fill"' in second.text, "the second worker to book a fill")
    second.popen.send_signal(signal.SIGTERM)
    assert second.ends_within(STOP_S) == 0, second.text[-2000:]


def test_a_misspelt_queue_is_refused_with_the_list(up: Up) -> None:
    refused = up.swarm.run("celery", "-A", "botswarm", "worker", "-Q", "order")
    assert refused.returncode != 0
    said = refused.stdout + refused.stderr
    assert all(name in said for name in ("strategy", "orders", "risk", "ops", "backtest"))
    assert "Traceback" not in said


def test_a_second_supervisor_of_the_folder_is_refused(up: Up) -> None:
    refused = up.swarm.run("botswarm", "up")
    assert refused.returncode == 5
    assert "already runs" in refused.stderr


def test_ctrl_c_finishes_the_orders_on_their_way_and_stops_everything(up: Up) -> None:
    swarm, shell = up.swarm, up.shell
    swarm.make_answers_slow()
    on_their_way = until(lambda: swarm.ask("order", "list", "--state", "sending"), "an order")
    shell.popen.send_signal(signal.SIGINT)
    assert shell.ends_within(STOP_S) == 0, shell.text[-3000:]
    assert names(swarm.processes()) == []
    assert "killing it" not in shell.text
    assert "Traceback" not in shell.text
    for order in on_their_way:
        assert swarm.ask("order", "show", order["id"])["state"] in ("filled", "live")
    assert swarm.ask("order", "list", "--state", "sending", "--state", "unknown") == []


def test_the_books_are_clean_afterwards(up: Up) -> None:
    assert up.shell.popen.poll() is not None
    verified = up.swarm.ask("ledger", "verify", "--journal", str(up.swarm.journal))
    assert verified["findings"] == []
    counts = verified["counts"]
    assert (counts["lost"], counts["doubled"], counts["unknown"]) == (0, 0, 0)
    assert counts["exchange_fills"] > 0
    assert up.swarm.run("botswarm", "ps").returncode == 4


def test_the_procfile_runs_under_a_runner_that_starts_all_lines_at_once(tmp_path: Path) -> None:
    lines = (ROOT / "Procfile").read_text().splitlines()
    commands = {name: command for name, _, command in (line.partition(": ") for line in lines)}
    swarm = Swarm(tmp_path, {"BOTSWARM_LOG_FORMAT": "json", "BOTSWARM_LOG_LEVEL": "info"})
    try:
        release = swarm.run(*shlex.split(commands.pop("release")))
        assert release.returncode == 0, release.stderr
        assert swarm.run("botswarm", "bot", "demo").returncode == 0
        shells = {
            name: swarm.open(*shlex.split(command), name=name) for name, command in commands.items()
        }
        until(lambda: '"event": "fill"' in shells["orders"].text, "the first fill")
        # Such a runner takes everything down when one process ends.
        assert [name for name, shell in shells.items() if shell.popen.poll() is not None] == []
        for shell in shells.values():
            shell.popen.send_signal(signal.SIGTERM)
        codes = {name: shell.ends_within(STOP_S) for name, shell in shells.items()}
        assert codes == dict.fromkeys(commands, 0)
        verified = swarm.ask("ledger", "verify", "--journal", str(swarm.journal))
        assert verified["findings"] == []
    finally:
        swarm.end()


@pytest.mark.parametrize(
    ("command", "settings", "reason"),
    [
        (
            ("broker", "run"),
            {"BROKER_URL": "amqp://swarm:some-long-password@127.0.0.1:29999"},
            "the broker is amqp://swarm:***@127.0.0.1:29999",
        ),
        (
            ("run", "exchange"),
            {"BOTSWARM_BINANCE_API_KEY": "key-0123", "BOTSWARM_BINANCE_API_SECRET": "secret-4567"},
            "an exchange account is configured",
        ),
    ],
    ids=["broker", "exchange"],
)
def test_a_line_that_is_not_needed_stands_by_until_it_is_told_to_stop(
    command: tuple[str, str], settings: dict[str, str], reason: str, tmp_path: Path
) -> None:
    swarm = Swarm(tmp_path, settings)
    try:
        shell = swarm.open("botswarm", *command, "--if-needed")
        until(lambda: "standing by" in shell.text, "it to say that it stands by")
        assert reason in shell.text
        time.sleep(0.2)
        assert shell.popen.poll() is None
        assert not (swarm.state_dir / "broker.json").exists()
        assert not (swarm.state_dir / "exchange.json").exists()
        shell.popen.send_signal(signal.SIGTERM)
        assert shell.ends_within(STOP_S) == 0
    finally:
        swarm.end()
