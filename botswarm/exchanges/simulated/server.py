"""The simulated exchange as a process: state folder, port, connections, a clean end."""

from __future__ import annotations

import asyncio
import logging
import os
import secrets
import time
from collections.abc import Awaitable, Callable
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any, Final

from botswarm.clock import SystemClock
from botswarm.exchanges.simulated import record
from botswarm.exchanges.simulated.attempts import Outcome
from botswarm.exchanges.simulated.coinbase_guard import Guard as CoinbaseGuard
from botswarm.exchanges.simulated.coinbase_trading import STREAM_PATH as COINBASE_PATH
from botswarm.exchanges.simulated.coinbase_trading import CoinbaseTeller
from botswarm.exchanges.simulated.control import announce_shutdown, lines_of, retry_headers
from botswarm.exchanges.simulated.faults import VENUES
from botswarm.exchanges.simulated.gateway import Gateway
from botswarm.exchanges.simulated.http import (
    HEAD_BYTES_MAX,
    BadRequest,
    Request,
    Response,
    read_request,
    split_parameters,
)
from botswarm.exchanges.simulated.journal import Journal, JournalFailed, path_of
from botswarm.exchanges.simulated.kraken import KrakenFeed
from botswarm.exchanges.simulated.kraken_trading import STREAM_PATH as KRAKEN_PATH
from botswarm.exchanges.simulated.kraken_trading import KrakenTeller
from botswarm.exchanges.simulated.listening import HOST, listen
from botswarm.exchanges.simulated.market import STEP_MS
from botswarm.exchanges.simulated.mishaps import Delivery
from botswarm.exchanges.simulated.options import ACCOUNT, ExchangeOptions
from botswarm.exchanges.simulated.record import ExchangeRecord
from botswarm.exchanges.simulated.service import Service, Teller
from botswarm.exchanges.simulated.signatures import Credentials
from botswarm.exchanges.simulated.source import MarketSource
from botswarm.exchanges.simulated.streams import VENUE, Line, StreamConnection
from botswarm.exchanges.simulated.users import UserLine
from botswarm.exchanges.simulated.websocket import Closed, WebSocket, encode_frame, handshake
from botswarm.stopping import stop_signals

_log = logging.getLogger(__name__)

Turned = Callable[[], None]

WS_API_PATH: Final = "/ws-api/v3"


class Server:
    def __init__(self, service: Service, credentials: Credentials) -> None:
        self.service = service
        self.gateway = Gateway(service, credentials)
        self.coinbase: CoinbaseTeller | None = None
        if service.feeds:
            self.coinbase = CoinbaseTeller(service, credentials.key, credentials.secret)
            service.tellers["coinbase"] = self.coinbase
            service.tellers["kraken"] = KrakenTeller(
                service, credentials.key, credentials.secret, service.options.kraken_tier
            )
        self._connections: set[asyncio.Task[None]] = set()
        self.failed: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    async def on_connection(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._connections.add(task)
        try:
            await self._serve(reader, writer)
        except (OSError, asyncio.IncompleteReadError, TimeoutError, Closed):
            pass  # the client went away: there is nobody to tell
        except JournalFailed as error:
            self._fail(error)
        except asyncio.CancelledError:
            pass  # said goodbye: asyncio would call it an error of its own
        except Exception:
            _log.exception("a connection ended unexpectedly")
        finally:
            self._connections.discard(task)
            writer.close()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        peer = writer.get_extra_info("peername")[0]
        while True:
            try:
                request = await read_request(reader, peer)
            except BadRequest as error:
                answer = Response.json({"code": -1000, "msg": str(error)}, status=400)
                writer.write(answer.encode(keep_alive=False))
                return
            if request is None:
                return
            venue, request = _venue_of(request)
            if request.wants_websocket:
                await self._websocket(venue, request, reader, writer)
                return
            if self.service.is_down(venue) and not request.path.startswith("/botswarm/"):
                writer.transport.abort()
                return
            response, delivery = await self._rest(venue, request)
            if delivery == "none":
                writer.transport.abort()
                return
            encoded = response.encode(keep_alive=request.keeps_alive and delivery != "half")
            if delivery == "half":
                writer.write(encoded[: len(encoded) - len(response.body) // 2])
                return
            writer.write(encoded)
            if not request.keeps_alive:
                return
            await writer.drain()

    async def _rest(self, venue: str, request: Request) -> tuple[Response, Delivery]:
        if venue == VENUE:
            return await self.gateway.rest(request)
        teller = self.service.tellers.get(venue)
        if teller is not None and teller.is_door(request):
            return await teller.rest(request)
        feed = self.service.feeds.get(venue)
        answer = feed.rest(request) if feed is not None and request.method == "GET" else None
        return answer or Response.json({"message": "NotFound"}, status=404), "whole"

    # --- WebSockets -----------------------------------------------------------------------

    async def _websocket(
        self,
        venue: str,
        request: Request,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
    ) -> None:
        teller = self.service.tellers.get(venue)
        is_private = teller is not None and teller.is_door(request)
        is_told = venue == VENUE or venue in self.service.feeds
        is_stream = is_told and _is_stream(venue, request.path)
        if not is_private and not is_stream and request.path != WS_API_PATH:
            refusal: Response | None = Response.json(
                {"code": -1020, "msg": "no WebSocket lives here"}, status=404
            )
        else:
            outcome = self._judge(venue, request, is_private=is_private)
            if outcome == "refused":
                writer.transport.abort()
                return
            refusal = None if outcome == "accepted" else self._too_many(venue, request, outcome)
        answer = None if refusal else handshake(request)
        if answer is None:
            refusal = refusal or Response.json(
                {"code": -1000, "msg": "this is no WebSocket handshake"}, status=400
            )
            writer.write(refusal.encode(keep_alive=False))
            return
        writer.write(answer)
        socket_ = WebSocket(reader, writer)
        if teller is not None and is_private:
            await self._private_line(teller, request, socket_)
        elif request.path == WS_API_PATH:
            await self._user_line(request, socket_)
        elif venue == VENUE:
            await self._stream_connection(request, socket_)
        else:
            await self._feed_line(venue, request, socket_)

    def _judge(self, venue: str, request: Request, *, is_private: bool) -> Outcome:
        service, now_ms = self.service, self.service.now_ms()
        # An outage is one of market data: orders go on.
        is_private = is_private or request.path == WS_API_PATH
        is_down = service.is_down(venue) and not is_private
        outcome = service.attempts.judge(venue, request.peer, now_ms, is_down=is_down)
        service.stream_journal.note(
            "connect", now_ms, venue=venue, peer=request.peer, outcome=outcome
        )
        return outcome

    def _too_many(self, venue: str, request: Request, outcome: Outcome) -> Response:
        words = "Too many connection attempts from IP; current limit is 300"
        return Response.json(
            {"code": -1034, "msg": words} if venue == VENUE else {"message": "Too Many Requests"},
            status=418 if outcome == "banned" and venue == VENUE else 429,
            headers=retry_headers(self.service, venue, request.peer, outcome),
        )

    async def _stream_connection(self, request: Request, socket_: WebSocket) -> None:
        hub = self.service.hub
        is_combined = request.path == "/stream"
        line = StreamConnection(hub, socket_, time.monotonic(), is_combined=is_combined)
        line.number, line.peer = self.service.next_connection(), request.peer
        socket_.on_frame = lambda: line.counted(self.service.now_ms())
        hub.connections.add(line)
        try:
            line.subscribe(_wanted_streams(request))
            while not socket_.is_closing:
                line.on_message(await socket_.receive())
        finally:
            hub.leave(line)
            self._ended(line)

    async def _feed_line(self, venue: str, request: Request, socket_: WebSocket) -> None:
        feed = self.service.feeds[venue]
        line = feed.open(socket_, time.monotonic())
        line.number, line.peer = self.service.next_connection(), request.peer
        try:
            feed.greet(line)
            while not socket_.is_closing:
                feed.receive(line, await socket_.receive())
        finally:
            feed.leave(line)
            self._ended(line)

    def _ended(self, line: Line) -> None:
        service = self.service
        service.stream_journal.note(
            "end", service.now_ms(), venue=line.venue, peer=line.peer, connection=line.number
        )

    async def _private_line(self, teller: Teller, request: Request, socket_: WebSocket) -> None:
        line = teller.open(socket_, request.peer, time.monotonic())
        try:
            await self._each_by_itself(socket_, lambda text: teller.receive(line, text))
        finally:
            teller.leave(line)

    async def _user_line(self, request: Request, socket_: WebSocket) -> None:
        line = UserLine(socket_, time.monotonic())
        self.service.users.lines.add(line)
        try:
            await self._each_by_itself(socket_, lambda text: self._answer(line, request.peer, text))
        finally:
            self.service.users.lines.discard(line)

    async def _each_by_itself(
        self, socket_: WebSocket, answer: Callable[[str], Awaitable[None]]
    ) -> None:
        """One request that is held up holds up no other."""
        answers: set[asyncio.Task[None]] = set()

        async def guarded(text: str) -> None:
            try:
                await answer(text)
            except JournalFailed as error:
                self._fail(error)

        while not socket_.is_closing:
            task = asyncio.create_task(guarded(await socket_.receive()))
            answers.add(task)
            task.add_done_callback(answers.discard)

    def _fail(self, error: JournalFailed) -> None:
        if not self.failed.done():
            self.failed.set_exception(error)

    async def _answer(self, line: UserLine, peer: str, text: str) -> None:
        answer, delivery = await self.gateway.ws_api(line, peer, text)
        if delivery == "whole":
            line.socket.send(encode_frame(answer))
            return
        if delivery == "half":
            line.socket.send(encode_frame(answer)[: len(answer) // 2])
        line.socket.abort()

    # --- time -----------------------------------------------------------------------------

    async def run_market(self, turned: Turned) -> None:
        while True:
            turned()
            await asyncio.sleep((STEP_MS - self.service.now_ms() % STEP_MS + 1) / 1000)
            self.service.step()
            self.gateway.control.step()

    async def keep_lines(self) -> None:
        options = self.service.options
        while True:
            lifetime_s = self.service.lifetime_s
            await asyncio.sleep(min(1.0, options.ping_s / 4, lifetime_s / 4))
            for line in list(lines_of(self.service)):
                line.keep_alive(
                    time.monotonic(),
                    ping_s=options.ping_s,
                    pong_s=options.pong_s,
                    lifetime_s=lifetime_s,
                )

    async def say_goodbye(self) -> None:
        announce_shutdown(self.service)
        self.service.stop()
        for task in list(self._connections):
            task.cancel()
        await asyncio.gather(*self._connections, return_exceptions=True)


def _venue_of(request: Request) -> tuple[str, Request]:
    """Whose door it is, and the request as that venue sees it."""
    first, _, rest = request.path.removeprefix("/").partition("/")
    if first in VENUES and first != VENUE:
        return first, replace(request, path=f"/{rest}")
    return VENUE, request


def _is_stream(venue: str, path: str) -> bool:
    if venue == VENUE:
        return path in ("/ws", "/stream") or path.startswith("/ws/")
    return path == ("/v2" if venue == KrakenFeed.name else "/")


def _wanted_streams(request: Request) -> list[str]:
    if request.path.startswith("/ws/"):
        return [name for name in request.path.removeprefix("/ws/").split("/") if name]
    wishes = dict(split_parameters(request.query)).get("streams", "")
    return [name for name in wishes.split("/") if name]


def serve(
    options: ExchangeOptions, source: MarketSource | None = None, turned: Turned = lambda: None
) -> None:
    """Run until SIGTERM or SIGINT; what cannot start raises an error that says why.

    ``turned`` is called with each step of the market.
    """
    journal = Journal(path_of(options.state_dir, options.part))
    try:
        asyncio.run(_run(options, journal, source, turned))
    finally:
        journal.close()


async def _run(
    options: ExchangeOptions, journal: Journal, source: MarketSource | None, turned: Turned
) -> None:
    previous = record.read(options.state_dir, options.part)
    listener = listen(options.port, previous, options.first_port)
    credentials = Credentials(
        previous.api_key if previous else secrets.token_hex(32),
        previous.api_secret if previous else secrets.token_hex(32),
        ACCOUNT,
    )
    service = Service(options, journal, SystemClock(), source)
    service.step()
    server = Server(service, credentials)
    stop = asyncio.Event()
    for number in stop_signals():
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    listening = await asyncio.start_server(
        server.on_connection, sock=listener, limit=HEAD_BYTES_MAX
    )
    port = listener.getsockname()[1]
    card = _card(port, credentials)
    if server.coinbase is not None:
        card = _with_others(card, server.coinbase.guard)
    record.write(options.state_dir, card, options.part)
    _log.info("%s: http://%s:%d", options.title, HOST, port)
    work = [asyncio.create_task(each) for each in (server.run_market(turned), server.keep_lines())]
    stopped = asyncio.create_task(stop.wait())
    endings: list[asyncio.Future[Any]] = [*work, stopped, server.failed]
    done, _ = await asyncio.wait(endings, return_when=asyncio.FIRST_COMPLETED)
    listening.close()
    for task in [*work, stopped]:
        task.cancel()
    # Whatever else ended is a failure: nothing more may be written or told after it.
    for each in done - {stopped}:
        each.result()
    await server.say_goodbye()
    _log.info("%s: stopped", options.title)


def _card(port: int, credentials: Credentials) -> ExchangeRecord:
    return ExchangeRecord(
        host=HOST,
        port=port,
        rest_url=f"http://{HOST}:{port}",
        stream_url=f"ws://{HOST}:{port}",
        ws_api_url=f"ws://{HOST}:{port}{WS_API_PATH}",
        api_key=credentials.key,
        api_secret=credentials.secret,
        pid=os.getpid(),
        started_at=datetime.now(UTC).isoformat(timespec="seconds"),
    )


def _with_others(card: ExchangeRecord, coinbase: CoinbaseGuard) -> ExchangeRecord:
    """Where the other venues' protocols are spoken, too."""
    there = f"{HOST}:{card.port}"
    return replace(
        card,
        coinbase_rest_url=f"http://{there}/coinbase",
        coinbase_stream_url=f"ws://{there}/coinbase",
        coinbase_trading_url=f"ws://{there}/coinbase{COINBASE_PATH}",
        coinbase_api_key=coinbase.name,
        coinbase_api_secret=coinbase.pem,
        coinbase_exchange_rest_url=f"http://{there}/coinbase-exchange",
        coinbase_exchange_stream_url=f"ws://{there}/coinbase-exchange",
        kraken_rest_url=f"http://{there}/kraken",
        kraken_stream_url=f"ws://{there}/kraken/v2",
        kraken_trading_url=f"ws://{there}/kraken{KRAKEN_PATH}",
    )
