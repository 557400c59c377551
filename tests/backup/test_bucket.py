"""Backups in a bucket: signed as Amazon says, whole or not there, and fetched as they were."""

from __future__ import annotations

import shutil
import threading
from contextlib import closing
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import pytest

from botswarm.backup import archiving, page_archive
from botswarm.backup.archiving import PageArchive, Progress
from botswarm.backup.create import create, try_out
from botswarm.backup.folder import Backup, State
from botswarm.backup.place import Place
from botswarm.backup.reach import Reach
from botswarm.backup.remote import Remote, remote_of
from botswarm.backup.s3 import EMPTY, Bucket, Keys, Request, bucket_of, signed
from botswarm.backup.sealing import Damaged
from botswarm.cli.backup_archive import finding_of
from botswarm.clock import StoppedClock
from botswarm.config import Secret
from botswarm.errors import NotFound, Refused, Unreachable
from botswarm.health.table import BY_NAME
from botswarm.ledger.session import Database
from botswarm.ledger.store import Ledger
from botswarm.testing.servers import free_port, wait_until
from tests.backup.conftest import KEY, PlaceOf
from tests.backup.object_store import Store

# From Amazon's own pages on the signature of requests to S3.
EXAMPLE = Keys(
    access="AKIAIOSFODNN7EXAMPLE",
    secret=Secret("wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY"),
    region="us-east-1",
)
AT = datetime(2013, 5, 24, tzinfo=UTC)
HOST = "examplebucket.s3.amazonaws.com"


@pytest.mark.parametrize(
    ("path", "query", "headers", "signature"),
    [
        (
            "/test.txt",
            {},
            {"Range": "bytes=0-9"},
            "f0e8bdb87c964420e857bd35b5d6ed310bd44f0170aba48dd91039c6036bdb41",
        ),
        (
            "/",
            {"lifecycle": ""},
            {},
            "fea454ca298b7da1c68078a5d1bdbfbbe0d65c699e0f91ac7a200a0136783543",
        ),
        (
            "/",
            {"max-keys": "2", "prefix": "J"},
            {},
            "34b48302e7b5fa45bde8084f4b7868a86f0a534bc59db6670ed5711ef69dc6f7",
        ),
    ],
    ids=["get", "lifecycle", "list"],
)
def test_requests_are_signed_as_in_amazons_own_examples(
    path: str, query: dict[str, str], headers: dict[str, str], signature: str
) -> None:
    request = Request(
        method="GET", host=HOST, path=path, query=query, headers=headers, payload_hash=EMPTY
    )
    assert signed(request, EXAMPLE, AT)["authorization"].endswith(f"Signature={signature}")


@pytest.fixture
def bucket(sqlite_url: str, place_for: PlaceOf, store: Store) -> Place:
    return place_for(
        sqlite_url,
        backup_key=KEY,
        backup_s3_url="s3://bucket/ours",
        backup_s3_endpoint=f"http://127.0.0.1:{store.server_address[1]}",
        backup_s3_access_key="them",
        backup_s3_secret_key="hush-hush",
    )


def remote(place: Place) -> Remote:
    found = remote_of(place)
    assert found is not None
    return found


def emptied(place: Place) -> None:
    shutil.rmtree(place.folder.path)
    place.folder.path.mkdir()


def test_a_backup_comes_back_from_the_bucket_as_it_was(bucket: Place) -> None:
    made = try_out(bucket, create(bucket).backup)
    assert remote(bucket).push(made) == 6
    assert remote(bucket).push(made) == 1
    emptied(bucket)
    assert remote(bucket).ids() == [made.id]
    fetched = remote(bucket).fetch("latest")
    assert fetched.state is State.GOOD
    assert fetched.parts == made.parts
    try_out(bucket, fetched)


def test_the_archive_comes_back_from_the_bucket_too(bucket: Place) -> None:
    with (
        closing(Database(bucket.database_url)) as database,
        closing(PageArchive(bucket, database)) as archive,
    ):
        start = archive.begin()
        remote(bucket).push(start)
        for name in ("one", "two"):
            with closing(Ledger(bucket.database_url)) as ledger:
                ledger.heartbeats.beat(name, "test", datetime.now(UTC))
            archive.carry()
            assert remote(bucket).push_archive() > 0
    pieces = page_archive.pieces_of(bucket.folder, start.id, bucket.key)
    before = [piece.sha256 for piece in pieces.list()]
    emptied(bucket)
    remote(bucket).fetch(start.id)
    assert page_archive.check(pieces) == 3
    assert [piece.sha256 for piece in pieces.list()] == before


def test_what_the_archive_writes_while_it_is_carried_there_does_not_spoil_it(
    bucket: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    with (
        closing(Database(bucket.database_url)) as database,
        closing(PageArchive(bucket, database)) as archive,
    ):
        start = archive.begin()
        remote(bucket).push(start)
        put = Bucket.put

        def while_it_goes_on(there: Bucket, key: str, path: Path) -> None:
            with closing(Ledger(bucket.database_url)) as ledger:
                ledger.heartbeats.beat("meanwhile", "test", datetime.now(UTC))
            archive.carry()
            put(there, key, path)

        monkeypatch.setattr(Bucket, "put", while_it_goes_on)
        assert remote(bucket).push_archive() > 0
    emptied(bucket)
    remote(bucket).fetch(start.id)
    assert page_archive.check(page_archive.pieces_of(bucket.folder, start.id, bucket.key)) > 0


def test_a_piece_that_goes_while_it_is_carried_there_is_left_out(
    bucket: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A segment that is still being written gives way to what it becomes."""
    folder = bucket.folder.path / "wal"
    folder.mkdir(parents=True)
    for name in ("a", "b"):
        (folder / name).write_text(name)
    put = Bucket.put

    def after_it_went(there: Bucket, key: str, path: Path) -> None:
        if path.name == "a":
            path.unlink()
        put(there, key, path)

    monkeypatch.setattr(Bucket, "put", after_it_went)
    assert remote(bucket).push_archive() == 1


def test_a_bucket_that_hangs_holds_up_no_round_of_the_archive(
    sqlite_url: str, place_for: PlaceOf, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is lost with the machine is what was not carried into the folder."""
    place = place_for(sqlite_url, backup_archive_every_s="1")
    asked, answer, stop = threading.Event(), threading.Event(), threading.Event()

    class Hanging:
        def holds(self, _: Backup) -> bool:
            return True

        def push_archive(self) -> int:
            asked.set()
            answer.wait(30)
            return 0

    class Rounds(Progress):
        count = 0

        def turned(self) -> None:
            super().turned()
            self.count += 1

    monkeypatch.setattr(archiving, "remote_of", lambda _: Hanging())
    rounds = Rounds(place)
    running = threading.Thread(target=archiving.run, args=(place, stop, rounds))
    running.start()
    try:
        assert asked.wait(20)
        before = rounds.count
        wait_until(lambda: rounds.count >= before + 2, "two more rounds", 10)
    finally:
        stop.set()
        answer.set()
        running.join()


def test_a_bucket_that_refuses_the_archive_is_noticed_until_it_lets_it_in_again(
    bucket: Place, store: Store
) -> None:
    often = replace(bucket, settings=replace(bucket.settings, backup_archive_every_s=1))
    progress, stop = Progress(often), threading.Event()
    store.refuses = True
    running = threading.Thread(target=archiving.run, args=(often, stop, progress))
    running.start()
    try:
        wait_until(lambda: progress.reach.failing() is not None, "it is refused", 20)
        failing = progress.reach.failing()
        assert failing is not None
        assert "does not let us in" in failing[1]
        store.refuses = False
        wait_until(lambda: progress.reach.failing() is None, "it is let in", 20)
    finally:
        stop.set()
        running.join()


def test_the_copy_that_the_archive_goes_on_from_is_carried_where_the_bucket_refused_it_first(
    bucket: Place, store: Store
) -> None:
    """Without it nothing that came after it could be brought back from there."""
    often = replace(bucket, settings=replace(bucket.settings, backup_archive_every_s=1))
    progress, stop = Progress(often), threading.Event()
    refused = store.refusals
    store.refuses = True
    running = threading.Thread(target=archiving.run, args=(often, stop, progress))
    running.start()
    try:
        wait_until(lambda: State.GOOD in _states(bucket), "a copy that is good", 20)
        wait_until(lambda: store.refusals > refused + 3, "it is refused", 20)
        store.refuses = False
        wait_until(lambda: list(remote(bucket).ids()) == _ids(bucket), "the copy is there", 20)
    finally:
        stop.set()
        running.join()
    emptied(bucket)
    assert remote(bucket).fetch("latest").state is State.GOOD


def _states(place: Place) -> list[State]:
    return [each.state for each in place.folder.list()[0]]


def _ids(place: Place) -> list[str]:
    return [each.id for each in place.folder.list()[0]]


def test_nothing_that_reaches_the_bucket_for_five_minutes_is_a_failure_with_its_cause() -> None:
    clock = StoppedClock(AT)
    reach, line = Reach(clock), BY_NAME["bucket"]
    assert line.judged(finding_of(reach)) == "ok"
    reach.failed("403 AccessDenied")
    clock.advance(200)
    # That it fails again, or for another reason, does not make it younger.
    reach.failed("503 SlowDown")
    assert line.judged(finding_of(reach)) == "warn"
    clock.advance(101)
    assert line.judged(finding_of(reach)) == "fail"
    assert finding_of(reach).words == "nothing has arrived for 301 s: 503 SlowDown"
    reach.reached()
    assert line.judged(finding_of(reach)) == "ok"


def test_what_was_cut_off_on_its_way_is_no_backup(bucket: Place, store: Store) -> None:
    made = try_out(bucket, create(bucket).backup)
    remote(bucket).push(made)
    del store.objects[f"/bucket/ours/{made.id}/SHA256SUMS"]
    assert remote(bucket).ids() == []
    with pytest.raises(NotFound):
        remote(bucket).fetch("latest")


def test_a_spoilt_object_is_noticed(bucket: Place, store: Store) -> None:
    made = try_out(bucket, create(bucket).backup)
    remote(bucket).push(made)
    key = next(key for key in store.objects if "ledger.sqlite" in key)
    store.objects[key] = bytes([store.objects[key][0] ^ 1]) + store.objects[key][1:]
    emptied(bucket)
    fetched = remote(bucket).fetch("latest")
    with pytest.raises(Damaged):
        try_out(bucket, fetched)
    assert bucket.folder.read(made.id).state is State.WRITTEN


def test_a_bucket_that_does_not_let_us_in_says_what_to_look_at(bucket: Place, store: Store) -> None:
    made = create(bucket).backup
    store.refuses = True
    with pytest.raises(Refused, match="SignatureDoesNotMatch") as caught:
        remote(bucket).push(made)
    assert "rights" in caught.value.cure
    assert "hush-hush" not in str(caught.value)
    gone = free_port()
    with pytest.raises(Unreachable, match="cannot be reached"):
        Remote(_elsewhere(bucket, gone), bucket.folder).push(made)


def _elsewhere(place: Place, port: int) -> Bucket:
    settings = replace(place.settings, backup_s3_endpoint=f"http://127.0.0.1:{port}")
    found = bucket_of(settings)
    assert found is not None
    return found
