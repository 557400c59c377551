"""The door behind the counter: orders mishaps, carries out those that strike at once, and tells
what the streams have told so far."""

from __future__ import annotations

import asyncio
import hmac
import json
import random
from collections.abc import Iterator, Mapping
from dataclasses import asdict
from typing import Final

from botswarm.exchanges.simulated.attempts import Outcome
from botswarm.exchanges.simulated.faults import VENUES, Fault
from botswarm.exchanges.simulated.feeds import FeedLine
from botswarm.exchanges.simulated.http import Request, Response
from botswarm.exchanges.simulated.limits import Storm
from botswarm.exchanges.simulated.random_streams import RandomStreams
from botswarm.exchanges.simulated.refusal import Refusal
from botswarm.exchanges.simulated.service import Service
from botswarm.exchanges.simulated.stream_faults import odd_frames
from botswarm.exchanges.simulated.streams import VENUE, Line, StreamConnection
from botswarm.exchanges.simulated.websocket import BINARY, TEXT, encode_frame

FAULTS_PATH: Final = "/botswarm/faults"
STREAMS_PATH: Final = "/botswarm/streams"
SECRET_HEADER: Final = "x-botswarm-secret"  # noqa: S105 - its name, not its value
TRICKLE_BYTES_PER_S: Final = 200
GOING_AWAY: Final = 1001


class Control:
    def __init__(self, service: Service, secret: str) -> None:
        self.service = service
        self._secret = secret
        self._tasks: set[asyncio.Task[None]] = set()
        self._choice = random.Random(0)  # noqa: S311 - spreads mishaps, guards nothing

    def answer(self, request: Request) -> Response | None:
        """None where it is none of these doors."""
        if request.path not in (FAULTS_PATH, STREAMS_PATH):
            return None
        given = request.headers.get(SECRET_HEADER, "")
        if not hmac.compare_digest(given.encode(), self._secret.encode()):
            return Response.json({"code": -2015, "msg": "the secret is wrong"}, status=401)
        if request.path == STREAMS_PATH:
            return Response.json(self.described())
        return self._faults(request)

    def _faults(self, request: Request) -> Response | None:
        faults = self.service.faults
        if request.method == "DELETE":
            faults.clear()
            self.service.random_streams = None
        elif request.method == "POST":
            try:
                wish = json.loads(request.body or "{}")
                if not isinstance(wish, dict):
                    raise Refusal(-1130, "the body is a JSON object")
                self.order(wish)
            except ValueError:
                return Response.json({"code": -1135, "msg": "the body is not JSON"}, status=400)
            except Refusal as why:
                return Response.json({"code": why.code, "msg": why.text}, status=400)
        elif request.method != "GET":
            return None
        return Response.json(faults.described())

    def order(self, wish: Mapping[str, object]) -> None:
        fault = self.service.faults.arm(wish)
        now_ms = self.service.now_ms()
        self.service.stream_journal.note("fault", now_ms, wish=dict(wish))
        if not fault.left:
            self._act(fault)

    # --- what strikes at once -------------------------------------------------------------

    def _act(self, fault: Fault) -> None:
        service, until_ms = self.service, self.service.now_ms() + int(fault.seconds * 1000)
        venues = VENUES if fault.venue == "any" else (fault.venue,)
        if fault.kind == "feed_outage":
            service.silent_until_ms = until_ms
        elif fault.kind == "clock_offset":
            service.clock_offset_ms = int(fault.seconds * 1000)
        elif fault.kind in ("too_many", "banned"):
            service.storms.append(Storm(fault.kind == "banned", service.now_ms(), until_ms))
        elif fault.kind == "lifetime":
            service.lifetime_s = fault.seconds
        elif fault.kind == "disconnect_users":
            for line in list(users_of(service, fault.venue)):
                line.socket.abort()
        elif fault.kind == "outage":
            service.down_until_ms |= dict.fromkeys(venues, until_ms)
            for line in self._chosen(fault):
                line.socket.abort()
        elif fault.kind == "limit_connects":
            service.attempts.limited_until_ms |= dict.fromkeys(venues, until_ms)
        elif fault.kind == "random_streams":
            service.random_streams = RandomStreams(fault.seed, until_ms)
        elif fault.kind == "shutdown":
            self._announce(fault)
        else:
            for line in self._chosen(fault):
                self._strike(line, fault)

    def _chosen(self, fault: Fault) -> list[Line]:
        found = [
            line
            for line in self.service.stream_lines()
            if fault.venue in (line.venue, "any")
            and fault.peer in (line.peer, "any")
            and line.socket.can_send
        ]
        if fault.share < 1 and found:
            found = self._choice.sample(found, max(1, round(len(found) * fault.share)))
        return found

    def _strike(self, line: Line, fault: Fault) -> None:
        if fault.kind == "disconnect_streams":
            line.socket.abort()
        elif fault.kind == "half_open":
            line.socket.is_mute = True
        elif fault.kind == "no_pong":
            line.socket.answers_pings = False
        elif fault.kind == "no_ping":
            line.sends_pings = False
        elif fault.kind == "trickle":
            self._begin(line.socket.trickle(TRICKLE_BYTES_PER_S, fault.seconds))
        else:
            payload, is_binary = odd_frames(fault.kind)
            line.socket.send(encode_frame(payload, BINARY if is_binary else TEXT))

    def _announce(self, fault: Fault) -> None:
        lines = self._chosen(fault)
        for line in lines:
            announce(line, self.service.now_ms())
        if fault.venue == "any":
            lines += users_of(self.service)
            announce_to_users(self.service)
        if not fault.seconds:
            close_all(lines)
            return

        async def close_later() -> None:
            await asyncio.sleep(fault.seconds)
            close_all(lines)

        self._begin(close_later())

    def _begin(self, work: object) -> None:
        task = asyncio.ensure_future(work)  # type: ignore[call-overload]
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def step(self) -> None:
        """What happens at random, where that was ordered."""
        chaos, now_ms = self.service.random_streams, self.service.now_ms()
        if chaos is None:
            return
        for wish in chaos.due(now_ms):
            self.order(wish)
        if chaos.is_over(now_ms):
            self.service.random_streams = None

    # --- what was told --------------------------------------------------------------------

    def described(self) -> dict[str, object]:
        service = self.service
        return {
            "now_ms": service.now_ms(),
            "attempts": service.attempts.described(),
            "storms": [asdict(storm) for storm in service.storms],
            "connections": [
                {
                    "venue": line.venue,
                    "number": line.number,
                    "peer": line.peer,
                    "streams": len(line.streams)
                    if isinstance(line, StreamConnection)
                    else len(getattr(line, "wanted", ())),
                }
                for line in service.stream_lines()
            ],
            "markets": {
                symbol: {
                    "trades": len(board.tape.trades),
                    "first_trade_id": board.tape.trades[0].id if board.tape.trades else None,
                    "last_trade_id": board.market.last_trade_id,
                }
                for symbol, board in service.publisher.boards.items()
            },
        }


def retry_headers(service: Service, venue: str, peer: str, outcome: Outcome) -> dict[str, str]:
    return {"Retry-After": str(service.attempts.retry_after_s(venue, peer, service.now_ms()))}


def announce(line: Line, now_ms: int) -> None:
    """That the connection will end, in the venue's words."""
    if isinstance(line, FeedLine):
        line.feed.farewell(line)
    elif isinstance(line, StreamConnection):
        event = {"e": "serverShutdown", "E": now_ms}
        combined = {"stream": "!serverShutdown", "data": event}
        line.socket.send_text(json.dumps(combined if line.is_combined else event))


def announce_to_users(service: Service) -> None:
    event = {"e": "serverShutdown", "E": service.now_ms()}
    for line in list(service.users.lines):
        line.socket.send_text(json.dumps({"event": event}))


def close_all(lines: list[Line]) -> None:
    for line in lines:
        line.socket.close(GOING_AWAY, "server shutdown")


def announce_shutdown(service: Service) -> None:
    """As a venue does before it restarts; then every connection is closed."""
    lines: list[Line] = list(service.stream_lines())
    for line in lines:
        announce(line, service.now_ms())
    announce_to_users(service)
    close_all([*lines, *users_of(service)])


def lines_of(service: Service) -> Iterator[Line]:
    yield from service.stream_lines()
    yield from users_of(service)


def users_of(service: Service, venue: str = "any") -> Iterator[Line]:
    """Connections on which accounts are spoken of."""
    if venue in (VENUE, "any"):
        yield from service.users.lines
    for name, teller in service.tellers.items():
        if venue in (name, "any"):
            yield from teller.lines
