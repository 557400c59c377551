"""Rows laid out in columns for people."""

from __future__ import annotations

from collections.abc import Sequence


def in_columns(heads: Sequence[str], rows: Sequence[Sequence[object]]) -> str:
    """Left-aligned columns, numbers to the right; the last column may be as long as it likes."""
    cells = [["-" if value is None else str(value) for value in row] for row in rows]
    widths = [max(map(len, column)) for column in zip(heads, *cells, strict=True)]
    right = [
        bool(rows) and all(isinstance(row[i], int | None) for row in rows)
        for i in range(len(heads))
    ]
    # One pattern for all lines: there may be ten thousand.
    pattern = "  ".join(
        f"{{:{'>' if to_right else '<'}{width}}}"
        for width, to_right in zip(widths, right, strict=True)
    )
    return "\n".join(pattern.format(*line).rstrip() for line in (heads, *cells))
