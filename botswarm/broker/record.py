"""The broker's address card: where a running broker is, for every other process here."""

from __future__ import annotations

import json
import os
from dataclasses import asdict, dataclass
from pathlib import Path

from botswarm.errors import Unreachable

FILE = "broker.json"


@dataclass(frozen=True, slots=True, kw_only=True)
class BrokerRecord:
    """Written 0600 into the state folder: it carries the random password."""

    host: str
    port: int
    management_port: int
    user: str
    password: str
    pid: int
    started_at: str

    def __repr__(self) -> str:
        return f"BrokerRecord({self.host}:{self.port}, pid {self.pid})"

    @property
    def url(self) -> str:
        # No path: kombu, pika, aio-pika and Flower all read that as the vhost "/", and they
        # agree on no other spelling of it.
        return f"amqp://{self.user}:{self.password}@{self.host}:{self.port}"

    @property
    def management_url(self) -> str:
        return f"http://{self.user}:{self.password}@{self.host}:{self.management_port}/api/"


def read(state_dir: Path) -> BrokerRecord | None:
    """The last broker's record, whether or not it still runs; None where there was none."""
    try:
        text = (state_dir / FILE).read_text()
    except FileNotFoundError:
        return None
    try:
        return BrokerRecord(**json.loads(text))
    except (ValueError, TypeError):
        return None  # half-written by an older version: the next start writes it anew


def addresses(state_dir: Path) -> dict[str, str] | None:
    """What an entrance gives to ``config.load``: the embedded broker's URLs by setting name."""
    try:
        found = read(state_dir)
    except OSError as error:
        raise Unreachable(
            f"cannot read {state_dir / FILE}: {error.strerror}",
            cure="run as the user who started the broker, or set BOTSWARM_STATE_DIR",
        ) from error
    if found is None:
        return None
    return {"broker_url": found.url, "broker_management_url": found.management_url}


def write(state_dir: Path, record: BrokerRecord) -> None:
    """Replace the record in one step, readable by its owner only."""
    temporary = state_dir / f"{FILE}.{os.getpid()}"
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(descriptor, "w") as file:
        json.dump(asdict(record), file, indent=1)
    temporary.replace(state_dir / FILE)
