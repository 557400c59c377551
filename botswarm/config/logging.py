"""The settings that say when a log file is full, and how many full ones are kept."""

from __future__ import annotations

from botswarm.config.kinds import Setting, whole_number

LOG_KEEPING = (
    Setting(
        name="log_max_mb",
        kind=whole_number(1, 10_000, "MB"),
        help="So big a log file may become before it is put aside as NAME.1.",
        default=100,
    ),
    Setting(
        name="log_files_kept",
        kind=whole_number(1, 1000, "files"),
        help="How many full log files of each name are kept; the oldest go first.",
        default=10,
        conventional=("LOG_MAX_FILES",),
    ),
    Setting(
        name="log_days_kept",
        kind=whole_number(1, 3650, "days"),
        help="How long a full log file is kept at most.",
        default=30,
    ),
)
