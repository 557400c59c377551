"""The simulated exchange as a process: state folder, port, connections, a clean end."""

from __future__ import annotations

import asyncio
import errno
import logging
import os
import secrets
import signal
import socket
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any, Final

from botswarm.clock import SystemClock
from botswarm.errors import Unreachable
from botswarm.exchanges.simulated import record
from botswarm.exchanges.simulated.gateway import Gateway, announce_shutdown
from botswarm.exchanges.simulated.http import (
    HEAD_BYTES_MAX,
    BadRequest,
    Request,
    Response,
    read_request,
    split_parameters,
)
from botswarm.exchanges.simulated.journal import FILE, Journal, JournalFailed
from botswarm.exchanges.simulated.limits import (
    CONNECTION_WINDOW_MS,
    CONNECTIONS_PER_WINDOW,
    Recent,
)
from botswarm.exchanges.simulated.market import STEP_MS
from botswarm.exchanges.simulated.options import ACCOUNT, ExchangeOptions
from botswarm.exchanges.simulated.record import ExchangeRecord
from botswarm.exchanges.simulated.service import Service
from botswarm.exchanges.simulated.signatures import Credentials
from botswarm.exchanges.simulated.streams import Line, StreamConnection
from botswarm.exchanges.simulated.users import UserLine
from botswarm.exchanges.simulated.websocket import Closed, WebSocket, encode_frame, handshake

_log = logging.getLogger(__name__)

HOST: Final = "127.0.0.1"
PORT: Final = 18443
# Below the range that outgoing connections get their ports from: a client that retries while
# the exchange is away could be given the exchange's own port.
PORTS_TRIED: Final = 200


class Server:
    def __init__(self, service: Service, credentials: Credentials) -> None:
        self.service = service
        self.gateway = Gateway(service, credentials)
        self._attempts: dict[str, Recent] = {}
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
            if request.wants_websocket:
                await self._websocket(request, reader, writer)
                return
            response, delivery = await self.gateway.rest(request)
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

    # --- WebSockets -----------------------------------------------------------------------

    async def _websocket(
        self, request: Request, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        refusal = self._objection(request)
        answer = None if refusal else handshake(request)
        if answer is None:
            refusal = refusal or Response.json(
                {"code": -1000, "msg": "this is no WebSocket handshake"}, status=400
            )
            writer.write(refusal.encode(keep_alive=False))
            return
        writer.write(answer)
        socket_ = WebSocket(reader, writer)
        if request.path == "/ws-api/v3":
            await self._user_line(request, socket_)
        else:
            await self._stream_connection(request, socket_)

    def _objection(self, request: Request) -> Response | None:
        is_stream = request.path in ("/ws", "/stream") or request.path.startswith("/ws/")
        if not is_stream and request.path != "/ws-api/v3":
            return Response.json({"code": -1020, "msg": "no WebSocket lives here"}, status=404)
        attempts = self._attempts.setdefault(
            request.peer, Recent(CONNECTIONS_PER_WINDOW, CONNECTION_WINDOW_MS)
        )
        if attempts.admits(self.service.now_ms()):
            return None
        return Response.json(
            {"code": -1034, "msg": "Too many connection attempts from IP; current limit is 300"},
            status=429,
            headers={"Retry-After": str(CONNECTION_WINDOW_MS // 1000)},
        )

    async def _stream_connection(self, request: Request, socket_: WebSocket) -> None:
        hub = self.service.hub
        is_combined = request.path == "/stream"
        line = StreamConnection(hub, socket_, time.monotonic(), is_combined=is_combined)
        socket_.on_frame = lambda: line.counted(self.service.now_ms())
        hub.connections.add(line)
        try:
            line.subscribe(_wanted_streams(request))
            while not socket_.is_closing:
                line.on_message(await socket_.receive())
        finally:
            hub.leave(line)

    async def _user_line(self, request: Request, socket_: WebSocket) -> None:
        line = UserLine(socket_, time.monotonic())
        self.service.users.lines.add(line)
        answers: set[asyncio.Task[None]] = set()
        try:
            while not socket_.is_closing:
                text = await socket_.receive()
                # Each by itself: one that is held up holds up no other.
                task = asyncio.create_task(self._answer(line, request.peer, text))
                answers.add(task)
                task.add_done_callback(answers.discard)
        finally:
            self.service.users.lines.discard(line)

    def _fail(self, error: JournalFailed) -> None:
        if not self.failed.done():
            self.failed.set_exception(error)

    async def _answer(self, line: UserLine, peer: str, text: str) -> None:
        try:
            answer, delivery = await self.gateway.ws_api(line, peer, text)
        except JournalFailed as error:
            self._fail(error)
            return
        if delivery == "whole":
            line.socket.send(encode_frame(answer))
            return
        if delivery == "half":
            line.socket.send(encode_frame(answer)[: len(answer) // 2])
        line.socket.abort()

    # --- time -----------------------------------------------------------------------------

    async def run_market(self) -> None:
        while True:
            await asyncio.sleep((STEP_MS - self.service.now_ms() % STEP_MS + 1) / 1000)
            self.service.step()

    async def keep_lines(self) -> None:
        options = self.service.options
        period_s = min(1.0, options.ping_s / 4, options.lifetime_s / 4)
        while True:
            await asyncio.sleep(period_s)
            lines: list[Line] = [*self.service.hub.connections, *self.service.users.lines]
            for line in lines:
                line.keep_alive(
                    time.monotonic(),
                    ping_s=options.ping_s,
                    pong_s=options.pong_s,
                    lifetime_s=options.lifetime_s,
                )

    async def say_goodbye(self) -> None:
        announce_shutdown(self.service)
        self.service.stop()
        for task in list(self._connections):
            task.cancel()
        await asyncio.gather(*self._connections, return_exceptions=True)


def _wanted_streams(request: Request) -> list[str]:
    if request.path.startswith("/ws/"):
        return [name for name in request.path.removeprefix("/ws/").split("/") if name]
    wishes = dict(split_parameters(request.query)).get("streams", "")
    return [name for name in wishes.split("/") if name]


def serve(options: ExchangeOptions) -> None:
    """Run until SIGTERM or SIGINT; what cannot start raises an error that says why."""
    journal = Journal(options.state_dir / FILE)
    try:
        asyncio.run(_run(options, journal))
    finally:
        journal.close()


async def _run(options: ExchangeOptions, journal: Journal) -> None:
    previous = record.read(options.state_dir)
    listener = _listen(options.port, previous)
    credentials = Credentials(
        previous.api_key if previous else secrets.token_hex(32),
        previous.api_secret if previous else secrets.token_hex(32),
        ACCOUNT,
    )
    service = Service(options, journal, SystemClock())
    service.step()
    server = Server(service, credentials)
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    listening = await asyncio.start_server(
        server.on_connection, sock=listener, limit=HEAD_BYTES_MAX
    )
    port = listener.getsockname()[1]
    record.write(options.state_dir, _card(port, credentials))
    _log.info("simulated exchange: http://%s:%d, scenario %s", HOST, port, options.scenario)
    work = [asyncio.create_task(each) for each in (server.run_market(), server.keep_lines())]
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
    _log.info("simulated exchange: stopped")


def _card(port: int, credentials: Credentials) -> ExchangeRecord:
    return ExchangeRecord(
        host=HOST,
        port=port,
        rest_url=f"http://{HOST}:{port}",
        stream_url=f"ws://{HOST}:{port}",
        ws_api_url=f"ws://{HOST}:{port}/ws-api/v3",
        api_key=credentials.key,
        api_secret=credentials.secret,
        pid=os.getpid(),
        started_at=datetime.now(UTC).isoformat(timespec="seconds"),
    )


def _listen(wanted: int | None, previous: ExchangeRecord | None) -> socket.socket:
    for port in _ports(wanted, previous):
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
        f"no free port from {PORT} to {PORT + PORTS_TRIED - 1}",
        cure="name a free one with --port",
    )


def _ports(wanted: int | None, previous: ExchangeRecord | None) -> Iterator[int]:
    if wanted is not None:
        yield wanted
        return
    if previous is not None:
        yield previous.port
    yield from range(PORT, PORT + PORTS_TRIED)
