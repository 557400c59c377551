"""A state folder that cannot be used is said in one line with its cure, never as a traceback."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from botswarm.broker import record


def start(state_dir: Path) -> subprocess.CompletedProcess[str]:
    words = [sys.executable, "-m", "botswarm", "broker", "run", "--state-dir", str(state_dir)]
    return subprocess.run(words, capture_output=True, text=True, timeout=20, check=False)


def journal_is_a_file(state_dir: Path) -> None:
    (state_dir / "broker").write_text("")


def segment_is_a_folder(state_dir: Path) -> None:
    (state_dir / "broker" / "journal-00000001.log").mkdir(parents=True)


def card_is_a_folder(state_dir: Path) -> None:
    (state_dir / record.FILE).mkdir()


def lock_is_a_folder(state_dir: Path) -> None:
    (state_dir / "broker.lock").mkdir()


def journal_is_foreign(state_dir: Path) -> None:
    (state_dir / "broker").mkdir()
    (state_dir / "broker" / "journal-00000001.log").write_text("something else altogether\n" * 9)


@pytest.mark.parametrize(
    "spoil",
    [
        journal_is_a_file,
        segment_is_a_folder,
        card_is_a_folder,
        lock_is_a_folder,
        journal_is_foreign,
    ],
)
def test_a_broker_that_cannot_use_its_folder_says_so(
    tmp_path: Path, spoil: Callable[[Path], None]
) -> None:
    spoil(tmp_path)
    done = start(tmp_path)
    assert "Traceback" not in done.stderr, done.stderr
    assert (done.returncode, str(tmp_path) in done.stderr) == (5, True), done.stderr


@pytest.mark.parametrize("left", [b"{", b"", b"\xff\xfe", b"[]", b'{"host": "x"}'])
def test_a_card_that_is_no_card_counts_for_none(tmp_path: Path, left: bytes) -> None:
    (tmp_path / record.FILE).write_bytes(left)
    assert record.read(tmp_path) is None
