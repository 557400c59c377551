"""A backup is there whole or not at all, and good only when it was brought back once."""

from __future__ import annotations

import gzip
import io
import os
import signal
import sqlite3
import subprocess
import sys
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from botswarm.backup import create as making
from botswarm.backup import files, postgresql, sides
from botswarm.backup.age import age_of
from botswarm.backup.create import create, try_out
from botswarm.backup.folder import SUMS, WRITING, Method, State
from botswarm.backup.place import Place
from botswarm.backup.postgresql import Server
from botswarm.backup.sealing import Damaged, WrongKey
from botswarm.errors import Refused, Unreachable
from botswarm.ledger.store import Ledger
from tests.backup.conftest import FILLS, KEY, OTHER_KEY, PlaceOf


def test_a_backup_counts_as_good_only_when_it_was_brought_back(place: Place) -> None:
    made = create(place).backup
    assert made.state is State.WRITTEN
    assert age_of(place.folder, place.clock.now()).backup is None
    done = try_out(place, made)
    assert done.state is State.GOOD
    assert age_of(place.folder, place.clock.now()).backup == done.id
    with closing(Ledger(place.database_url)) as ledger:
        (kept,) = ledger.backups.list()
    assert (kept.id, kept.state, kept.chain_sequence) == (done.id, "good", FILLS)


def test_what_is_brought_back_says_of_itself_what_the_ledger_says(
    sqlite_place: Place,
) -> None:
    place = sqlite_place
    made = create(place).backup
    with sides.beside(place, made, is_trial=True) as (side, _):
        found = sides.facts_of(side.url)
    now = sides.facts_of(place.database_url)
    assert found.chain_sequence == FILLS
    assert found.rows["postings"] == now.rows["postings"] > 4 * FILLS
    assert found.balances == now.balances
    assert found.positions == now.positions


def test_nothing_is_left_beside_the_ledger_after_a_trial(
    sqlite_place: Place,
) -> None:
    place = sqlite_place
    made = create(place).backup
    try_out(place, made)
    assert [each.name for each in place.folder.path.glob(".side-*")] == []
    with sides.beside(place, made, is_trial=True) as (side, _):
        gone = side.url
    with pytest.raises(Unreachable):
        sides.facts_of(gone)


def test_what_a_killed_trial_left_is_swept_by_the_next_and_not_while_one_goes_on(
    place: Place,
) -> None:
    is_sqlite = place.database_url.reveal().startswith("sqlite")
    server = None if is_sqlite else Server(place.database_url)
    left = place.folder.path / ".side-abcdef.db"
    name = "" if server is None else postgresql.side_name(server.name, "side_abcdef")

    def leave() -> None:
        left.write_text("half a ledger")
        if server is not None:
            server.create(name)

    def another() -> None:
        with place.folder.in_use(lambda: sides.sweep(place)):
            pass

    with place.folder.in_use(leave):
        another()
        assert left.exists()
        assert server is None or server.exists(name)
    another()
    assert not left.exists()
    assert server is None or not server.exists(name)


def test_a_sealed_backup_opens_with_its_key_alone(url: str, place_for: PlaceOf) -> None:
    sealed = place_for(url, backup_key=KEY)
    made = try_out(sealed, create(sealed).backup)
    assert made.manifest.sealed_by == sealed.key.id if sealed.key else False
    for part in made.parts:
        content = (made.path / part.name).read_bytes()
        assert b"bot1" not in content
        assert b"SQLite format" not in content
    for other in (place_for(url, backup_key=OTHER_KEY), place_for(url)):
        with pytest.raises(WrongKey, match="sealed by the key"):
            making.check(other, made)
        # It is not the backup that is wrong.
        assert other.folder.read(made.id).state is State.GOOD


def test_secrets_are_taken_only_into_sealed_backups(
    sqlite_url: str, place_for: PlaceOf, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / ".env").write_text("# hush-hush\n")
    (tmp_path / "state" / "master.key").write_text("hush-hush")
    (tmp_path / "state" / "master.key").chmod(0o600)
    (tmp_path / "state" / "exchange-journal.jsonl").write_text('{"play": "money"}\n')

    def files_of(place: Place) -> bytes:
        made = create(place).backup
        path = made.part(sides.FILES)
        from botswarm.backup import sealing

        return sealing.read_bytes(path, made.manifest.label(path.name), place.key)

    plain = files_of(place_for(sqlite_url))
    assert b"play" in plain
    assert b"hush-hush" not in plain
    assert files_of(place_for(sqlite_url, backup_key=KEY)).count(b"hush-hush") == 2


@pytest.mark.parametrize(
    ("text", "is_sealed", "is_in"),
    [
        ('log_level = "debug"\n', False, True),
        ('binance_api_secret = "hush-hush"\n', False, False),
        ("no TOML, and hush-hush\n", False, False),
        ('binance_api_secret = "hush-hush"\n', True, True),
    ],
)
def test_a_configuration_with_secrets_is_taken_only_into_sealed_backups(
    sqlite_place: Place, tmp_path: Path, text: str, is_sealed: bool, is_in: bool
) -> None:
    (tmp_path / "botswarm.toml").write_text(text)
    packed = io.BytesIO()
    left = files.pack(sqlite_place.settings, packed, is_sealed=is_sealed, folder=tmp_path)
    assert (text.encode() in packed.getvalue()) is is_in
    assert [each.partition(" ")[0] for each in left] == ([] if is_in else ["botswarm.toml"])


def test_a_plain_backup_of_sqlite_opens_with_gunzip_alone(
    sqlite_url: str, place_for: PlaceOf, tmp_path: Path
) -> None:
    made = create(place_for(sqlite_url)).backup
    assert made.manifest.method is Method.COPY
    path = tmp_path / "by-hand.db"
    path.write_bytes(gzip.decompress(made.part(sides.SQLITE_FILE).read_bytes()))
    with closing(sqlite3.connect(path)) as connection:
        assert connection.execute("SELECT count(*) FROM fills").fetchone() == (FILLS,)


def test_the_sums_are_those_that_sha256sum_checks(sqlite_url: str, place_for: PlaceOf) -> None:
    made = create(place_for(sqlite_url)).backup
    done = subprocess.run(
        ["sha256sum", "--check", "--strict", SUMS], cwd=made.path, capture_output=True, check=False
    )
    assert done.returncode == 0, done.stderr


def test_two_are_never_written_at_once(sqlite_url: str, place_for: PlaceOf) -> None:
    place = place_for(sqlite_url)
    with place.folder.lock(), pytest.raises(Refused, match="another backup is being written"):
        create(place)


def test_a_copy_shows_one_moment_while_others_write(sqlite_url: str, place_for: PlaceOf) -> None:
    place = place_for(sqlite_url)
    program = (
        "import sqlite3, sys\n"
        "c = sqlite3.connect(sys.argv[1], isolation_level=None, timeout=30)\n"
        "c.execute('PRAGMA journal_mode=WAL')\n"
        "c.execute('CREATE TABLE pairs (a, b)')\n"
        "print('go', flush=True)\n"
        "n = 0\n"
        "while True:\n"
        "    n += 1\n"
        "    c.execute('BEGIN IMMEDIATE')\n"
        "    c.execute('INSERT INTO pairs VALUES (?, randomblob(3000))', (n,))\n"
        "    c.execute('UPDATE chain_head SET id = id')\n"
        "    c.execute('INSERT INTO pairs VALUES (?, randomblob(3000))', (-n,))\n"
        "    c.execute('COMMIT')\n"
    )
    path = sqlite_url.removeprefix("sqlite:///")
    with subprocess.Popen(
        [sys.executable, "-c", program, path], stdout=subprocess.PIPE, text=True
    ) as writer:
        try:
            assert writer.stdout is not None
            assert writer.stdout.readline() == "go\n"
            made = create(place).backup
        finally:
            writer.kill()
    with (
        sides.beside(place, made, is_trial=True) as (side, _),
        closing(sqlite3.connect(side.url.removeprefix("sqlite:///"))) as connection,
    ):
        total, count = connection.execute("SELECT sum(a), count(*) FROM pairs").fetchone()
    assert (total or 0, count % 2) == (0, 0)


@pytest.mark.parametrize("after_ms", [0, 400])
def test_a_killed_writer_leaves_nothing_that_counts(
    sqlite_url: str, place_for: PlaceOf, after_ms: int, tmp_path: Path
) -> None:
    place = place_for(sqlite_url)
    program = (
        "import sys\n"
        "from pathlib import Path\n"
        "from botswarm.backup import create, sealing\n"
        "from botswarm.backup.place import place_of\n"
        "from botswarm.config import load\n"
        "real, left = sealing.force, [int(sys.argv[1])]\n"
        "def force(file):\n"
        "    real(file)\n"
        "    left[0] -= 150\n"
        "    if left[0] < 0: import os, signal; os.kill(os.getpid(), signal.SIGKILL)\n"
        "sealing.force = force\n"
        "create.create(place_of(load(environ=dict(e.split('=', 1) for e in sys.argv[2:]),\n"
        "    folder=Path('.')).settings))\n"
    )
    words = [
        f"BOTSWARM_STATE_DIR={tmp_path / 'state'}",
        f"BOTSWARM_BACKUP_DIR={place.folder.path}",
        f"BOTSWARM_DATABASE_URL={sqlite_url}",
    ]
    done = subprocess.run(
        [sys.executable, "-c", program, str(after_ms), *words],
        capture_output=True,
        check=False,
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(Path(making.__file__).parents[2])},
    )
    assert done.returncode == -signal.SIGKILL, done.stderr
    assert len(list(place.folder.path.glob(f"*{WRITING}"))) == 1
    assert place.folder.list() == ([], [])
    made = create(place).backup
    assert list(place.folder.path.glob(f"*{WRITING}")) == []
    assert place.folder.list()[0] == [made]


def test_a_full_disk_leaves_nothing_that_counts_and_says_so(
    sqlite_url: str, place_for: PlaceOf, tmp_path: Path
) -> None:
    place = place_for(sqlite_url)
    # What the system refuses to write past a bound it refuses as it does on a full disk.
    program = (
        "import resource, signal, sys\n"
        "signal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))\n"
        "from botswarm.cli import main\n"
        "main(sys.argv[1:])\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program, "backup", "create"],
        capture_output=True,
        text=True,
        check=False,
        cwd=tmp_path,
        env={
            **os.environ,
            "PYTHONPATH": str(Path(making.__file__).parents[2]),
            "BOTSWARM_STATE_DIR": str(tmp_path / "state"),
            "BOTSWARM_BACKUP_DIR": str(place.folder.path),
        },
    )
    assert done.returncode == 5, done.stderr
    assert "make room" in done.stderr
    assert "Traceback" not in done.stderr
    assert place.folder.list() == ([], [])
    assert list(place.folder.path.glob("2*")) == []


def test_a_ledger_whose_chain_is_broken_is_not_saved_as_if_it_were_whole(
    sqlite_url: str, place_for: PlaceOf
) -> None:
    with closing(sqlite3.connect(sqlite_url.removeprefix("sqlite:///"))) as connection:
        connection.execute("UPDATE entries SET hash = 'x' WHERE sequence = 17")
        connection.commit()
    with pytest.raises(Damaged, match="broken in 1 places"):
        create(place_for(sqlite_url))


def test_a_gate_asks_for_an_age(sqlite_url: str, place_for: PlaceOf) -> None:
    place = place_for(sqlite_url)
    try_out(place, create(place).backup)
    now = datetime.now(UTC)
    assert age_of(place.folder, now).is_within(timedelta(hours=1))
    assert not age_of(place.folder, now + timedelta(hours=2)).is_within(timedelta(hours=1))
