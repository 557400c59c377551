"""The journal keeps every record but a torn last one, and stays bounded."""

from __future__ import annotations

import errno
import os
import random
from array import array
from pathlib import Path

import pytest

from botswarm.broker.journal import (
    DEFINE,
    DELIVERED,
    GONE,
    SNAPSHOT,
    Journal,
    Replay,
    is_disk_trouble,
)
from botswarm.errors import Unreachable

QUEUE = 7


def opened(folder: Path, *, segment_bytes: int = 1 << 20) -> tuple[Journal, Replay]:
    journal = Journal(folder, lambda: b"[]", fsync=False, segment_bytes=segment_bytes)
    replay = journal.open(lambda _kind, _payload: None)
    journal.start()
    return journal, replay


def publish(journal: Journal, message_id: int, body: bytes = b"body", **changes: int) -> int:
    location, size = journal.append_publish(
        message_id, 1, True, 0, changes.get("deliveries", 0), (QUEUE,), b"\0\1q", b"head", body
    )
    journal.live_bytes += size
    return location


def ids_after_restart(folder: Path) -> list[int]:
    journal, replay = opened(folder)
    journal.close()
    return sorted(replay.queue(QUEUE).locations)


def only_segment(folder: Path) -> Path:
    return min(folder.glob("journal-*.log"))


def test_what_was_flushed_is_there_after_a_restart(tmp_path: Path) -> None:
    journal, _ = opened(tmp_path)
    for message_id in (1, 2, 3):
        publish(journal, message_id)
    journal.append_ids(GONE, QUEUE, [2])
    journal.flush()
    assert ids_after_restart(tmp_path) == [1, 3]


def test_a_message_is_read_back_as_it_was_written(tmp_path: Path) -> None:
    journal, _ = opened(tmp_path)
    bodies = [os.urandom(size) for size in (0, 1, 70_000, 3_000_000)]
    locations = array("Q", (publish(journal, i, body) for i, body in enumerate(bodies)))
    read = list(journal.read(locations))
    assert [found.body for found in read if found is not None] == bodies
    assert {(found.address, found.head) for found in read if found} == {(b"\0\1q", b"head")}


def test_a_last_record_torn_at_any_byte_takes_nothing_else_with_it(tmp_path: Path) -> None:
    journal, _ = opened(tmp_path / "whole")
    publish(journal, 1)
    journal.flush()
    before = only_segment(journal.folder).stat().st_size
    publish(journal, 2)
    journal.flush()
    whole = only_segment(journal.folder).read_bytes()
    for cut in range(before, len(whole)):
        folder = tmp_path / str(cut)
        folder.mkdir()
        (folder / "journal-00000001.log").write_bytes(whole[:cut])
        assert ids_after_restart(folder) == [1]


def test_what_one_flush_wrote_comes_back_whole_or_not_at_all(tmp_path: Path) -> None:
    """A dead letter and the end of the message it was made of are one flush."""
    journal, _ = opened(tmp_path / "whole")
    publish(journal, 1)
    journal.flush()
    before = only_segment(journal.folder).stat().st_size
    publish(journal, 2)
    journal.append_ids(GONE, QUEUE, [1])
    journal.flush()
    whole = only_segment(journal.folder).read_bytes()
    for cut in range(before, len(whole) + 1):
        folder = tmp_path / str(cut)
        folder.mkdir()
        (folder / "journal-00000001.log").write_bytes(whole[:cut])
        assert ids_after_restart(folder) == ([2] if cut == len(whole) else [1])


def test_a_segment_killed_while_being_born_is_no_obstacle(tmp_path: Path) -> None:
    journal, _ = opened(tmp_path)
    publish(journal, 1)
    journal.flush()
    (tmp_path / "journal-00000002.log").write_bytes(b"botswarm-jour")
    assert ids_after_restart(tmp_path) == [1]


def test_a_rotten_record_costs_itself_only(tmp_path: Path) -> None:
    journal, _ = opened(tmp_path)
    publish(journal, 1)
    second = publish(journal, 2, b"x" * 100)
    publish(journal, 3)
    journal.flush()
    path = only_segment(tmp_path)
    data = bytearray(path.read_bytes())
    data[(second & 0xFFFFFFFF) + 80] ^= 1
    path.write_bytes(data)
    journal, replay = opened(tmp_path)
    assert sorted(replay.queue(QUEUE).locations) == [1, 3]
    assert replay.skipped == 1


@pytest.mark.parametrize("byte", range(9))
def test_a_rotten_record_head_costs_no_later_flush(tmp_path: Path, byte: int) -> None:
    """Even a wrong length: reading goes on at the next place that is certain."""
    journal, _ = opened(tmp_path)
    for message_id in (1, 2, 3, 4):
        location = publish(journal, message_id, b"x" * 300)
        if message_id == 2:
            rotten = (location & 0xFFFFFFFF) + byte
        journal.flush()
    path = only_segment(tmp_path)
    data = bytearray(path.read_bytes())
    data[rotten] ^= 0x41
    path.write_bytes(data)
    journal, replay = opened(tmp_path)
    assert sorted(replay.queue(QUEUE).locations) == [1, 3, 4]
    assert replay.skipped >= 1


def test_a_file_that_is_no_journal_is_refused_by_name(tmp_path: Path) -> None:
    (tmp_path / "journal-00000001.log").write_bytes(b"something else entirely, from elsewhere")
    with pytest.raises(Unreachable, match=r"journal-00000001\.log is not a journal") as caught:
        opened(tmp_path)
    assert "move it away" in caught.value.cure


def test_every_delivery_counts_across_restarts(tmp_path: Path) -> None:
    journal, _ = opened(tmp_path)
    publish(journal, 1)
    journal.append_ids(DELIVERED, QUEUE, [1])
    journal.close()
    journal, _ = opened(tmp_path)
    journal.append_ids(DELIVERED, QUEUE, [1])
    journal.close()
    _, replay = opened(tmp_path)
    assert replay.queue(QUEUE).deliveries == {1: 2}


def test_a_copy_made_by_the_cleaner_says_how_often_it_was_delivered(tmp_path: Path) -> None:
    journal, _ = opened(tmp_path)
    publish(journal, 1)
    journal.append_ids(DELIVERED, QUEUE, [1])
    publish(journal, 1, deliveries=1)
    journal.close()
    _, replay = opened(tmp_path)
    assert replay.queue(QUEUE).deliveries == {1: 1}


def test_definitions_reach_the_reader_in_order(tmp_path: Path) -> None:
    journal, _ = opened(tmp_path)
    journal.append(DEFINE, b"one")
    journal.append(DEFINE, b"two")
    journal.close()
    seen: list[tuple[int, bytes]] = []
    again = Journal(tmp_path, lambda: b"[]", fsync=False)
    again.open(lambda kind, payload: seen.append((kind, payload)))
    assert seen == [(SNAPSHOT, b"[]"), (DEFINE, b"one"), (DEFINE, b"two")]


def test_the_journal_stays_bounded_while_messages_come_and_go(tmp_path: Path) -> None:
    """A few old messages stay for ever amid ten thousands that pass through."""
    journal, _ = opened(tmp_path, segment_bytes=64 * 1024)
    dice = random.Random(1)
    alive: dict[int, int] = {}  # id -> bytes it keeps alive
    largest = 0
    for message_id in range(1, 20_001):
        before = journal.live_bytes
        publish(journal, message_id, b"x" * 50)
        alive[message_id] = journal.live_bytes - before
        if message_id > 50 and dice.random() < 0.999:
            gone = next(i for i in reversed(alive) if i > 50 or len(alive) > 60)
            journal.live_bytes -= alive.pop(gone)
            journal.append_ids(GONE, QUEUE, [gone])
        journal.flush()
        while journal.wants_cleaning():
            for found in journal.oldest_messages():
                if found.id in alive:
                    publish(journal, found.id, found.body)
                    journal.live_bytes -= alive[found.id]
            journal.drop_oldest()
        largest = max(largest, journal.total_bytes)
    assert largest < 1.5 * journal.live_bytes + 5 * 64 * 1024
    journal.close()
    assert ids_after_restart(tmp_path) == sorted(alive)


def test_a_long_backlog_is_read_with_few_files_open(tmp_path: Path) -> None:
    journal, _ = opened(tmp_path, segment_bytes=1000)
    locations = array("Q")
    for message_id in range(1, 200):
        locations.append(publish(journal, message_id, b"x" * 900))
        journal.flush()
    assert len(journal.segments) > 100
    before = sum(1 for _ in Path("/proc/self/fd").iterdir())
    assert all(found is not None for found in journal.read(locations))
    assert sum(1 for _ in Path("/proc/self/fd").iterdir()) - before < 30


def test_a_message_whose_segment_is_gone_stops_no_other(tmp_path: Path) -> None:
    journal, _ = opened(tmp_path, segment_bytes=1000)
    locations = array("Q")
    for message_id in (1, 2, 3):
        locations.append(publish(journal, message_id, b"x" * 900))
        journal.flush()
    journal.drop_oldest()
    assert [found and found.id for found in journal.read(locations)] == [None, 2, 3]


def test_many_restarts_do_not_leave_many_files(tmp_path: Path) -> None:
    for _ in range(60):
        journal, _ = opened(tmp_path)
        while journal.wants_cleaning():
            assert not list(journal.oldest_messages())
            journal.drop_oldest()
        journal.close()
    assert len(list(tmp_path.iterdir())) < 12


def test_a_full_disk_keeps_every_record_for_later(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    journal, _ = opened(tmp_path)
    real_write = os.write
    room = 40

    def write(descriptor: int, data: bytes) -> int:
        nonlocal room
        if room <= 0:
            raise OSError(errno.ENOSPC, "No space left on device")
        written = real_write(descriptor, bytes(data[:room]))
        room -= written
        return written

    # The disk is the one part that cannot be filled for real on every machine.
    monkeypatch.setattr(os, "write", write)
    publish(journal, 1)
    with pytest.raises(OSError, match="No space") as caught:
        journal.flush()
    assert is_disk_trouble(caught.value)
    publish(journal, 2)
    room = 1 << 20
    journal.flush()
    assert ids_after_restart(tmp_path) == [1, 2]
