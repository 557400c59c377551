"""Where a simulated exchange listens: on the port of its last run, else on one that is free."""

from __future__ import annotations

import errno
import socket
from collections.abc import Iterator
from typing import Final

from botswarm.errors import Unreachable
from botswarm.exchanges.simulated.record import ExchangeRecord

HOST: Final = "127.0.0.1"
# Below the range that outgoing connections get their ports from: a client that retries while
# the exchange is away could be given the exchange's own port.
PORTS_TRIED: Final = 200


def listen(wanted: int | None, previous: ExchangeRecord | None, first: int) -> socket.socket:
    for port in _ports(wanted, previous, first):
        listener = socket.socket()
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            listener.bind((HOST, port))
        except OSError as error:
            listener.close()
            if wanted is not None or error.errno != errno.EADDRINUSE:
                raise Unreachable(
                    f"cannot listen on {HOST}:{port}: {error.strerror}",
                    cure="stop what listens there, or choose another --port",
                ) from error
            continue
        listener.listen(256)
        listener.setblocking(False)
        return listener
    raise Unreachable(
        f"no free port from {first} to {first + PORTS_TRIED - 1}",
        cure="name a free one with --port",
    )


def _ports(wanted: int | None, previous: ExchangeRecord | None, first: int) -> Iterator[int]:
    if wanted is not None:
        yield wanted
        return
    if previous is not None:
        yield previous.port
    yield from range(first, first + PORTS_TRIED)
