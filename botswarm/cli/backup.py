"""Make backups of the ledger, look at them, try them out, and remove old ones."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING

import click

from botswarm.cli.backup_place import from_folder, place_of
from botswarm.cli.backup_remote import fetch, push
from botswarm.cli.backup_restore import drill, restore
from botswarm.cli.command import Group
from botswarm.cli.failures import BackupsDamaged, BackupTooOld
from botswarm.cli.moments import Duration
from botswarm.cli.session import Answer, Session
from botswarm.cli.table import in_columns
from botswarm.errors import NotFound

if TYPE_CHECKING:
    from botswarm.backup.folder import Backup
    from botswarm.backup.place import Place

COLUMNS = ("BACKUP", "SHOWS", "METHOD", "STATE", "MB", "ENTRY", "TRIED", "ARCHIVE")


@click.group(cls=Group)
def backup() -> None:
    """Save the ledger, try that out, and bring it back."""


backup.add_command(restore)
backup.add_command(drill)
backup.add_command(push)
backup.add_command(fetch)


@backup.command("create")
@from_folder
@click.option("--no-test", is_flag=True, help="Do not try it out: it does not count as good then.")
@click.pass_obj
def create(session: Session, folder: Path | None, no_test: bool) -> Answer:
    """Save the ledger, the configuration and the play exchanges' journals, while all runs on.

    Then the backup is brought back to the side and held to what the ledger said of itself: only
    then it counts as good. Without a BOTSWARM_BACKUP_KEY it holds no secrets.
    """
    from botswarm.backup import create as making
    from botswarm.backup.remote import remote_of

    place = place_of(session, folder)
    made = making.create(place)
    done = made.backup if no_test else making.try_out(place, made.backup)
    said = "was not tried out" if no_test else "was tried out and is good"
    if (remote := remote_of(place)) is not None and not no_test:
        remote.push(done)
        said += f", and in {place.settings.backup_s3_url}"
    warnings = [*made.warnings, *(f"not in the backup: {each}" for each in made.left_out)]
    if place.key is None:
        warnings.append("it is not sealed, and holds neither .env nor the master key")
    return Answer(
        data=described(done),
        text=f"Backup {done.id} ({done.bytes / 1e6:.1f} MB) {said}.",
        warnings=warnings,
        next=[f"botswarm backup verify {done.id} --test"] if no_test else [],
    )


@backup.command("list")
@from_folder
@click.pass_obj
def list_backups(session: Session, folder: Path | None) -> Answer:
    """List the backups in the folder, oldest first, and what is wrong with those that are none.

    good: brought back to the side once, and it was what it says. written: whole, and nobody has
    tried it. Every byte is looked at by botswarm backup verify.
    """
    place = place_of(session, folder)
    found, unusable = place.folder.list()
    rows = [_row(place, each) for each in found]
    rows += [(each.name, "", "", "damaged", "", "", "", each.words) for each in unusable]
    data = [described(each) for each in found]
    data += [{"id": each.name, "state": "damaged", "words": each.words} for each in unusable]
    text = in_columns(COLUMNS, sorted(rows)) if rows else f"{place.folder.path} holds no backup."
    if not place.folder.path.exists():
        text = f"{place.folder.path} does not exist, so no backup is there."
    return Answer(data=data, text=text, next=[] if rows else ["botswarm backup create"])


@backup.command("verify")
@click.argument("name", metavar="[BACKUP]", required=False)
@from_folder
@click.option("--test", "with_test", is_flag=True, help="Bring it back to the side, too.")
@click.pass_obj
def verify(session: Session, name: str | None, folder: Path | None, with_test: bool) -> Answer:
    """Read every byte of a backup, or of all of them; exits with 3 when one is damaged.

    A damaged one never counts as good again.
    """
    from botswarm.backup.checking import check_all

    place = place_of(session, folder)
    names = [place.folder.named(name)] if name is not None else place.folder.ids()
    if not names:
        raise NotFound(f"{place.folder.path} holds no backup", cure="run: botswarm backup create")
    rows = check_all(place, names, with_test=with_test)
    bad = [each for each in rows if each.words]
    failure = None
    if bad:
        failure = BackupsDamaged(
            f"{len(bad)} of {len(rows)} backups cannot be relied on",
            cure="make another one now: botswarm backup create; then find out what changed them",
        )
    return Answer(
        data=[{"id": each.id, "ok": not each.words, "words": each.words} for each in rows],
        text=in_columns(
            ("BACKUP", "", "WHAT"),
            [(each.id, "WRONG" if each.words else "ok", each.words) for each in rows],
        ),
        failure=failure,
    )


@backup.command("prune")
@from_folder
@click.option("--dry-run", is_flag=True, help="Say what would go, and remove nothing.")
@click.pass_obj
def prune(session: Session, folder: Path | None, dry_run: bool) -> Answer:
    """Remove what the policy does not keep: of the last three days all are kept, then one a day.

    After BOTSWARM_BACKUP_DAYS_KEPT days they go; the last three good ones never do.
    """
    from botswarm.backup.prune import prune_place as pruning

    place = place_of(session, folder)
    done = pruning(place, is_dry=dry_run)
    verb = "would go" if dry_run else "removed"
    return Answer(
        data={"removed": list(done.removed), "kept": done.kept, "dry_run": dry_run},
        text=f"{len(done.removed)} {verb}, {done.kept} kept.",
    )


@backup.command("age")
@from_folder
@click.option(
    "--max", "most", type=Duration(), default="1h", show_default=True, help="Older is a failure."
)
@click.pass_obj
def age(session: Session, folder: Path | None, most: float) -> Answer:
    """Say how old the newest good backup is; exits with 3 when it is older than --max.

    A gate for scripts, as before an upgrade. It asks the folder alone: the ledger may be down.
    """
    from botswarm.backup.age import age_of

    place = place_of(session, folder)
    found = age_of(place.folder, place.clock.now())
    failure = None
    seconds = None if found.age is None else found.age.total_seconds()
    if not found.is_within(timedelta(seconds=most)):
        cause = "there is no good backup"
        if seconds is not None:
            cause = f"the last good backup is {seconds:.0f} s old, and may be {most:.0f} s"
        failure = BackupTooOld(cause, cure="make one: botswarm backup create")
    text = "" if failure else f"{found.backup} is {seconds:.0f} s old."
    data = {"backup": found.backup, "age_s": seconds, "max_s": most}
    return Answer(data=data, text=text, failure=failure)


def described(each: Backup) -> dict[str, object]:
    manifest = each.manifest
    return {
        "id": each.id,
        "at": manifest.at.isoformat(),
        "method": manifest.method.value,
        "state": each.state.value,
        "bytes": each.bytes,
        "took_ms": manifest.took_ms,
        "tested_at": None if each.tested_at is None else each.tested_at.isoformat(),
        "test_ms": each.test_ms,
        "sealed_by": manifest.sealed_by,
        "chain": {"sequence": manifest.chain_sequence, "hash": manifest.chain_hash},
        "archive": manifest.start is not None,
        "path": str(each.path),
    }


def _row(place: Place, each: Backup) -> tuple[object, ...]:
    manifest = each.manifest
    tried = "" if each.tested_at is None else f"{each.tested_at:%Y-%m-%d %H:%M}"
    return (
        each.id,
        f"{manifest.at:%Y-%m-%d %H:%M:%S}",
        manifest.method.value,
        each.state.value,
        f"{each.bytes / 1e6:.1f}",
        str(manifest.chain_sequence),
        tried,
        "" if manifest.start is None else "goes on from it",
    )
