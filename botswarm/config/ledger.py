"""The settings of the ledger beside where it is."""

from __future__ import annotations

from botswarm.config.kinds import Setting, whole_number

LEDGER = (
    Setting(
        name="ledger_slow_ms",
        kind=whole_number(0, 600_000, "milliseconds"),
        help="Workers, beat, feed and archive log a warning, without values, of each statement of "
        "the ledger that takes longer, its waits for locks included, and count it; 0 is never.",
        default=50,
    ),
)
