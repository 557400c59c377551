"""Log lines in a place that outlives their machine: each once, whatever happens on the way."""

from __future__ import annotations

import gzip
import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from botswarm.backup import log_pieces
from botswarm.backup.log_carrier import Carrier, carrier_of
from botswarm.backup.log_carrying import Carrying
from botswarm.backup.log_fetch import Wanted, fetcher_of
from botswarm.backup.s3 import Bucket
from botswarm.config import Settings
from botswarm.errors import Misconfigured, Refused, Unreachable
from botswarm.logfiles import AppendingFile, Keeping
from botswarm.testing.servers import wait_until
from tests.backup.conftest import KEY
from tests.backup.object_store import Store
from tests.command_line import ROOT, alone, answer
from tests.settings import settings_of

SMALL = Keeping(size_max_bytes=2_000, files_max=3, days_max=30)
AT = datetime(2026, 3, 4, 12, 0, tzinfo=UTC)

Lines = Callable[..., None]
Environ = Mapping[str, str]


@pytest.fixture
def environ(tmp_path: Path, store: Store) -> Environ:
    return {
        "BOTSWARM_STATE_DIR": str(tmp_path / "state"),
        "BOTSWARM_INSTANCE_ID": "alpha",
        "BOTSWARM_LOG_ARCHIVE": "s3://bucket/logs",
        "BOTSWARM_BACKUP_S3_ENDPOINT": f"http://127.0.0.1:{store.server_address[1]}",
        "BOTSWARM_BACKUP_S3_ACCESS_KEY": "them",
        "BOTSWARM_BACKUP_S3_SECRET_KEY": "hush-hush",
    }


@pytest.fixture
def settings(tmp_path: Path, environ: Environ) -> Settings:
    return settings_of(tmp_path / "state", **environ)


@pytest.fixture
def carrier(settings: Settings) -> Carrier:
    return carrier_of(settings)


@pytest.fixture
def say(settings: Settings) -> Iterator[Lines]:
    """Lines with numbers, one second after another, as processes write them."""
    files: dict[str, AppendingFile] = {}
    numbers: dict[str, int] = {}

    def write(process: str, count: int = 1, *, keeping: Keeping = SMALL) -> None:
        log = settings.state_dir / "logs" / f"{process}.log"
        file = files.setdefault(process, AppendingFile(log, keeping))
        for _ in range(count):
            number = numbers[process] = numbers.get(process, -1) + 1
            at = (AT + timedelta(seconds=number)).isoformat()
            line = {"time": at, "level": "info", "message": f"{number}", "filled": "x" * 100}
            assert file.write(json.dumps(line))

    yield write
    for file in files.values():
        file.close()


def carried(store: Store, process: str, instance: str = "alpha") -> list[int]:
    """The numbers of all lines that are in the bucket."""
    begin = f"/bucket/logs/{instance}/{process}/"
    found = [gzip.decompress(body) for key, body in store.objects.items() if key.startswith(begin)]
    return sorted(int(json.loads(line)["message"]) for body in found for line in body.splitlines())


def test_each_line_is_carried_once_while_files_are_put_aside_under_other_numbers(
    carrier: Carrier, store: Store, say: Lines
) -> None:
    for _ in range(12):
        say("orders", 7)
        say("feed", 3)
        assert carrier.round().trouble is None
    assert carried(store, "orders") == list(range(84))
    assert carried(store, "feed") == list(range(36))
    assert carrier.round().pieces == []


def test_a_key_says_whose_lines_it_holds_and_of_which_time(
    carrier: Carrier, store: Store, say: Lines
) -> None:
    say("orders", 5)
    (key,) = carrier.round().pieces
    assert key.startswith("alpha/orders/2026-03-04/20260304T120000.000000-20260304T120004.000000-")
    piece = log_pieces.piece_of(key)
    assert piece is not None
    assert (piece.first, piece.last) == (AT, AT + timedelta(seconds=4))
    assert list(store.objects) == [f"/bucket/logs/{key}"]


def test_two_machines_of_one_name_keep_out_of_each_others_way(
    carrier: Carrier, settings: Settings, store: Store, say: Lines, tmp_path: Path, environ: Environ
) -> None:
    say("orders", 5)
    carrier.round()
    other = settings_of(tmp_path / "b", **{**environ, "BOTSWARM_STATE_DIR": str(tmp_path / "b")})
    (other.state_dir / "logs").mkdir(parents=True)
    same = (settings.state_dir / "logs" / "orders.log").read_bytes()
    (other.state_dir / "logs" / "orders.log").write_bytes(same)
    carrier_of(other).round()
    assert carried(store, "orders") == sorted([*range(5), *range(5)])


def test_a_line_that_is_half_written_is_carried_when_it_is_whole(
    carrier: Carrier, settings: Settings, store: Store, say: Lines
) -> None:
    say("orders", 2)
    log = settings.state_dir / "logs" / "orders.log"
    with log.open("ab") as file:
        file.write(b'{"message": "2"')
    carrier.round()
    assert carried(store, "orders") == [0, 1]
    with log.open("ab") as file:
        file.write(b"}\n")
    carrier.round()
    assert carried(store, "orders") == [0, 1, 2]


def test_lines_that_came_late_into_a_file_put_aside_are_carried_too(
    carrier: Carrier, settings: Settings, store: Store, say: Lines
) -> None:
    say("orders", 20)
    carrier.round()
    with (settings.state_dir / "logs" / "orders.log.1").open("ab") as late:
        late.write(b'{"message": "99"}\n')
    carrier.round()
    assert carried(store, "orders") == [*range(20), 99]


def test_a_large_file_becomes_several_pieces_of_whole_lines(
    carrier: Carrier, store: Store, say: Lines, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(log_pieces, "PIECE_MAX", 700)
    say("orders", 40)
    assert len(carrier.round().pieces) > 6
    assert carried(store, "orders") == list(range(40))


KILLED = """
import os, signal, sys
from pathlib import Path
from botswarm.backup import s3
from botswarm.backup.log_carrier import carrier_of
from botswarm.config import load

put = s3.Bucket.put
def then_killed(bucket, name, path):
    put(bucket, name, path)
    os.kill(os.getpid(), signal.SIGKILL)
s3.Bucket.put = then_killed
carrier_of(load(environ=dict(os.environ), folder=Path(sys.argv[1])).settings).round()
"""


def test_a_kill_between_upload_and_mark_carries_no_line_twice(
    carrier: Carrier, store: Store, say: Lines, environ: Environ, tmp_path: Path
) -> None:
    say("orders", 5)
    # Without a time of its own, so that the piece is named after the file's, which goes on.
    with (tmp_path / "state" / "logs" / "orders.log").open("ab") as file:
        file.write(b'{"message": "99"}\n')
    killed = subprocess.run(
        [sys.executable, "-c", KILLED, str(tmp_path)],
        env={**environ, "PYTHONPATH": str(ROOT)},
        check=False,
        timeout=60,
    )
    assert killed.returncode == -signal.SIGKILL
    assert carried(store, "orders") == [*range(5), 99]
    # What it was to carry has grown meanwhile, and was put aside.
    say("orders", 20)
    assert carrier.round().trouble is None
    assert carried(store, "orders") == [*range(25), 99]


def test_a_bucket_that_refuses_gets_all_of_it_later_and_nothing_is_kept_longer(
    carrier: Carrier, settings: Settings, store: Store, say: Lines
) -> None:
    say("orders", 10)
    store.refuses = True
    trouble = carrier.round().trouble
    assert isinstance(trouble, Refused)
    assert "rights" in trouble.cure
    assert "hush-hush" not in f"{trouble} {trouble.cure}"
    say("orders", 10)
    assert list(settings.state_dir.glob("log-archive/piece*")) == []
    store.refuses = False
    assert carrier.round().lost == []
    assert carried(store, "orders") == list(range(20))


def test_what_was_put_away_before_it_was_carried_is_said_once(
    carrier: Carrier, store: Store, say: Lines, caplog: pytest.LogCaptureFixture
) -> None:
    say("orders", 20)
    store.refuses = True
    carrier.round()
    say("orders", 100)
    store.refuses = False
    done = carrier.round()
    assert [each.log.name for each in done.lost] == ["orders.log"] * 2
    assert sum(each.bytes for each in done.lost) > 2_000
    assert "put away before all of it was carried" in caplog.text
    assert carrier.round().lost == []
    kept = carried(store, "orders")
    assert kept == list(range(kept[0], 120))


def test_a_file_that_was_put_away_after_it_was_carried_is_not_missed(
    carrier: Carrier, say: Lines
) -> None:
    for _ in range(30):
        say("orders", 10)
        assert carrier.round().lost == []


def test_files_are_not_renamed_while_they_are_looked_at(
    carrier: Carrier, store: Store, say: Lines, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One would be missed, be taken for a new one by the next round, and be carried again."""
    for _ in range(6):
        say("orders", 5)
        carrier.round()
    known = log_pieces.identity
    writing = threading.Thread(target=say, args=("orders", 8))

    def after_a_while(descriptor: int, *, is_put_aside: bool) -> str | None:
        if writing.ident is None:
            writing.start()
            writing.join(0.3)
        return known(descriptor, is_put_aside=is_put_aside)

    monkeypatch.setattr(log_pieces, "identity", after_a_while)
    done = carrier.round()
    writing.join()
    assert (done.trouble, done.lost) == (None, [])
    carrier.round()
    assert carried(store, "orders") == list(range(38))


def test_another_place_gets_all_that_is_still_here(
    carrier: Carrier, say: Lines, tmp_path: Path, environ: Environ
) -> None:
    say("orders", 5)
    carrier.round()
    elsewhere = tmp_path / "elsewhere"
    settings = settings_of(
        tmp_path / "state", **{**environ, "BOTSWARM_LOG_ARCHIVE": str(elsewhere)}
    )
    trouble = carrier_of(settings).round().trouble
    assert isinstance(trouble, Unreachable)
    assert "does not exist" in str(trouble)
    elsewhere.mkdir()
    (key,) = carrier_of(settings).round().pieces
    assert gzip.decompress((elsewhere / key).read_bytes()).count(b"\n") == 5
    assert oct((elsewhere / key).stat().st_mode & 0o777) == "0o600"


def test_marks_that_cannot_be_written_end_the_round_with_a_word_about_it(
    carrier: Carrier, settings: Settings, say: Lines
) -> None:
    say("orders", 5)
    (settings.state_dir / "log-archive").write_text("a file where the folder should be")
    trouble = carrier.round().trouble
    assert isinstance(trouble, Unreachable)
    assert "log-archive" in str(trouble)


@pytest.mark.parametrize("key", [None, KEY], ids=["plain", "sealed"])
def test_lines_are_fetched_on_another_machine_as_they_were(
    say: Lines, tmp_path: Path, environ: Environ, store: Store, key: str | None
) -> None:
    sealed = {} if key is None else {"BOTSWARM_BACKUP_KEY": key}
    here = settings_of(tmp_path / "state", **environ, **sealed)
    for _ in range(6):
        say("orders", 7)
        carrier_of(here).round()
    assert (
        any(b"message" in gzip.decompress(body) for body in store.objects.values())
        if (key is None)
        else all(not body.startswith(b"\x1f\x8b") for body in store.objects.values())
    )
    there = settings_of(
        tmp_path / "there", **{**environ, **sealed, "BOTSWARM_STATE_DIR": str(tmp_path / "there")}
    )
    wanted = Wanted(
        instance_id="alpha",
        process=None,
        since=AT + timedelta(seconds=20),
        until=AT + timedelta(seconds=90),
    )
    done = fetcher_of(there).fetch(wanted, tmp_path / "fetched")
    assert done.damaged == []
    lines = (tmp_path / "fetched" / "logs" / "orders.log").read_text().splitlines()
    numbers = [int(json.loads(line)["message"]) for line in lines]
    assert numbers == list(range(numbers[0], 42))
    assert 0 < numbers[0] <= 20
    with pytest.raises(Refused, match="already"):
        fetcher_of(there).fetch(wanted, tmp_path / "fetched")


def test_lines_that_were_carried_twice_are_fetched_once(
    carrier: Carrier, settings: Settings, say: Lines, tmp_path: Path, store: Store
) -> None:
    say("orders", 5)
    carrier.round()
    (settings.state_dir / "log-archive" / "marks.json").unlink()
    say("orders", 5)
    carrier.round()
    assert len(carried(store, "orders")) == 15
    wanted = Wanted(instance_id="alpha", process="orders", since=AT, until=AT + timedelta(days=1))
    fetcher_of(settings).fetch(wanted, tmp_path / "fetched")
    lines = (tmp_path / "fetched" / "logs" / "orders.log").read_text().splitlines()
    assert [int(json.loads(line)["message"]) for line in lines] == list(range(10))


def test_a_piece_that_was_spoilt_is_named_and_the_others_are_there(
    carrier: Carrier, settings: Settings, say: Lines, tmp_path: Path, store: Store
) -> None:
    for _ in range(2):
        say("orders", 5)
        carrier.round()
    store.objects[sorted(store.objects)[0]] = b"no gzip"
    wanted = Wanted(instance_id="alpha", process=None, since=AT, until=AT + timedelta(days=1))
    done = fetcher_of(settings).fetch(wanted, tmp_path / "fetched")
    assert (len(done.damaged), done.pieces) == (1, 1)


def test_a_swarm_that_ends_leaves_no_line_behind(
    settings: Settings, store: Store, say: Lines
) -> None:
    carrying = Carrying(settings)
    carrying.start()
    say("up", 3)
    carrying.stop()
    assert carried(store, "up") == [0, 1, 2]


def test_a_place_that_refuses_is_told_until_it_takes_lines_again(
    settings: Settings, store: Store, say: Lines, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("botswarm.backup.log_carrying.AGAIN_S", 0.05)
    say("orders", 3)
    store.refuses = True
    carrying = Carrying(settings)
    carrying.start()
    try:
        wait_until(lambda: carrying.reach.failing() is not None, "it is refused", 10)
        store.refuses = False
        wait_until(lambda: carrying.reach.failing() is None, "it is let in", 10)
    finally:
        carrying.stop()
    assert carried(store, "orders") == [0, 1, 2]


def test_a_place_that_hangs_does_not_hold_up_the_end(
    settings: Settings,
    say: Lines,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    release = threading.Event()
    monkeypatch.setattr(Bucket, "put", lambda *_: release.wait(30))
    say("orders", 3)
    carrying = Carrying(settings)
    carrying.start()
    began = time.monotonic()
    carrying.stop(limit_s=0.2)
    assert time.monotonic() - began < 5
    release.set()
    assert "botswarm logs archive" in caplog.text


# --- commands -------------------------------------------------------------------------------------


def test_the_commands_carry_and_fetch(
    environ: Environ,
    store: Store,
    say: Lines,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    alone(monkeypatch, tmp_path, **environ)
    say("orders", 5)
    dry: Any = answer(capsys, "logs", "archive", "--dry-run")
    assert dry["data"]["files"][0]["bytes"] > 500
    assert store.objects == {}
    done: Any = answer(capsys, "logs", "archive")
    assert len(done["data"]["pieces"]) == 1
    since = ["--since", "2026-03-04"]
    got: Any = answer(capsys, "logs", "fetch", str(tmp_path / "got"), *since)
    assert got["data"]["processes"] == ["orders"]
    absent: Any = answer(capsys, "logs", "fetch", "x", "--instance", "beta", *since, exits=4)
    assert "--instance" in absent["error"]["cure"]
    store.refuses = True
    say("orders", 5)
    assert answer(capsys, "logs", "archive", exits=6)["data"]["pieces"] == []
    say("orders", 100)
    store.refuses = False
    lost: Any = answer(capsys, "logs", "archive", exits=3)
    assert lost["error"]["code"] == "BSW-3021"


def test_without_a_place_the_command_says_how_to_name_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    alone(monkeypatch, tmp_path)
    assert "BOTSWARM_LOG_ARCHIVE" in answer(capsys, "logs", "archive", exits=4)["error"]["cure"]


def test_a_bucket_without_keys_is_refused_at_the_start(tmp_path: Path) -> None:
    with pytest.raises(Misconfigured, match="BOTSWARM_LOG_ARCHIVE is set, and not both"):
        settings_of(tmp_path, BOTSWARM_LOG_ARCHIVE="s3://bucket/logs")


def test_files_of_another_user_are_left_to_him(
    carrier: Carrier, say: Lines, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The lock that root would leave beside them could not be taken by those who write them."""
    say("orders", 5)
    monkeypatch.setattr(os, "geteuid", lambda: 12345)
    assert isinstance(carrier.round().trouble, Refused)
