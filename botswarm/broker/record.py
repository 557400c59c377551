"""The broker's address card: where a running broker is, for every other process here."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from botswarm import cards
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
    return cards.read(state_dir / FILE, BrokerRecord)


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
    cards.write(state_dir / FILE, record)
