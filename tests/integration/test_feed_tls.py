"""Whoever cannot prove to be the venue is refused before a word is said to him."""

from __future__ import annotations

import ipaddress
import ssl
import time
import warnings
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from botswarm.config import load
from botswarm.feed import dial
from botswarm.feed.dial import Failed
from botswarm.feed.pool import Pool
from botswarm.feed.rules import PoolRules
from botswarm.ledger import migrate
from botswarm.ledger.session import Database
from botswarm.testing.servers import HOST, free_port, wait_until
from tests.integration.mini_venue import Heap, MiniData, MiniVenue, trades
from workers import certificates

Key = ec.EllipticCurvePrivateKey


class Authority:
    """It signs what it is told to."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._key = ec.generate_private_key(ec.SECP256R1())
        self.certificate = self._signed("the authority", self._key, self._key, is_authority=True)

    def context(self) -> ssl.SSLContext:
        """A client's that trusts this authority alone, made as ours is."""
        made = dial.context()
        made.load_verify_locations(
            cadata=self.certificate.public_bytes(serialization.Encoding.PEM).decode()
        )
        return made

    def server(
        self,
        *,
        host: str = HOST,
        days: float = 90,
        is_self_signed: bool = False,
        newest: ssl.TLSVersion = ssl.TLSVersion.TLSv1_3,
    ) -> ssl.SSLContext:
        key = ec.generate_private_key(ec.SECP256R1())
        signer = key if is_self_signed else self._key
        found = self._signed(host, key, signer, days=days)
        path = self._folder / "server.pem"
        path.write_bytes(
            key.private_bytes(
                serialization.Encoding.PEM,
                serialization.PrivateFormat.PKCS8,
                serialization.NoEncryption(),
            )
            + found.public_bytes(serialization.Encoding.PEM)
        )
        made = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        # Both are deprecated, which is what the test is about.
        with warnings.catch_warnings(action="ignore"):
            if newest < ssl.TLSVersion.TLSv1_2:
                made.set_ciphers("DEFAULT@SECLEVEL=0")
                made.minimum_version = ssl.TLSVersion.TLSv1
            made.maximum_version = newest
        made.load_cert_chain(path)
        return made

    def _signed(
        self, name: str, key: Key, signer: Key, *, days: float = 90, is_authority: bool = False
    ) -> x509.Certificate:
        issuer = "the authority" if signer is not key or is_authority else name
        ends = datetime.now(UTC) + timedelta(days=days)
        builder = (
            x509.CertificateBuilder()
            .subject_name(_named(name))
            .issuer_name(_named(issuer))
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(datetime.now(UTC) - timedelta(days=365))
            .not_valid_after(ends)
            .add_extension(x509.BasicConstraints(is_authority, None), critical=True)
        )
        if not is_authority:
            names: list[x509.GeneralName] = (
                [x509.IPAddress(ipaddress.ip_address(name))]
                if name == HOST
                else [x509.DNSName(name)]
            )
            builder = builder.add_extension(x509.SubjectAlternativeName(names), critical=False)
        return builder.sign(signer, hashes.SHA256())


def _named(name: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, name)])


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    return Authority(tmp_path)


@pytest.fixture
def venues() -> Iterator[list[MiniVenue]]:
    made: list[MiniVenue] = []
    yield made
    for each in made:
        each.close()


def test_a_venue_with_a_good_certificate_is_spoken_with(
    authority: Authority, venues: list[MiniVenue]
) -> None:
    venue = MiniVenue(authority.server())
    venues.append(venue)
    pool = Pool(
        MiniData(venue.url),
        heap := Heap(),
        PoolRules(),
        wall_ms=lambda: int(time.time() * 1000),
        tls=authority.context(),
    )
    pool.want(trades("A-X"))
    pool.start()
    wait_until(lambda: pool.subscription_count == 1, "the stream", 10)
    for _ in range(500):
        venue.trade("A-X")
    wait_until(lambda: len(heap.ids.get("A-X", ())) == 500, "every trade", 10)
    state = pool.state().connections[0]
    assert state.tls == "TLSv1.3"
    assert state.certificate_days is not None
    assert 89 < state.certificate_days < 90
    assert pool.state().security == {}
    pool.stop()


@pytest.mark.parametrize(
    ("what", "words"),
    [
        ({"days": -1}, "expired"),
        ({"is_self_signed": True}, "self-signed"),
        ({"host": "elsewhere.example"}, "not valid for"),
        ({"newest": ssl.TLSVersion.TLSv1_1}, ""),
        ({"newest": ssl.TLSVersion.TLSv1}, ""),
    ],
    ids=["expired", "self-signed", "wrong host", "TLS 1.1", "TLS 1.0"],
)
def test_a_venue_that_cannot_be_trusted_is_refused_and_noted(
    what: dict[str, object], words: str, authority: Authority, venues: list[MiniVenue]
) -> None:
    venue = MiniVenue(authority.server(**what))  # type: ignore[arg-type]  # its own options
    venues.append(venue)
    with pytest.raises(Failed) as failed:
        dial.dial(venue.url, timeout_s=5, tls=authority.context())
    assert failed.value.kind == "invalid_certificate"
    assert words in str(failed.value)
    assert failed.value.cure
    assert venue.clients == []


def test_an_unknown_authority_is_refused(authority: Authority, venues: list[MiniVenue]) -> None:
    venue = MiniVenue(authority.server())
    venues.append(venue)
    with pytest.raises(Failed, match="cannot be trusted: unable to get local issuer"):
        dial.dial(venue.url, timeout_s=5)


def test_nothing_is_said_unencrypted_to_another_machine() -> None:
    with pytest.raises(Failed, match="neither encrypted nor checked") as failed:
        dial.dial("ws://venue.example/stream", timeout_s=5)
    assert "wss://" in failed.value.cure


@pytest.mark.parametrize("status", [b"301 Moved Permanently", b"302 Found", b"307 Temporary"])
def test_no_redirect_is_followed_least_of_all_to_plain_text(
    status: bytes, authority: Authority, venues: list[MiniVenue]
) -> None:
    plain, venue = MiniVenue(), MiniVenue(authority.server())
    venues += [plain, venue]
    venue.answer_head = b"HTTP/1.1 " + status + b"\r\nLocation: " + plain.url.encode() + b"\r\n\r\n"
    with pytest.raises(Failed):
        dial.dial(venue.url, timeout_s=5, tls=authority.context())
    assert plain.attempts == []


def test_a_certificate_that_ends_soon_is_warned_of(
    authority: Authority, venues: list[MiniVenue], caplog: pytest.LogCaptureFixture
) -> None:
    venue = MiniVenue(authority.server(days=3))
    venues.append(venue)
    pool = Pool(
        MiniData(venue.url),
        Heap(),
        PoolRules(),
        wall_ms=lambda: int(time.time() * 1000),
        tls=authority.context(),
    )
    pool.want(trades("A-X"))
    pool.start()
    wait_until(lambda: pool.subscription_count == 1, "the stream", 10)
    assert "the certificate ends in 3.0 days" in caplog.text
    pool.stop()


# --- the daily look -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("what", "says"),
    [
        ({}, None),
        ({"days": 5}, "ends in 5 days: have it renewed"),
        ({"days": -1}, "is not good: certificate has expired"),
        ({"is_self_signed": True}, "is not good: self-signed certificate"),
    ],
    ids=["good", "ends soon", "expired", "self-signed"],
)
def test_each_day_a_certificate_that_is_not_good_for_long_is_named(
    what: dict[str, object], says: str | None, authority: Authority, venues: list[MiniVenue]
) -> None:
    venue = MiniVenue(authority.server(**what))  # type: ignore[arg-type]  # its own options
    venues.append(venue)
    where = urlsplit(venue.url)
    found = certificates.ending((HOST, where.port or 0), 14, authority.context())
    assert (found is None) == (says is None)
    assert says is None or says in str(found)


def test_a_server_that_is_away_is_named_too() -> None:
    found = certificates.ending((HOST, free_port()), 14)
    assert found is not None
    assert "cannot be seen: Connection refused" in found


def test_each_encrypted_server_is_looked_at_once(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path / 'ledger.db'}"
    migrate.migrate(Database(url))
    environ = {
        "BOTSWARM_DATABASE_URL": url,
        "BOTSWARM_STATE_DIR": str(tmp_path),
        "BOTSWARM_BROKER_URL": "amqps://u:p@mq.example/swarm",
        "BOTSWARM_BROKER_MANAGEMENT_URL": "https://u:p@mq.example:15671",
        "BOTSWARM_REDIS_URL": "redis://cache.example:6379",
    }
    settings = load(environ=environ, folder=tmp_path).settings
    assert list(certificates.endpoints(settings)) == [("mq.example", 5671), ("mq.example", 15671)]
