"""A TCP proxy that breaks the network on demand: slow, silent, cut, sliced, delivered twice.

Stands between a process and its broker, database or venue. What goes wrong can be changed while
connections are open; ``Toxics()`` is a network without faults.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
import socket
import struct
import threading
import time
from collections.abc import Callable, Coroutine
from concurrent.futures import Future
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any, Final, Literal, Self, TypeVar

from botswarm.errors import Unreachable
from botswarm.testing.servers import HOST, free_port

CHUNK: Final = 65_536
WAITING_MAX: Final = 256
"""Chunks that travel at once in one direction; then the sender is not read from."""
CALL_TIMEOUT_S: Final = 10.0
_RESET: Final = struct.pack("ii", 1, 0)

Direction = Literal["up", "down"]
"""To the server, or back from it."""
Result = TypeVar("Result")


@dataclass(frozen=True, slots=True, kw_only=True)
class Toxics:
    """What one direction does to what it carries."""

    latency_s: float = 0.0
    jitter_s: float = 0.0
    """At most so much more or less latency; bytes never overtake one another."""
    bytes_per_s: float | None = None
    slice_bytes: int | None = None
    """Everything arrives in pieces of this size."""
    slice_pause_s: float = 0.0
    is_black_hole: bool = False
    """What is sent disappears, and nobody hears that the other side has gone."""
    cut_after_bytes: int | None = None
    """Of one connection, counted from now on; then it is reset."""
    close_after_s: float = 0.0
    """How late the end of one side reaches the other."""


CLEAN: Final = Toxics()


@dataclass(eq=False, slots=True)
class _Link:
    """One connection through the proxy."""

    client: asyncio.StreamWriter
    server: asyncio.StreamWriter
    carried: dict[Direction, int] = field(default_factory=lambda: {"up": 0, "down": 0})
    """Since its toxics were set."""
    said: bytearray = field(default_factory=bytearray)
    """By the client, while it is being recorded."""
    tasks: list[asyncio.Task[None]] = field(default_factory=list)

    def reset(self) -> None:
        for writer in (self.client, self.server):
            made = writer.get_extra_info("socket")
            if made is not None:
                with contextlib.suppress(OSError):
                    made.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
            writer.transport.abort()


class FaultProxy:
    """A context manager; every method may be called from any thread, and is done on return."""

    def __init__(
        self,
        target_port: int,
        *,
        target_host: str = HOST,
        source: str | None = None,
        port: int | None = None,
        seed: int = 1,
    ) -> None:
        """``source`` is the address the target sees, such as 127.0.0.2."""
        self.port = port or free_port()
        self.target = target_host, target_port
        self.accepted = 0
        self._source = source
        self._random = random.Random(seed)  # noqa: S311 - a seed is the point of it
        self._toxics: dict[Direction, Toxics] = {"up": CLEAN, "down": CLEAN}
        self._links: set[_Link] = set()
        self._listener: asyncio.Server | None = None
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="proxy", daemon=True)
        self._is_open = asyncio.Event()
        self._is_open.set()
        self._records = False
        self._replays: set[asyncio.Task[None]] = set()

    def __enter__(self) -> Self:
        self._thread.start()
        self.up()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        if self._loop.is_closed():
            return
        self.down()
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(CALL_TIMEOUT_S)
        self._loop.close()

    # --- what goes wrong ------------------------------------------------------------------

    def set(self, *, up: Toxics | None = None, down: Toxics | None = None) -> None:
        """From now on, for connections that are open too; what is not named stays as it is."""

        def change() -> None:
            for direction, toxics in (("up", up), ("down", down)):
                if toxics is not None:
                    self._toxics[direction] = toxics  # type: ignore[index]
                    for link in self._links:
                        link.carried[direction] = 0  # type: ignore[index]

        self._call(change)

    def heal(self) -> None:
        """A network without faults; connections that were cut stay cut."""
        self.set(up=CLEAN, down=CLEAN)
        self.release()

    def down(self) -> None:
        """Nobody listens: attempts are refused, and what is open is reset."""

        async def work() -> None:
            if self._listener is not None:
                self._listener.close()
                self._listener = None
            links = list(self._links)
            for link in links:
                link.reset()
            tasks = [task for link in links for task in link.tasks]
            for task in (*tasks, *self._replays):
                task.cancel()
            await asyncio.gather(*tasks, *self._replays, return_exceptions=True)

        self._run(work())

    def up(self) -> None:
        async def work() -> None:
            if self._listener is None:
                self._listener = await asyncio.start_server(self._accept, HOST, self.port)

        self._run(work())

    def reset(self) -> int:
        """Cut every connection with a reset; how many there were."""

        def cut() -> int:
            links = list(self._links)
            for link in links:
                link.reset()
            return len(links)

        return self._call(cut)

    def hold(self) -> None:
        """The network keeps what clients send, and gives it back with ``release``."""

        def work() -> None:
            self._is_open.clear()
            self._records = True
            for link in self._links:
                link.said.clear()

        self._call(work)

    def release(self, *, copies_after_s: float | None = None) -> None:
        """What was held arrives now, and after that time once more, on connections of its own."""

        def work() -> None:
            said = [bytes(link.said) for link in self._links if link.said]
            self._records = False
            self._is_open.set()
            for data in said if copies_after_s is not None else ():
                task = asyncio.ensure_future(self._replay(data, copies_after_s or 0.0))
                self._replays.add(task)
                task.add_done_callback(self._replays.discard)

        self._call(work)

    @property
    def open_connections(self) -> int:
        return self._call(lambda: len(self._links))

    # --- within ---------------------------------------------------------------------------

    def _call(self, action: Callable[[], Result]) -> Result:
        async def work() -> Result:
            return action()

        return self._run(work())

    def _run(self, work: Coroutine[Any, Any, Result]) -> Result:
        if self._loop.is_closed():
            work.close()
            raise Unreachable("the proxy is closed", cure="make another")
        waiting: Future[Result] = asyncio.run_coroutine_threadsafe(work, self._loop)
        try:
            return waiting.result(CALL_TIMEOUT_S)
        except OSError as error:
            raise Unreachable(
                f"the proxy cannot listen on {HOST}:{self.port}: {error.strerror}",
                cure="end what listens there",
            ) from error

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.accepted += 1
        try:
            their_reader, their_writer = await self._connect()
        except OSError:
            # As if the target itself had refused.
            writer.transport.abort()
            return
        link = _Link(writer, their_writer)
        self._links.add(link)
        link.tasks = [
            asyncio.ensure_future(self._pump(link, reader, their_writer, "up")),
            asyncio.ensure_future(self._pump(link, their_reader, writer, "down")),
        ]
        try:
            await asyncio.wait(link.tasks)
        finally:
            self._links.discard(link)
            writer.close()
            their_writer.close()

    async def _connect(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        local = None if self._source is None else (self._source, 0)
        return await asyncio.open_connection(*self.target, local_addr=local)

    async def _replay(self, data: bytes, after_s: float) -> None:
        await asyncio.sleep(after_s)
        with contextlib.suppress(OSError):
            reader, writer = await self._connect()
            writer.write(data)
            await writer.drain()
            # The answer goes to nobody, as that of a copy does.
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(1.0):
                    await reader.read(CHUNK)
            writer.close()

    async def _pump(
        self,
        link: _Link,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        direction: Direction,
    ) -> None:
        """Read on while what was read still travels: latency takes no throughput away."""
        road: asyncio.Queue[tuple[float, bytes]] = asyncio.Queue(WAITING_MAX)
        delivering = asyncio.ensure_future(self._deliver(link, road, writer, direction))
        arrives = 0.0
        try:
            while True:
                data = await reader.read(CHUNK)
                toxics = self._toxics[direction]
                if direction == "up" and self._records:
                    link.said += data
                lag = toxics.latency_s + self._random.uniform(-1, 1) * toxics.jitter_s
                arrives = max(arrives, time.monotonic() + max(0.0, lag))
                await road.put((arrives, data))
                if not data:
                    await delivering
                    return
        except OSError:
            await self._end(link, direction)
        finally:
            delivering.cancel()

    async def _deliver(
        self,
        link: _Link,
        road: asyncio.Queue[tuple[float, bytes]],
        writer: asyncio.StreamWriter,
        direction: Direction,
    ) -> None:
        while True:
            arrives, data = await road.get()
            if (wait_s := arrives - time.monotonic()) > 0:
                await asyncio.sleep(wait_s)
            if direction == "up":
                await self._is_open.wait()
            if not data:
                await self._end(link, direction)
                return
            if self._toxics[direction].is_black_hole:
                continue
            try:
                await self._write(link, writer, data, direction)
            except OSError:
                return

    async def _write(
        self, link: _Link, writer: asyncio.StreamWriter, data: bytes, direction: Direction
    ) -> None:
        while data:
            toxics = self._toxics[direction]
            size = toxics.slice_bytes or len(data)
            if toxics.bytes_per_s is not None:
                size = min(size, max(1, int(toxics.bytes_per_s / 20)))
            left = toxics.cut_after_bytes
            if left is not None:
                size = min(size, left - link.carried[direction])
            piece, data = data[:size], data[size:]
            writer.write(piece)
            await writer.drain()
            link.carried[direction] += len(piece)
            if left is not None and link.carried[direction] >= left:
                link.reset()
                return
            if toxics.bytes_per_s is not None:
                await asyncio.sleep(len(piece) / toxics.bytes_per_s)
            elif data and toxics.slice_bytes is not None:
                await asyncio.sleep(toxics.slice_pause_s)

    async def _end(self, link: _Link, direction: Direction) -> None:
        """One side has ended; the other hears of it, now or later or not at all."""
        while self._toxics[direction].is_black_hole:
            await asyncio.sleep(0.05)
        await asyncio.sleep(self._toxics[direction].close_after_s)
        (link.server if direction == "up" else link.client).close()
