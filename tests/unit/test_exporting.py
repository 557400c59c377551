"""Rows written where a person says: whole or not at all; what is no file is never replaced."""

from __future__ import annotations

import os
import stat
import threading
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from botswarm.cli.exporting import export
from botswarm.errors import Unreachable

ROWS = [{"a": 1}, {"a": 2}]
WRITTEN = '{"a": 1}\n{"a": 2}\n'


def test_a_pipe_is_written_into_and_stays_a_pipe(tmp_path: Path) -> None:
    pipe, heard = tmp_path / "pipe", list[str]()
    os.mkfifo(pipe)
    reader = threading.Thread(target=lambda: heard.append(pipe.read_text()), daemon=True)
    reader.start()
    export(ROWS, ["a"], "jsonl", pipe)
    assert stat.S_ISFIFO(pipe.stat().st_mode), "it was replaced"
    reader.join(timeout=10)
    assert heard == [WRITTEN]


def test_a_link_is_followed_and_stays_a_link(tmp_path: Path) -> None:
    target, link = tmp_path / "target", tmp_path / "link"
    target.write_text("old")
    link.symlink_to(target)
    export(ROWS, ["a"], "jsonl", link)
    assert link.is_symlink()
    assert target.read_text() == WRITTEN


def test_rows_that_end_in_the_middle_leave_the_old_file_and_nothing_beside_it(
    tmp_path: Path,
) -> None:
    def rows() -> Iterator[Mapping[str, Any]]:
        yield {"a": 1}
        raise Unreachable("the ledger is gone")

    out = tmp_path / "out"
    out.write_text("old")
    with pytest.raises(Unreachable, match="the ledger is gone"):
        export(rows(), ["a"], "jsonl", out)
    assert out.read_text() == "old"
    assert list(tmp_path.iterdir()) == [out]
