"""Which allowance goes with which venue, address and account of this machine."""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence
from pathlib import Path
from urllib.parse import urlsplit

from botswarm.config import Secret, Settings
from botswarm.exchanges.allowance import Limit
from botswarm.exchanges.binance import limits as binance
from botswarm.exchanges.board import Board
from botswarm.exchanges.coinbase import limits as coinbase
from botswarm.exchanges.kraken import limits as kraken
from botswarm.exchanges.shared_allowance import Elsewhere, SharedAllowance

START, END = "allowance-", ".bin"
PAPER = "paper-"
"""Before a venue's name: who trades on paper at its prices, in Binance's words."""
LIMITS: Mapping[str, Sequence[Limit]] = {
    "simulated": binance.LIMITS,
    "binance": binance.LIMITS,
    "coinbase": coinbase.LIMITS,
    "coinbase-exchange": coinbase.LIMITS,
    "kraken": kraken.LIMITS,
}


def shared(settings: Settings, venue: str, url: str, account: str = "") -> SharedAllowance:
    """With all processes that use the same state folder, and over Redis with other machines.

    A venue's testnet counts by itself: it is another server.
    """
    name = file_name(venue, url)
    board = _board((settings.state_dir / name).absolute())
    limits = binance.LIMITS if venue.startswith(PAPER) else LIMITS.get(venue, ())
    elsewhere = None if settings.redis_url is None else _elsewhere(settings, name)
    return SharedAllowance(venue, limits, board, account=account, elsewhere=elsewhere)


def _elsewhere(settings: Settings, name: str) -> Elsewhere:
    assert settings.redis_url is not None
    return _counts(
        settings.redis_url,
        f"botswarm:{settings.env}:{name.removesuffix(END)}",
        settings.instance_id,
        settings.address_name,
    )


@functools.lru_cache(maxsize=64)
def _counts(url: Secret, name: str, machine: str, address: str) -> Elsewhere:
    # Where no Redis is configured nobody loads its client.
    from botswarm.exchanges.redis_counts import RedisCounts

    return RedisCounts(url, name, machine=machine, address=address)


def file_name(venue: str, url: str) -> str:
    parts = urlsplit(url)
    port = f"-{parts.port}" if parts.port else ""
    return f"{START}{venue}-{parts.hostname or 'nowhere'}{port}{END}"


def boards(state_dir: Path) -> dict[str, Board]:
    """Of every server that was asked from this state folder, by venue and host."""
    found = sorted(state_dir.glob(f"{START}*{END}"))
    return {
        each.name.removeprefix(START).removesuffix(END): _board(each.absolute()) for each in found
    }


def clock_offsets(state_dir: Path) -> dict[str, tuple[float, float]]:
    """How far each server's clock was from ours, in seconds, and how long ago it was measured."""
    found = {server: board.offset() for server, board in boards(state_dir).items()}
    return {server: known for server, known in found.items() if known is not None}


@functools.lru_cache(maxsize=64)
def _board(file: Path) -> Board:
    return Board(file)
