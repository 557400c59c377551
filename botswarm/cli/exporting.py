"""Rows as lines of JSON or as CSV, to a file or to standard output, one at a time."""

from __future__ import annotations

import csv
import json
import os
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, TextIO

import click

from botswarm.cli.session import Answer
from botswarm.errors import Unreachable

Row = Mapping[str, Any]


def export_options(function: Callable[..., Any]) -> Callable[..., Any]:
    for option in (
        click.option("--format", "form", type=click.Choice(["jsonl", "csv"]), default="jsonl",
                     show_default=True, help="A JSON object in each line, or CSV with a head."),
        click.option("--out", type=click.Path(path_type=Path, dir_okay=False), metavar="FILE",
                     help="Write it there, readable by you alone; else to standard output."),
    ):  # fmt: skip
        function = option(function)
    return function


def export(rows: Iterable[Row], heads: Sequence[str], form: str, out: Path | None) -> Answer | None:
    """The answer says how many; on standard output the rows themselves are the answer."""
    if out is None:
        _write(rows, heads, form, sys.stdout)
        return None
    # What is there and is no file, such as a pipe or a device, is written into and never replaced.
    is_file = out.is_file() or not out.exists()
    write = _write_whole if is_file else _write_into
    try:
        count = write(out, lambda file: _write(rows, heads, form, file))
    except OSError as error:
        raise Unreachable(
            f"{out} cannot be written: {error.strerror}", cure="name a file where there is room"
        ) from error
    return Answer(
        data={"file": str(out), "rows": count, "format": form}, text=f"{count} rows in {out}."
    )


def _write_whole(out: Path, write: Callable[[TextIO], int]) -> int:
    """Nobody ever takes a half-written export for a whole one."""
    target = out.resolve()
    partial = target.with_name(f".{target.name}.partial")
    try:
        with open(partial, "w", encoding="utf-8", newline="", opener=_private) as file:
            count = write(file)
            file.flush()
            os.fsync(file.fileno())
        partial.replace(target)
    finally:
        partial.unlink(missing_ok=True)
    return count


def _write_into(out: Path, write: Callable[[TextIO], int]) -> int:
    with out.open("w", encoding="utf-8", newline="") as file:
        return write(file)


def _private(path: str, flags: int) -> int:
    return os.open(path, flags, 0o600)


def _write(rows: Iterable[Row], heads: Sequence[str], form: str, file: TextIO) -> int:
    count = 0
    table = csv.writer(file) if form == "csv" else None
    if table is not None:
        table.writerow(heads)
    for row in rows:
        count += 1
        if table is not None:
            table.writerow([_cell(row.get(name)) for name in heads])
        else:
            file.write(json.dumps(row, ensure_ascii=False, default=str) + "\n")
    return count


def _cell(value: Any) -> Any:
    """A text that a spreadsheet would take for a formula is kept a text."""
    if isinstance(value, dict | list):
        return json.dumps(value, ensure_ascii=False, default=str)
    if isinstance(value, str) and value[:1] in ("=", "+", "@", "\t", "\r"):
        return f"'{value}"
    return value
