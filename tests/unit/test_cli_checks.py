"""What the doctor makes of the figures it reads, and that one bad check hides no other."""

from __future__ import annotations

import socket
from datetime import UTC, datetime
from pathlib import Path

import pytest

from botswarm.cli import checks
from botswarm.config import load

NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)


@pytest.mark.parametrize(
    ("used", "free", "status"),
    [
        (79, 21, "ok"),
        (80, 20, "ok"),
        (81, 19, "warn"),
        (85, 15, "warn"),
        (86, 14, "fail"),
        (0, 0, "ok"),
    ],
)
def test_a_full_disk_warns_and_then_fails(used: int, free: int, status: str) -> None:
    finding = checks.disk_finding(used, free)
    assert finding.status == status
    assert bool(finding.cure) is (status != "ok")


@pytest.mark.parametrize(
    ("free_mb", "status"), [(None, "skip"), (511, "warn"), (512, "ok"), (-3, "warn")]
)
def test_little_memory_is_a_warning(free_mb: int | None, status: str) -> None:
    assert checks.memory_finding(free_mb).status == status


@pytest.mark.parametrize(
    ("now", "synchronised", "status"),
    [
        (NOON, True, "ok"),
        (NOON, None, "ok"),
        (NOON, False, "warn"),
        (NOON.replace(year=1970), True, "fail"),
    ],
)
def test_a_clock_that_cannot_be_trusted_is_said(
    now: datetime, synchronised: bool | None, status: str
) -> None:
    assert checks.clock_finding(now, synchronised).status == status


@pytest.mark.parametrize(
    ("installed", "requirement", "fits"),
    [
        ("5.7.0", "celery<6,>=5.7", True),
        ("5.6.9", "celery<6,>=5.7", False),
        ("6.0", "celery<6,>=5.7", False),
        ("2.9.13", "psycopg2-binary<3,>=2.9.13", True),
        ("2.10", "psycopg2-binary<3,>=2.9.13", True),
        ("5.7rc1", "celery", True),
    ],
)
def test_a_version_is_held_to_its_range(installed: str, requirement: str, fits: bool) -> None:
    assert checks._fits(installed, requirement) is fits


def test_a_check_that_hangs_or_breaks_leaves_the_others_their_rows(tmp_path: Path) -> None:
    subject = checks.Subject(load(environ={}, folder=tmp_path))
    never = socket.socketpair()

    def hangs(_: checks.Subject) -> checks.Finding:
        never[0].recv(1)
        return checks.Finding("ok", "too late")

    def breaks(_: checks.Subject) -> checks.Finding:
        raise ZeroDivisionError("by zero")

    rows = checks.run({"a": hangs, "b": breaks, "c": checks.python}, subject, limit_s=0.5)
    assert [row.status for row in rows] == ["fail", "fail", "ok"]
    assert "no answer within 0.5 s" in rows[0].detail
    assert "ZeroDivisionError" in rows[1].detail
    never[1].send(b"x")
    for end in never:
        end.close()
