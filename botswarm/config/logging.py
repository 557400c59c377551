"""The settings that say when a log file is full, how many are kept, and where they are carried."""

from __future__ import annotations

from botswarm.config.backups import s3_url
from botswarm.config.kinds import Kind, Setting, whole_number

_KEEPING = (
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


def log_settings(folder: Kind) -> tuple[Setting, ...]:
    """``folder`` is the table's own kind."""

    def address(text: str) -> object:
        return s3_url(text) if text.startswith("s3://") else folder.read(text)

    return (
        *_KEEPING,
        Setting(
            name="log_archive",
            kind=Kind(
                read=address, schema={"type": "string"}, words="s3://BUCKET/FOLDER or a folder"
            ),
            help="Where the lines of log files are carried, so that they outlive this machine: a "
            "bucket, with the keys and the server of that for backups, or a folder elsewhere.",
            default_words="nowhere: log files stay on this machine",
        ),
        Setting(
            name="log_archive_every_s",
            kind=whole_number(10, 86_400, "seconds"),
            help="How often what was written since is carried there by botswarm up: so much of "
            "the latest lines a lost machine costs.",
            default=300,
        ),
    )
