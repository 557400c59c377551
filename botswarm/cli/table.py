"""Rows laid out in columns for people."""

from __future__ import annotations

from collections.abc import Sequence


def in_columns(heads: Sequence[str], rows: Sequence[Sequence[object]]) -> str:
    """Left-aligned columns, numbers to the right; the last column may be as long as it likes."""
    cells = [[_shown(value) for value in row] for row in rows]
    widths = [max(len(line[i]) for line in [list(heads), *cells]) for i in range(len(heads))]
    right = [
        bool(rows) and all(isinstance(row[i], int | None) for row in rows)
        for i in range(len(heads))
    ]
    lines = [_line(heads, widths, right)]
    lines += [_line(line, widths, right) for line in cells]
    return "\n".join(lines)


def _shown(value: object) -> str:
    return "-" if value is None else str(value)


def _line(line: Sequence[str], widths: Sequence[int], right: Sequence[bool]) -> str:
    cells = (
        cell.rjust(width) if to_right else cell.ljust(width)
        for cell, width, to_right in zip(line, widths, right, strict=True)
    )
    return "  ".join(cells).rstrip()
