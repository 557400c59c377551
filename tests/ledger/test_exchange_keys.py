"""Exchange keys in the ledger: sealed, bound to their row, and of no use to whoever reads them."""

from __future__ import annotations

import random
import stat
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import select, update

from botswarm.config import Secret
from botswarm.errors import Misconfigured, NotFound, Refused, Unreachable
from botswarm.keys import envelope, master
from botswarm.keys.envelope import MasterKey, NoMaster, Unsealable
from botswarm.keys.ring import ApiKeys, KeyRing
from botswarm.ledger import migrate
from botswarm.ledger.models import AuditRow, ExchangeKeyRow
from botswarm.ledger.store import Ledger
from tests.settings import settings_of

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)
KEYS = ApiKeys(
    key=Secret("the-public-part"), secret=Secret("the-signing-part"), passphrase=Secret("phrase")
)
OTHERS = ApiKeys(key=Secret("another-public"), secret=Secret("another-signing"))


@pytest.fixture
def ledger(tmp_path: Path) -> Iterator[Ledger]:
    made = Ledger(f"sqlite:///{tmp_path / 'ledger.db'}")
    migrate.migrate(made.database)
    yield made
    made.close()


@pytest.fixture
def ring(tmp_path: Path, ledger: Ledger) -> KeyRing:
    made = KeyRing(settings_of(tmp_path), ledger.exchange_keys)
    made.add("kraken", "main", "live", KEYS, now=NOW, actor="ann")
    made.add("binance", "spot", "testnet", OTHERS, now=NOW, actor="ann")
    return made


def row_of(ledger: Ledger, venue: str) -> dict[str, Any]:
    columns = ExchangeKeyRow.__table__.c
    return ledger.database.read(
        lambda session: dict(
            session.execute(select(*columns).where(columns.venue == venue)).mappings().one()
        )
    )


def change(ledger: Ledger, venue: str, **values: Any) -> None:
    ledger.database.write(
        lambda session: (
            session.execute(
                update(ExchangeKeyRow).where(ExchangeKeyRow.venue == venue).values(**values)
            )
            and None
        )
    )


# --- opening --------------------------------------------------------------------------------------


def test_what_was_put_in_comes_out_for_its_own_account_only(ring: KeyRing) -> None:
    assert ring.open("kraken", "main") == KEYS
    assert ring.open("binance", "spot") == OTHERS
    with pytest.raises(NotFound, match="kraken:other"):
        ring.open("kraken", "other")


def test_neither_the_database_nor_an_audit_row_holds_a_part_of_a_key(
    ring: KeyRing, ledger: Ledger, tmp_path: Path
) -> None:
    ring.rotate("kraken", "main", OTHERS, now=NOW, actor="ben")
    ledger.close()
    kept = b"".join(path.read_bytes() for path in tmp_path.glob("ledger.db*"))
    for keys in (KEYS, OTHERS):
        for secret in (keys.key, keys.secret, keys.passphrase):
            if secret is not None:
                assert secret.reveal().encode() not in kept
    assert str(KEYS) == "ApiKeys(key=Secret('***'), secret=Secret('***'), passphrase=Secret('***'))"


def test_every_change_is_in_the_audit_with_who_made_it(ring: KeyRing, ledger: Ledger) -> None:
    ring.rotate("kraken", "main", OTHERS, now=NOW, actor="ben")
    ring.rewrap(MasterKey.new(), now=NOW, actor="cleo")
    ledger.exchange_keys.remove("kraken", "main", now=NOW, actor="dora", reason="closed")
    rows = ledger.database.read(
        lambda session: [
            (row.action, row.actor, row.subject)
            for row in session.scalars(select(AuditRow).order_by(AuditRow.id))
            if row.subject == "account:kraken:main"
        ]
    )
    assert [(action, actor) for action, actor, _ in rows] == [
        ("key.add", "ann"),
        ("key.rotate", "ben"),
        ("key.rewrap", "cleo"),
        ("key.remove", "dora"),
    ]


def test_a_second_key_for_an_account_is_refused_and_changing_it_counts(ring: KeyRing) -> None:
    with pytest.raises(Refused, match="has a key already"):
        ring.add("kraken", "main", "live", OTHERS, now=NOW, actor="ann")
    assert ring.rotate("kraken", "main", OTHERS, now=NOW, actor="ann").version == 2
    assert ring.open("kraken", "main") == OTHERS


# --- tampering ------------------------------------------------------------------------------------

SEALED = ("sealed", "nonce", "wrapped_key", "wrap_nonce")


def mangled(value: bytes, choice: random.Random) -> bytes:
    """One bit, one byte less, one more, or all of it."""
    match choice.randrange(4):
        case 0:
            at = choice.randrange(len(value))
            return value[:at] + bytes([value[at] ^ 1 << choice.randrange(8)]) + value[at + 1 :]
        case 1:
            return value[:-1]
        case 2:
            return value + b"\0"
        case _:
            return choice.randbytes(len(value))


def test_a_thousand_ways_to_change_a_row_are_all_found(ring: KeyRing, ledger: Ledger) -> None:
    choice, settings = random.Random(8), ring._settings
    whole, other = row_of(ledger, "kraken"), row_of(ledger, "binance")
    keys, opened = ledger.exchange_keys, 0
    for _ in range(1000):
        row = dict(whole)
        match choice.randrange(6):
            case 0 | 1 | 2:
                name = choice.choice(SEALED)
                row[name] = mangled(row[name], choice)
            case 3:
                # Parts of another row, alone or all together.
                for name in choice.sample(SEALED, choice.randrange(1, 5)):
                    row[name] = other[name]
            case 4:
                row["kind"] = choice.choice(["paper", "testnet", "LIVE", ""])
            case _:
                row["version"] += choice.choice([-1, 1, 1000])
        sealed = replace(
            keys.get("kraken", "main"),
            kind=row["kind"],
            version=row["version"],
            envelope=replace(
                keys.get("kraken", "main").envelope, **{name: row[name] for name in SEALED}
            ),
        )
        ring_of_one = KeyRing(settings, _Holding(sealed))  # type: ignore[arg-type]
        try:
            ring_of_one.open("kraken", "main")
            opened += 1
        except Unsealable:
            pass
    assert opened == 0
    assert ring.open("kraken", "main") == KEYS


class _Holding:
    """A drawer with one row in it."""

    def __init__(self, row: object) -> None:
        self.row = row

    def get(self, venue: str, account: str) -> object:
        return self.row


def test_sealed_keys_that_were_exchanged_between_rows_open_for_neither(
    ring: KeyRing, ledger: Ledger
) -> None:
    names = ("master_id", *SEALED)
    kraken, binance = row_of(ledger, "kraken"), row_of(ledger, "binance")
    change(ledger, "kraken", **{name: binance[name] for name in names})
    change(ledger, "binance", **{name: kraken[name] for name in names})
    for venue, account in (("kraken", "main"), ("binance", "spot")):
        with pytest.raises(Unsealable, match="changed"):
            ring.open(venue, account)


def test_an_old_key_of_the_same_account_cannot_be_put_back(ring: KeyRing, ledger: Ledger) -> None:
    old = row_of(ledger, "kraken")
    ring.rotate("kraken", "main", OTHERS, now=NOW, actor="ann")
    change(ledger, "kraken", **{name: old[name] for name in SEALED})
    with pytest.raises(Unsealable):
        ring.open("kraken", "main")


def test_no_nonce_and_no_data_key_ever_comes_twice() -> None:
    key, row = MasterKey.new(), envelope.identity("kraken", "main", "live", 1)
    made = [envelope.seal(b"the same", row, key) for _ in range(2000)]
    for part in ("nonce", "wrap_nonce", "wrapped_key", "sealed"):
        assert len({getattr(each, part) for each in made}) == len(made)


def test_rows_whose_columns_run_into_each_other_have_different_identities() -> None:
    assert envelope.identity("a", "bc") != envelope.identity("ab", "c")
    assert envelope.identity('a","b') != envelope.identity("a", "b")


# --- the master key -------------------------------------------------------------------------------


def test_without_settings_the_master_key_is_a_file_for_its_owner_only(
    ring: KeyRing, tmp_path: Path
) -> None:
    file = tmp_path / master.FILE
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    file.chmod(0o644)
    with pytest.raises(Refused, match="can be read by others"):
        ring.open("kraken", "main")


def test_another_master_key_opens_nothing_and_says_which_one_is_missing(
    ring: KeyRing, ledger: Ledger, tmp_path: Path
) -> None:
    mine = master.read(tmp_path / master.FILE)
    assert mine is not None
    (tmp_path / master.FILE).unlink()
    with pytest.raises(NoMaster, match=mine.id):
        ring.open("kraken", "main")
    other = MasterKey.new()
    settings = settings_of(tmp_path, BOTSWARM_MASTER_KEY=other.written().reveal())
    with pytest.raises(NoMaster, match=f"{mine.id}.*{other.id}"):
        KeyRing(settings, ledger.exchange_keys).open("kraken", "main")


def test_a_key_given_by_the_settings_is_used_and_no_file_is_made(
    ledger: Ledger, tmp_path: Path
) -> None:
    file = tmp_path / "given"
    file.write_text(MasterKey.new().written().reveal() + "\n")
    settings = settings_of(tmp_path, BOTSWARM_MASTER_KEY_FILE=str(file))
    ring = KeyRing(settings, ledger.exchange_keys)
    ring.add("kraken", "main", "live", KEYS, now=NOW, actor="ann")
    assert ring.open("kraken", "main") == KEYS
    assert not (tmp_path / master.FILE).exists()


def test_in_production_no_master_key_is_made_by_itself(ledger: Ledger, tmp_path: Path) -> None:
    settings = replace(settings_of(tmp_path), env="production")
    with pytest.raises(Unreachable, match="no master key"):
        KeyRing(settings, ledger.exchange_keys).add(
            "kraken", "main", "live", KEYS, now=NOW, actor="ann"
        )


@pytest.mark.parametrize("text", ["", "short", "x" * 44, "AAAA", "9b48f9449504af9e"])
def test_what_is_no_master_key_is_said_without_showing_it(ledger: Ledger, text: str) -> None:
    with pytest.raises(Misconfigured) as caught:
        master.of_text(text, "BOTSWARM_MASTER_KEY")
    assert not text or text not in str(caught.value)


def test_another_master_key_takes_over_while_both_can_be_read(
    ring: KeyRing, ledger: Ledger, tmp_path: Path
) -> None:
    old = master.read(tmp_path / master.FILE)
    new = master.make(tmp_path / master.NEXT)
    assert ring.rewrap(new, now=NOW, actor="ann") == 2
    # A process that dies here leaves both files: either may be needed.
    assert ring.open("kraken", "main") == KEYS
    master.replace(tmp_path)
    assert ring.open("kraken", "main") == KEYS
    assert ring.open("binance", "spot") == OTHERS
    found = master.read(tmp_path / master.FILE)
    assert found is not None
    assert old is not None
    assert (found.id, found.id == old.id) == (new.id, False)
    # Backups of the ledger from before are wrapped by it.
    assert [path.name for path in tmp_path.glob("master-*.key")] == [f"master-{old.id}.key"]


def test_where_one_row_cannot_be_opened_no_row_gets_another_master_key(
    ring: KeyRing, ledger: Ledger
) -> None:
    change(ledger, "kraken", sealed=b"x" * 40)
    before = row_of(ledger, "binance")
    with pytest.raises(Unsealable):
        ring.rewrap(MasterKey.new(), now=NOW, actor="ann")
    assert row_of(ledger, "binance") == before
