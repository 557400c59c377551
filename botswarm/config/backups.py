"""The settings of backups: where they go, how they are sealed, how long they are kept."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path

from botswarm.config.kinds import Kind, Setting, switch, whole_number
from botswarm.errors import Problem


def s3_url(text: str) -> object:
    if re.fullmatch(r"s3://[a-z0-9][a-z0-9.-]{1,61}[a-z0-9](/[A-Za-z0-9._/-]*)?", text):
        return text.rstrip("/")
    return Problem(f"is {text!r}, which names no bucket", "write s3://BUCKET/FOLDER")


def _endpoint(text: str) -> object:
    # Plain HTTP is for a store on this very machine.
    if re.fullmatch(r"https://[^\s/@?#]+|http://(127\.0\.0\.1|localhost)(:\d{1,5})?", text):
        return text
    return Problem(f"is {text!r}, which is no HTTPS address", "write https://HOST, without a path")


def _region(text: str) -> object:
    if re.fullmatch(r"[a-z0-9-]{1,40}", text):
        return text
    return Problem(f"is {text!r}, which is no region", "write it as eu-central-1")


def _default_folder(settings: Mapping[str, object]) -> Path:
    state_dir = settings["state_dir"]
    assert isinstance(state_dir, Path)
    return state_dir / "backups"


def _default_rpo_max_s(settings: Mapping[str, object]) -> int:
    # A backup a night loses up to a day, which is no news every night.
    return 60 if settings["backup_archive"] else 90_000


def backup_settings(folder: Kind, secret: Kind) -> tuple[Setting, ...]:
    """``folder`` and ``secret`` are the table's own kinds."""
    return (
        Setting(
            name="backup_dir",
            kind=folder,
            help="Where backups are written; a second disk, or a folder that is carried away, is "
            "what makes them worth something.",
            default=_default_folder,
            default_words="the folder backups in the state folder",
        ),
        Setting(
            name="backup_key",
            kind=secret,
            help="The key that seals backups (AES-256-GCM), better given as a file; without it "
            "they are readable by whoever has them, and hold no secrets.",
            default_words="none: backups are not sealed",
            secret=True,
        ),
        Setting(
            name="backup_days_kept",
            kind=whole_number(1, 3650, "days"),
            help="How long backups are kept: all of the last three days, then one of each day.",
            default=30,
        ),
        Setting(
            name="backup_archive",
            kind=switch(),
            help="Whether every change of the ledger is carried into the backup folder all the "
            "time, by botswarm run archive; PostgreSQL's user needs the right REPLICATION.",
            default=False,
        ),
        Setting(
            name="backup_archive_every_s",
            kind=whole_number(1, 3600, "seconds"),
            help="How often the archive carries over what changed: about what a lost "
            "machine costs.",
            default=10,
        ),
        Setting(
            name="backup_archive_days_kept",
            kind=whole_number(1, 3650, "days"),
            help="How far back the archive reaches: any moment since can be brought back.",
            default=7,
        ),
        Setting(
            name="backup_rto_max_s",
            kind=whole_number(1, 604_800, "seconds"),
            help="A drill that takes longer to have the ledger back has failed.",
            default=300,
        ),
        Setting(
            name="backup_rpo_max_s",
            kind=whole_number(1, 604_800, "seconds"),
            help="A drill after which more than this would have been lost has failed. Without the "
            "archive it is the age of the last backup.",
            default=_default_rpo_max_s,
            default_words="60 with the archive, 90000 (25 hours) without",
        ),
        Setting(
            name="backup_s3_url",
            kind=Kind(read=s3_url, schema={"type": "string"}, words="s3://BUCKET/FOLDER"),
            help="A second place for backups: a bucket of Amazon S3, or of what speaks like it.",
            default_words="none: the folder only",
        ),
        Setting(
            name="backup_s3_endpoint",
            kind=Kind(read=_endpoint, schema={"type": "string"}, words="https://HOST"),
            help="The server of that bucket, and of one for logs.",
            default="https://s3.amazonaws.com",
        ),
        Setting(
            name="backup_s3_region",
            kind=Kind(read=_region, schema={"type": "string"}, words="a region"),
            help="The region its requests are signed for.",
            default="us-east-1",
        ),
        Setting(
            name="backup_s3_access_key",
            kind=secret,
            help="The access key of the bucket.",
            secret=True,
        ),
        Setting(
            name="backup_s3_secret_key",
            kind=secret,
            help="The secret that belongs to it.",
            secret=True,
        ),
    )
