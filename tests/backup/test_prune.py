"""What the policy keeps, and what it lets go."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

from botswarm.backup.folder import Backup, Folder, Manifest, Method
from botswarm.backup.prune import prune, to_remove

NOW = datetime(2026, 3, 31, 12, tzinfo=UTC)


def backups(*ages_in_hours: float, is_good: bool = True) -> list[Backup]:
    return [
        Backup(
            path=Path(),
            manifest=Manifest(
                id=f"{NOW - timedelta(hours=age):%Y%m%dT%H%M%SZ}-{number:06x}",
                at=NOW - timedelta(hours=age),
                method=Method.COPY,
                program="1",
                revision=None,
                chain_sequence=0,
                chain_hash="",
                sealed_by=None,
                took_ms=1,
            ),
            parts=(),
            tested_at=NOW if is_good else None,
            test_ms=None,
        )
        for number, age in enumerate(sorted(ages_in_hours, reverse=True))
    ]


def kept(all_of: list[Backup], days: int = 30) -> list[float]:
    going = {each.id for each in to_remove(all_of, NOW, days)}
    return [
        (NOW - each.manifest.at).total_seconds() / 3600 for each in all_of if each.id not in going
    ]


def test_of_the_last_three_days_all_are_kept_and_of_older_ones_the_last_of_each() -> None:
    hours = [number * 6.0 for number in range(4 * 40)]
    left = kept(backups(*hours))
    assert [age for age in left if age <= 72] == sorted(
        (age for age in hours if age <= 72), reverse=True
    )
    older = [age for age in left if age > 72]
    assert len(older) == 27
    assert max(older) <= 30 * 24


def test_a_copy_is_kept_for_as_long_as_its_archive_may_be_asked_for() -> None:
    """Later on each of these days another one was made, which no archive goes on from."""
    days = (20, 8, 6, 5, 4, 3, 2, 1)
    plain = backups(*(24.0 * day - 6 for day in days), 1)
    starts = [_as_start(each) for each in backups(*(24.0 * day for day in days))]
    everything = sorted([*plain, *starts], key=lambda each: each.manifest.at)
    going = {each.id for each in to_remove(everything, NOW, 30, archive_days_kept=7)}
    ages = [(NOW - each.manifest.at).days for each in starts if each.id not in going]
    assert ages == [6, 5, 4, 3, 2, 1]


def test_the_copy_that_the_archive_goes_on_from_is_never_taken_from_it() -> None:
    """Where no later one could be made it goes on for days."""
    old = _as_start(backups(24.0 * 20)[0])
    everything = [old, *backups(24.0 * 19.9, 3, 2, 1)]
    assert old.id not in {each.id for each in to_remove(everything, NOW, 30, archive_days_kept=7)}


def _as_start(backup: Backup) -> Backup:
    return replace(backup, manifest=replace(backup.manifest, start={"pages": True}))


def test_the_last_three_good_ones_are_kept_however_old_they_are() -> None:
    assert kept(backups(5000, 4000, 3000, 2000)) == [4000, 3000, 2000]


def test_nothing_is_removed_while_none_was_ever_tried() -> None:
    assert len(kept(backups(5000, 4000, 3000, 2000, is_good=False))) == 4


def test_what_was_left_half_written_is_swept_away(tmp_path: Path) -> None:
    (tmp_path / "20260101T000000Z-abcdef.writing").mkdir()
    (tmp_path / "20260101T000000Z-abcdee.removing").mkdir()
    assert prune(Folder(tmp_path), NOW, 30).removed == []
    assert [each.name for each in tmp_path.iterdir()] == [".lock"]


def test_a_dry_run_removes_nothing(tmp_path: Path) -> None:
    (tmp_path / "20200101T000000Z-abcdef").mkdir()
    assert prune(Folder(tmp_path), NOW, 30, is_dry=True).removed == ["20200101T000000Z-abcdef"]
    assert (tmp_path / "20200101T000000Z-abcdef").exists()
    prune(Folder(tmp_path), NOW, 30)
    assert not (tmp_path / "20200101T000000Z-abcdef").exists()


def test_an_archive_goes_with_its_copy_or_when_it_reaches_too_far_back(tmp_path: Path) -> None:
    for day, has_copy in (("0101", True), ("0301", True), ("0330", True), ("0331", False)):
        name = f"2026{day}T000000Z-abcdef"
        (tmp_path / f"{name}.archive").mkdir()
        if has_copy:
            (tmp_path / name).mkdir()
    prune(Folder(tmp_path), NOW, 3650, archive_days_kept=7)
    left = sorted(each.name for each in tmp_path.glob("*.archive"))
    assert left == ["20260330T000000Z-abcdef.archive"]
