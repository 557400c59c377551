"""What the doctor makes of the ledger's user and of the way to it."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from botswarm.cli import checks
from botswarm.cli.check_ledger import Link, User, Wanted, finding
from tests.settings import settings_of

USER = User(name="swarm")
LINK = Link(host="db.example", mode="verify-full", is_encrypted=True, asked_for_password=True)
APART = Wanted(has_owner=True)
ALONE = Wanted(has_owner=False, powers=frozenset({"CREATEDB"}))


def test_a_user_with_few_rights_and_an_encrypted_link_are_well() -> None:
    assert finding(USER, LINK, APART).status == "ok"


@pytest.mark.parametrize(
    ("user", "wanted", "cure"),
    [
        (replace(USER, powers=("SUPERUSER",)), ALONE, 'ALTER ROLE "swarm" NOSUPERUSER;'),
        (
            replace(USER, powers=("CREATEROLE", "CREATEDB", "BYPASSRLS")),
            APART,
            'ALTER ROLE "swarm" NOCREATEROLE NOCREATEDB NOBYPASSRLS;',
        ),
        (replace(USER, name='a"b', powers=("REPLICATION",)), ALONE, '"a""b" NOREPLICATION;'),
        (replace(USER, powers=("SUPERUSER",), is_first=True), ALONE, "CREATE ROLE swarm LOGIN"),
        (replace(USER, tables_owned=3), APART, 'REASSIGN OWNED BY "swarm" TO the_owner'),
        (
            replace(USER, changeable=("audit", "fills")),
            APART,
            'REVOKE UPDATE, DELETE, TRUNCATE ON audit, fills FROM "swarm";',
        ),
    ],
)
def test_who_could_do_more_than_is_needed_is_warned_of_with_the_sql_that_mends_it(
    user: User, wanted: Wanted, cure: str
) -> None:
    found = finding(user, LINK, wanted)
    assert (found.status, cure in found.cure) == ("warn", True), found


def test_who_owns_no_table_is_held_to_that_also_where_the_owners_address_is_not_known() -> None:
    """It is given to few processes, and the doctor is asked in any."""
    found = finding(replace(USER, changeable=("audit",)), LINK, ALONE)
    assert (found.status, found.detail) == ("warn", "swarm may change rows of audit")
    assert "it owns no table" in finding(USER, LINK, ALONE).detail
    owner = replace(USER, tables_owned=9, changeable=("audit",))
    assert "it owns the tables" in finding(owner, LINK, ALONE).detail


@pytest.mark.parametrize(
    "user", [replace(USER, powers=("CREATEDB",)), replace(USER, tables_owned=9)]
)
def test_what_a_user_needs_who_owns_the_tables_is_no_warning(user: User) -> None:
    assert finding(user, LINK, ALONE).status == "ok"


@pytest.mark.parametrize(
    ("link", "status"),
    [
        (replace(LINK, is_encrypted=False, mode="prefer"), "warn"),
        # It is now, and need not be the next time.
        (replace(LINK, mode="prefer"), "warn"),
        (replace(LINK, mode="require"), "ok"),
        (replace(LINK, host="127.0.0.1", is_encrypted=False, mode="prefer"), "ok"),
        (replace(LINK, host="127.0.0.1", asked_for_password=False), "warn"),
        (replace(LINK, asked_for_password=False), "warn"),
        (replace(LINK, host="/run/postgresql", is_encrypted=False, asked_for_password=False), "ok"),
        (replace(LINK, host="", is_encrypted=False, asked_for_password=False), "ok"),
    ],
)
def test_a_way_on_which_others_read_or_come_in_is_warned_of(link: Link, status: str) -> None:
    found = finding(USER, link, APART)
    assert (found.status, bool(found.cure)) == (status, status == "warn")


def test_what_is_needed_follows_from_the_settings(tmp_path: Path) -> None:
    url = "postgresql://u:a-word@db.example/ledger"
    archived = settings_of(tmp_path, DATABASE_URL=url, BOTSWARM_BACKUP_ARCHIVE="on")
    assert Wanted.by(archived).powers == {"CREATEDB", "REPLICATION"}
    apart = settings_of(tmp_path, DATABASE_URL=url, BOTSWARM_DATABASE_ADMIN_URL=url)
    assert Wanted.by(apart) == Wanted(has_owner=True)


def test_the_doctor_looks_at_it() -> None:
    assert checks.rights(checks.Subject(None)).status == "skip"
    assert checks.CHECKS["rights"] is checks.rights
