"""Workers of other builds or settings are named, and trading is not opened while they run."""

from __future__ import annotations

import shutil
import signal
import uuid
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest

from botswarm.config import Secret
from botswarm.ledger import migrate
from botswarm.ledger.plain import asking
from botswarm.ledger.processes import seen
from botswarm.ledger.store import Ledger
from botswarm.testing.servers import EmbeddedBrokerServer
from tests.integration.swarm import ROOT, Process, Swarm, until

LIMIT = "BOTSWARM_LIMIT_ORDER_NOTIONAL_MAX"
STARTS_S = 60


class Stage(Swarm):
    def named(self, name: str, **settings: str) -> Process:
        before = dict(self.settings)
        self.settings |= settings
        worker = self.start("worker", "-Q", "ops", "-n", f"{name}@test")
        self.settings.clear()
        self.settings |= before
        until(lambda: name in self.seen() or worker.popen.poll() is not None, name, STARTS_S)
        assert worker.popen.poll() is None, worker.text
        return worker

    def seen(self) -> set[str]:
        with asking(Secret(self.settings["BOTSWARM_DATABASE_URL"])) as ask:
            return {each.name.partition("@")[0] for each in seen(ask, datetime.now(UTC))}


@pytest.fixture
def stage(tmp_path: Path) -> Iterator[Stage]:
    with EmbeddedBrokerServer() as broker:
        vhost = f"p-{uuid.uuid4().hex[:8]}"
        broker.add_vhost(vhost)
        made = Stage(broker, vhost, tmp_path)
        # A copy that nobody changes between the start of one worker and the next.
        made.settings["PYTHONPATH"] = str(a_build(tmp_path / "build"))
        made.settings["BOTSWARM_DATABASE_URL"] = f"sqlite:///{tmp_path / 'ledger.db'}"
        ledger = Ledger(made.settings["BOTSWARM_DATABASE_URL"])
        migrate.migrate(ledger.database)
        ledger.close()
        try:
            yield made
        finally:
            made.close()


def a_build(folder: Path, *, line: str = "") -> Path:
    for package in ("botswarm", "workers"):
        # With what is compiled already: times are copied too, so it is still good.
        half_written = shutil.ignore_patterns("*.pyc.*")
        shutil.copytree(ROOT / package, folder / package, ignore=half_written)
    with (folder / "workers" / "ops.py").open("a") as file:
        file.write(line)
    return folder


@pytest.mark.timeout(300)
def test_trading_is_not_resumed_while_one_worker_has_other_settings_or_another_build(
    stage: Stage, tmp_path: Path
) -> None:
    stage.named("first")
    (alone,) = stage.command("ps", "--all")["data"]["processes"]
    assert (alone["name"], alone["role"]) == ("first@test", "worker")
    stage.command("trading", "halt")
    richer = stage.named("richer", **{LIMIT: "900"})
    refused = stage.command("trading", "resume", "--yes", expect=6)["error"]["cause"]
    assert "richer@test" in refused
    assert "limit_order_notional_max = 900, the others 500" in refused
    builds = stage.command("status", expect=3)["data"]["parts"]["builds"]
    assert (builds["state"], len(builds["differences"])) == ("warn", 1)
    # Whoever ends in order says so: nobody waits for him to be missed.
    richer.popen.send_signal(signal.SIGTERM)
    until(lambda: stage.seen() == {"first"}, "the goodbye", STARTS_S)
    stage.command("trading", "resume", "--yes")

    stage.command("trading", "halt")
    newer = stage.named("newer", PYTHONPATH=str(a_build(tmp_path / "new", line="# new\n")))
    refused = stage.command("trading", "resume", "--yes", expect=6)["error"]["cause"]
    assert "newer@test" in refused
    assert "runs build" in refused
    (found,) = stage.command("ps", "--all", expect=3)["data"]["differences"]
    assert (found["process"].partition("@")[0], found["what"]) == ("newer", "build")
    newer.popen.send_signal(signal.SIGTERM)
    until(lambda: stage.seen() == {"first"}, "the goodbye", STARTS_S)
    stage.command("trading", "resume", "--yes")
