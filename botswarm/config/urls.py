"""Server addresses as platforms write them, made into the one form our libraries read."""

from __future__ import annotations

import re
from urllib.parse import SplitResult, urlsplit

from botswarm.config.secret import Secret
from botswarm.errors import Problem

_STRAY_PERCENT = re.compile(r"%(?![0-9A-Fa-f]{2})")
_BLANK = re.compile(r"[\s\x00-\x1f\x7f]")
HERE = ("127.0.0.1", "::1", "localhost")
_ENCODE = "percent-encode special characters in the user name and password: @ %40, : %3A, / %2F"


def broker_url(text: str) -> str | Problem:
    """AMQP addresses: ``pyamqp`` is kombu's name for plain AMQP."""
    example = "amqp://user:password@host:5672/vhost"
    parts = server(text, ("amqp", "amqps", "pyamqp"), example)
    if isinstance(parts, Problem):
        return parts
    if "/" in parts.path[1:]:
        return Problem("names a vhost with a bare / in it", "write the / of the vhost as %2F")
    if parts.scheme == "pyamqp":
        return "amqp" + text[len("pyamqp") :]
    return parts.scheme + text[len(parts.scheme) :]


def management_url(text: str) -> str | Problem:
    """The management API's address; it ends in ``/api/`` whatever was written."""
    parts = server(text, ("http", "https"), "http://user:password@host:15672")
    if isinstance(parts, Problem):
        return parts
    if parts.query or parts.path.rstrip("/") not in ("", "/api"):
        return Problem(
            "goes on after the port", "leave the address at http://user:password@host:port"
        )
    return f"{parts.scheme}://{parts.netloc}/api/"


def venue_url(text: str, encrypted: str, plain: str) -> str | Problem:
    """A venue's address without a final slash; orders and keys never travel unencrypted."""
    parts = server(text, (encrypted, plain), f"{encrypted}://host")
    if isinstance(parts, Problem):
        return parts
    if "@" in parts.netloc or parts.query:
        return Problem("holds more than a host and a path", f"write it as {encrypted}://host/path")
    if parts.scheme == plain and parts.hostname not in HERE:
        return Problem("is not encrypted and leaves this machine", f"write {encrypted}:// instead")
    return f"{parts.scheme}://{parts.netloc}{parts.path.rstrip('/')}"


def redis_url(text: str) -> str | Problem:
    parts = server(text, ("redis", "rediss"), "redis://:password@host:6379/0")
    if isinstance(parts, Problem):
        return parts
    database = parts.path.removeprefix("/")
    if database and not (database.isascii() and database.isdigit()):
        return Problem("does not end in a database number", "end it in /0, or leave that away")
    return parts.scheme + text[len(parts.scheme) :]


def database_url(text: str) -> str | Problem:
    """PostgreSQL under any of its names, or a SQLite file; nothing else is supported."""
    if text.lower().startswith("sqlite:"):
        return _sqlite(text)
    return postgresql_url(text, " or sqlite:///file.db")


def is_sqlite(url: object) -> bool:
    return isinstance(url, Secret) and url.reveal().startswith("sqlite")


def postgresql_url(text: str, otherwise: str = "") -> str | Problem:
    """``otherwise`` is what may be written instead."""
    example = "postgresql://user:password@host:5432/database"
    schemes = ("postgres", "postgresql", "postgresql+psycopg2")
    parts = server(text, schemes, f"{example}{otherwise}")
    if isinstance(parts, Problem):
        return parts
    if not parts.path.strip("/"):
        return Problem("names no database", f"end it in the database's name: {example}")
    return "postgresql+psycopg2" + text[len(parts.scheme) :]


def _sqlite(text: str) -> str | Problem:
    if _BLANK.search(text):
        return Problem("holds a blank or a control character", "remove it")
    path = text[len("sqlite://") :] if text.lower().startswith("sqlite://") else ""
    if not path.startswith("/") or path == "/" or path.startswith("/:memory:"):
        return Problem(
            "names no SQLite file that processes can share",
            "write sqlite:///relative.db or sqlite:////absolute/path.db",
        )
    return "sqlite://" + path


def server(text: str, schemes: tuple[str, ...], example: str) -> SplitResult | Problem:
    """Everything all addresses have in common. Causes never quote the text: it is a secret."""
    write = f"write it as {example}"
    if _BLANK.search(text):
        return Problem("holds a blank or a control character", "remove it")
    scheme, mark, _ = text.partition("://")
    if not mark:
        return Problem("is not a URL", write)
    if scheme.lower() not in schemes:
        return Problem(f"does not start with {' or '.join(s + '://' for s in schemes)}", write)
    if "#" in text:
        return Problem("holds a #, which ends a URL", "write it as %23")
    if _STRAY_PERCENT.search(text):
        return Problem("holds a % that encodes nothing", "write a literal % as %25")
    try:
        parts = urlsplit(text)
        host, port = parts.hostname, parts.port
    except ValueError:
        return Problem("has a host or port that cannot be read", f"{write}; {_ENCODE}")
    if parts.netloc.count("@") > 1:
        return Problem("holds more than one @", _ENCODE)
    if not host:
        return Problem("names no host", write)
    if port == 0 or parts.netloc.endswith(":"):
        return Problem("has no usable port", "name a port from 1 to 65535, or leave out the colon")
    return parts
