"""`botswarm backup` as a person meets it, and the tasks that beat rings for."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path
from subprocess import DEVNULL
from typing import Any

import pytest

from botswarm.backup.folder import Backup
from botswarm.errors import Unreachable
from botswarm.health.__main__ import main as health
from botswarm.ledger.store import Ledger
from botswarm.queueing import make_app
from botswarm.testing.servers import wait_until
from tests.backup.conftest import FILLS, PlaceOf
from tests.campaign import backup_corruption
from tests.command_line import ROOT, run_botswarm
from tests.standing import reconciled
from workers import backups

Run = Callable[..., tuple[int, dict[str, Any], str]]


@pytest.fixture
def run(sqlite_url: str, tmp_path: Path) -> Run:
    def run(*words: str) -> tuple[int, dict[str, Any], str]:
        environ = {"BOTSWARM_STATE_DIR": str(tmp_path / "state")}
        done = run_botswarm("backup", *words, "--json", folder=tmp_path, environ=environ)
        answer = json.loads(done.stdout)
        return done.returncode, answer, str(answer.get("error", {}).get("code", ""))

    return run


def test_from_the_first_backup_to_a_restored_ledger(run: Run, tmp_path: Path) -> None:
    assert run("age")[::2] == (3, "BSW-3006")
    assert run("restore", "latest")[::2] == (4, "BSW-4000")
    code, made, _ = run("create")
    assert code == 0
    assert (made["data"]["state"], made["data"]["chain"]["sequence"]) == ("good", FILLS)
    assert any("not sealed" in words for words in made["warnings"])
    listed = run("list")[1]["data"]
    assert [(each["id"], each["archive"]) for each in listed] == [(made["data"]["id"], False)]
    assert run("restore", "latest")[::2] == (6, "BSW-6001")
    code, done, _ = run("restore", "latest", "--yes")
    assert code == 0
    assert Path(done["data"]["old"]).exists()
    part = next((tmp_path / "state" / "backups" / made["data"]["id"]).glob("ledger.*"))
    part.write_bytes(part.read_bytes()[:-1])
    assert run("verify")[::2] == (3, "BSW-3005")
    assert run("restore", "latest", "--yes")[0] == 4


def test_a_list_without_a_backup_says_so_and_where_it_looked(
    sqlite_url: str, tmp_path: Path
) -> None:
    environ = {"BOTSWARM_STATE_DIR": str(tmp_path / "state")}

    def listed(*words: str) -> str:
        done = run_botswarm("backup", "list", *words, folder=tmp_path, environ=environ)
        assert done.returncode == 0
        return done.stdout

    (tmp_path / "empty").mkdir()
    assert "empty holds no backup" in listed("--from", "empty")
    assert "gone does not exist" in listed("--from", "gone")


def test_without_a_ledger_create_says_how_one_is_made(run: Run, tmp_path: Path) -> None:
    (tmp_path / "state" / "ledger.db").unlink()
    code, answer, name = run("create")
    assert (code, name) == (5, "BSW-5000")
    assert answer["error"]["cure"] == "run: botswarm db migrate"
    assert list((tmp_path / "state" / "backups").glob("*Z-*")) == []


def test_a_drill_of_a_backup_that_does_not_exist_is_no_drill(run: Run) -> None:
    assert run("drill", "nope")[::2] == (4, "BSW-4000")
    assert run("drill", "--history")[1]["data"] == []


def test_trading_status_says_what_a_restored_ledger_waits_for(
    run: Run, tmp_path: Path, sqlite_url: str
) -> None:
    with closing(Ledger(sqlite_url)) as ledger:
        reconciled(ledger, datetime.now(UTC))
    assert run("create")[0] == 0
    assert _trading(tmp_path)["restored"] is None
    assert run("restore", "latest", "--yes")[0] == 0
    assert _trading(tmp_path)["restored"]["waits_for"] == "not reconciled since: simulated:paper"
    with closing(Ledger(sqlite_url)) as ledger:
        reconciled(ledger, datetime.now(UTC))
    assert _trading(tmp_path)["restored"]["waits_for"] == ""


def _trading(folder: Path) -> dict[str, Any]:
    environ = {"BOTSWARM_STATE_DIR": str(folder / "state")}
    done = run_botswarm("trading", "status", "--json", folder=folder, environ=environ)
    found: dict[str, Any] = json.loads(done.stdout)["data"]
    return found


def test_a_bucket_that_nobody_named_is_said(run: Run) -> None:
    code, answer, _ = run("push")
    assert code == 4
    assert "BOTSWARM_BACKUP_S3_URL" in answer["error"]["cure"]


def test_an_archive_that_is_switched_off_stands_by_and_is_well(tmp_path: Path) -> None:
    """Whoever starts a container for each line waits until all of them say so."""
    environ = {"BOTSWARM_STATE_DIR": str(tmp_path)}
    words = (sys.executable, "-m", "botswarm", "run", "archive", "--if-needed")
    with subprocess.Popen(words, cwd=ROOT, env=os.environ | environ, stderr=DEVNULL) as archive:
        try:
            wait_until(lambda: health((), environ) == 0, "it to be well", 20)
        finally:
            archive.terminate()
        assert archive.wait(10) == 0
    assert health((), environ) == 4


def test_the_nights_tasks_save_rehearse_and_let_go(sqlite_url: str, place_for: PlaceOf) -> None:
    place = place_for(sqlite_url)
    make_app(place.settings)
    made = backups.back_up()
    assert place.folder.read(made).tested_at is not None
    assert backups.rehearse_restore()["good"]
    assert backups.release_restored() is None
    with closing(Ledger(place.database_url)) as ledger:
        assert [each.id for each in ledger.backups.list()] == [made]
        assert len(ledger.backups.drills()) == 1


def test_a_bucket_that_is_away_keeps_no_old_backup_on_the_disk(
    sqlite_url: str, place_for: PlaceOf, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Away:
        def push(self, _: Backup) -> int:
            raise Unreachable("the bucket is away", cure="wait")

    place = place_for(sqlite_url)
    make_app(place.settings)
    old = place.folder.path / "20200101T000000Z-abcdef"
    old.mkdir(parents=True)
    monkeypatch.setattr(backups, "remote_of", lambda _: Away())
    with pytest.raises(Unreachable):
        backups.back_up()
    assert not old.exists()


def test_a_dozen_spoilt_backups_and_a_few_killed_writers_are_all_noticed() -> None:
    tally, _ = backup_corruption.run(fills=50, corruptions=20, kills=1, full_disks=1)
    assert tally.unnoticed == []
    assert sum(tally.noticed.values()) == 22
