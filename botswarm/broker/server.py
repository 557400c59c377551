"""The broker as a process: state folder, ports, replay, listening, a clean end."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import fcntl
import gc
import logging
import os
import secrets
import socket
from array import array
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import IO, Final

from botswarm.broker import definitions as define
from botswarm.broker import record
from botswarm.broker.channel import Channel
from botswarm.broker.connection import Connection
from botswarm.broker.definitions import Definitions, Op, check_queue, text_to_raw
from botswarm.broker.exchanges import Binding, Exchange
from botswarm.broker.hub import Hub
from botswarm.broker.journal import DEFINE, Journal, Recovered, Replay
from botswarm.broker.management import Management
from botswarm.broker.options import BrokerOptions
from botswarm.broker.queues import CHUNK_BYTES, CHUNK_MESSAGES, Chunk, Queue
from botswarm.broker.record import BrokerRecord
from botswarm.broker.vhost import VHost
from botswarm.broker.wire import AmqpError, read_table
from botswarm.errors import NotFound, Refused, Unreachable
from botswarm.stopping import stop_signals

_log = logging.getLogger(__name__)

HOST: Final = "127.0.0.1"
USER: Final = "botswarm"
PORT: Final = 5672
MANAGEMENT_PORT: Final = 15672
# Searched upwards from the usual port. Ports from 32768 on are handed to outgoing connections:
# a client that retries while the broker is away could be given the broker's own port.
PORTS_TRIED: Final = 200
ALARM_CHECK_S: Final = 0.2
DISK_CHECK_S: Final = 1.0
GOODBYE_S: Final = 2.0

Turned = Callable[[], None]


class Broker:
    """Everything of one broker process; also the house its connections live in."""

    def __init__(self, options: BrokerOptions, user: str, password: str) -> None:
        self.options = options
        self.user = user
        self.password = password
        self.vhosts: dict[str, VHost] = {}
        self.journal = Journal(
            options.state_dir / "broker", self._snapshot, fsync=options.fsync != "never"
        )
        self.hub = Hub(
            self.journal,
            fsync=options.fsync,
            memory_high_bytes=options.memory_high_mb * 1024 * 1024,
        )
        self.started_at = datetime.now(UTC)
        self._last_queue_id = 0
        self._replaying = True

    # --- coming back ----------------------------------------------------------------------

    def recover(self) -> None:
        """Read the journal; afterwards everything is as it was, and what was out is back."""
        definitions = Definitions()
        gc.disable()  # a million small integers are not garbage
        try:
            replay = self.journal.open(definitions.read)
            self._last_queue_id = definitions.last_queue_id
            self.hub.last_id = max(replay.last_id, definitions.last_message_id)
            self._rebuild(definitions)
            self._replaying = False
            self.journal.start()
            if "/" not in self.vhosts:
                self.add_vhost("/")
            self._restore_messages(replay)
            self.hub.clean_if_wanted()
        finally:
            gc.enable()
        del definitions
        gc.freeze()
        if replay.skipped or replay.torn_bytes:
            _log.warning(
                "journal: %d bytes of a torn record dropped, %d damaged records skipped",
                replay.torn_bytes,
                replay.skipped,
            )

    def _rebuild(self, definitions: Definitions) -> None:
        for op in definitions.of("vhost"):
            self.add_vhost(op["name"])
        for op in definitions.of("exchange"):
            self.add_vhost(op["vhost"]).add_exchange(
                Exchange(
                    op["name"],
                    op["kind"],
                    True,
                    op["auto_delete"],
                    op["internal"],
                    text_to_raw(op["arguments"]),
                )
            )
        for op in definitions.of("queue"):
            self._rebuild_queue(op)
        for op in definitions.of("binding"):
            binding = Binding(
                op["to"], op["destination"], op["routing_key"], text_to_raw(op["arguments"])
            )
            try:
                self.add_vhost(op["vhost"]).bind(op["source"], binding)
            except AmqpError as error:  # the record of what it binds is damaged
                _log.warning("journal: a binding is left out: %s", error)

    def _rebuild_queue(self, op: Op) -> None:
        # The vhost is there already, unless its own record is damaged.
        vhost, raw = self.add_vhost(op["vhost"]), text_to_raw(op["arguments"])
        traits = check_queue(
            op["name"],
            read_table(raw),
            durable=True,
            exclusive=False,
            auto_delete=op["auto_delete"],
        )
        vhost.add_queue(
            Queue(
                self.hub,
                op["id"],
                op["name"],
                traits,
                durable=True,
                auto_delete=op["auto_delete"],
                owner=None,
                raw_arguments=raw,
                dead_letter=vhost.dead_letter,
                remove=vhost.remove_queue,
            )
        )

    def _restore_messages(self, replay: Replay) -> None:
        for queue_id, recovered in replay.queues.items():
            queue = self.hub.queues_by_id.get(queue_id)
            if queue is not None and recovered.locations:
                self._restore_queue(queue, recovered)
                recovered.locations.clear()

    def _restore_queue(self, queue: Queue, recovered: Recovered) -> None:
        seen = sorted(recovered.deliveries)
        locations = array("Q", (recovered.locations.pop(i) & MASK for i in seen))
        for at, published in enumerate(self.journal.read(locations)):
            if published is not None:
                queue.restore_delivered(
                    published, locations[at], recovered.deliveries[published.id]
                )
        chunks: dict[int, Chunk] = {}
        for message_id, priority, place in self._in_order(queue, recovered):
            chunk = chunks.get(priority)
            if chunk is None:
                chunk = chunks[priority] = Chunk()
            chunk.add(message_id, place & MASK, place >> 64)
            if len(chunk.ids) >= CHUNK_MESSAGES or chunk.shares >= CHUNK_BYTES:
                queue.restore(chunks.pop(priority), priority)
        for priority, chunk in chunks.items():
            queue.restore(chunk, priority)
        queue.recovered()

    def _in_order(self, queue: Queue, recovered: Recovered) -> Iterator[tuple[int, int, int]]:
        """Id, priority and place of each message; those that need more are read for it."""
        traits = queue.traits
        ids = sorted(recovered.locations)
        if not traits.max_priority and traits.max_length_bytes is None:
            for message_id in ids:
                yield message_id, 0, recovered.locations[message_id]
            return
        locations = array("Q", (recovered.locations[i] & MASK for i in ids))
        for message_id, published in zip(ids, self.journal.read(locations), strict=True):
            if published is None:
                continue
            queue.ready_bytes += len(published.body)
            priority = min(published.priority, traits.max_priority)
            yield message_id, priority, recovered.locations[message_id]

    # --- vhosts and definitions -----------------------------------------------------------

    def add_vhost(self, name: str) -> VHost:
        vhost = self.vhosts.get(name)
        if vhost is None:
            vhost = self.vhosts[name] = VHost(self.hub, name, self._new_queue_id)
            vhost.on_change = self._changed
            self._changed({"op": "vhost+", "name": name})
        return vhost

    def remove_vhost(self, name: str) -> None:
        vhost = self.vhosts.get(name)
        if vhost is None:
            raise NotFound(f"there is no vhost {name!r}")
        if name == "/":
            raise Refused("the vhost / always stays")
        for connection in list(self.hub.connections):
            if connection.is_in(vhost):
                connection.close(320, f"CONNECTION_FORCED - vhost '{name}' is deleted")
        for queue in list(vhost.queues.values()):
            vhost.remove_queue(queue)
        for op in list(vhost.ops()):
            if op["op"] in ("exchange+", "binding+"):
                self._changed({**op, "op": op["op"][:-1] + "-"})
        del self.vhosts[name]
        self._changed({"op": "vhost-", "name": name})

    def _new_queue_id(self) -> int:
        self._last_queue_id += 1
        return self._last_queue_id

    def _changed(self, op: Op) -> None:
        if not self._replaying:
            self.journal.append(DEFINE, define.encode_ops([op]))
            self.hub.wake()

    def _snapshot(self) -> bytes:
        last = {
            "op": "last",
            "queue_id": self._last_queue_id,
            "message_id": self.hub.last_id,
        }
        return define.encode_ops(
            [last, *(op for vhost in self.vhosts.values() for op in vhost.ops())]
        )

    # --- watching -------------------------------------------------------------------------

    async def watch_alarms(self, turned: Turned) -> None:
        next_disk_check = 0.0
        while True:
            turned()
            now = self.hub.loop.time()
            if now >= next_disk_check:
                next_disk_check = now + DISK_CHECK_S
                self.hub.disk_low = self._free_disk_bytes() < (
                    self.options.disk_free_low_mb * 1024 * 1024
                )
            self.hub.look_at_alarms()
            await asyncio.sleep(ALARM_CHECK_S)

    def _free_disk_bytes(self) -> int:
        disk = os.statvfs(self.journal.folder)
        return disk.f_bavail * disk.f_frsize

    async def watch_consumers(self) -> None:
        """Close channels that sit on a delivery for too long: its message is wanted elsewhere."""
        limit = self.options.consumer_timeout_s
        while True:
            await asyncio.sleep(min(60.0, limit / 4))
            now = self.hub.loop.time()
            for connection in list(self.hub.connections):
                for channel in list(connection.channels.values()):
                    self._close_if_overdue(connection, channel, now - limit)

    def _close_if_overdue(self, connection: Connection, channel: Channel, before: float) -> None:
        oldest = channel.oldest_unacked_at()
        if oldest is not None and oldest < before and not channel.closing:
            limit_ms = self.options.consumer_timeout_s * 1000
            error = AmqpError(
                406,
                f"delivery acknowledgement on channel {channel.number} timed out. "
                f"Timeout value used: {limit_ms} ms.",
            )
            connection.close_channel(channel, error)
            self.hub.wake()


MASK: Final = (1 << 64) - 1


# --- the process --------------------------------------------------------------------------------


def serve(options: BrokerOptions, turned: Turned = lambda: None) -> None:
    """Run the broker until SIGTERM or SIGINT; raises BotswarmError where it cannot start.

    ``turned`` is called several times a second from the very loop that serves everybody.
    """
    with _state_folder(options.state_dir) as state_dir:
        with _usable(state_dir):
            previous = record.read(state_dir)
        listener = _listen(options.port, previous.port if previous else None, PORT, "AMQP")
        management = _listen(
            options.management_port,
            previous.management_port if previous else None,
            MANAGEMENT_PORT,
            "management",
        )
        with listener, management:
            asyncio.run(_serve(options, previous, listener, management, turned))


@contextlib.contextmanager
def _usable(state_dir: Path) -> Iterator[None]:
    """What goes wrong with a file in here is said by its name and with its cure."""
    try:
        yield
    except OSError as error:
        where = "" if error.filename in (None, str(state_dir)) else f" ({error.filename})"
        raise Unreachable(
            f"the state folder {state_dir} cannot be used: {error.strerror}{where}",
            cure="mend its permissions, make room on its disk, or choose another with "
            "BOTSWARM_STATE_DIR or --state-dir",
        ) from error


@contextlib.contextmanager
def _state_folder(state_dir: Path) -> Iterator[Path]:
    with _usable(state_dir):
        state_dir.mkdir(parents=True, exist_ok=True, mode=0o700)
        lock = (state_dir / "broker.lock").open("a+")
    with lock:
        _take(lock, state_dir)
        yield state_dir


def _take(lock: IO[str], state_dir: Path) -> None:
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        if error.errno not in (errno.EAGAIN, errno.EACCES):
            raise
        running = record.read(state_dir)
        who = f"pid {running.pid}, port {running.port}" if running else "starting"
        raise Unreachable(
            f"a broker already runs on {state_dir} ({who})",
            cure="use it, stop it, or give this one a --state-dir of its own",
        ) from error


def _listen(asked: int | None, last: int | None, usual: int, what: str) -> socket.socket:
    """A socket on the port asked for; else on the last run's, so that clients find us again."""
    if asked is not None:
        try:
            return _bind(asked)
        except OSError as error:
            raise Unreachable(
                f"the {what} port {asked} on {HOST} cannot be used: {error.strerror}",
                cure="stop what listens there, or choose another port",
            ) from error
    for port in ([last] if last else []) + list(range(usual, usual + PORTS_TRIED)):
        try:
            found = _bind(port)
        except OSError:
            continue
        if last and port != last:
            _log.warning("the last run's %s port %d is taken: using %d", what, last, port)
        return found
    raise Unreachable(
        f"no free {what} port from {usual} to {usual + PORTS_TRIED - 1} on {HOST}",
        cure="choose one by hand",
    )


def _bind(port: int) -> socket.socket:
    listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((HOST, port))
        # Bound is not enough: two sockets may bind where neither listens yet.
        listener.listen(1024)
    except BaseException:
        listener.close()
        raise
    listener.setblocking(False)
    return listener


async def _serve(
    options: BrokerOptions,
    previous: BrokerRecord | None,
    listener: socket.socket,
    management: socket.socket,
    turned: Turned,
) -> None:
    password = previous.password if previous else secrets.token_urlsafe(24)
    user = previous.user if previous else USER
    loop = asyncio.get_running_loop()
    stop = asyncio.Event()
    for number in stop_signals():
        loop.add_signal_handler(number, stop.set)
    broker = Broker(options, user, password)
    broker.hub.give_up = stop.set
    with _usable(options.state_dir):
        broker.recover()
    server = await loop.create_server(lambda: Connection(broker), sock=listener)
    web = await asyncio.start_server(Management(broker).on_connection, sock=management)
    card = BrokerRecord(
        host=HOST,
        port=listener.getsockname()[1],
        management_port=management.getsockname()[1],
        user=user,
        password=password,
        pid=os.getpid(),
        started_at=broker.started_at.isoformat(timespec="seconds"),
    )
    with _usable(options.state_dir):
        record.write(options.state_dir, card)
    chores = [asyncio.create_task(broker.watch_alarms(turned))]
    chores.append(asyncio.create_task(broker.watch_consumers()))
    if options.fsync == "interval":
        chores.append(asyncio.create_task(broker.hub.sync_now_and_then()))
    for chore in chores:
        chore.add_done_callback(lambda done: _chore_ended(done, stop))
    _log.info(
        "broker ready on amqp://%s:***@%s:%d, management on port %d, %d queues, %d messages",
        user,
        HOST,
        card.port,
        card.management_port,
        sum(len(vhost.queues) for vhost in broker.vhosts.values()),
        sum(queue.ready_count for queue in broker.hub.queues_by_id.values()),
    )
    await stop.wait()
    _log.info("broker stopping")
    for chore in chores:
        chore.cancel()
    server.close()
    web.close()
    await _say_goodbye(broker)
    try:
        broker.journal.close()
    except OSError as error:
        _log.critical("journal: not written to its end: %s; no confirmed message is lost", error)
    _log.info("broker stopped")


def _chore_ended(chore: asyncio.Task[None], stop: asyncio.Event) -> None:
    if not chore.cancelled() and chore.exception() is not None:
        _log.critical("broker: a watch ended, stopping", exc_info=chore.exception())
        stop.set()


async def _say_goodbye(broker: Broker) -> None:
    for connection in list(broker.hub.connections):
        connection.close(320, "CONNECTION_FORCED - broker forced connection closure")
    broker.hub.turn()
    deadline = broker.hub.loop.time() + GOODBYE_S
    while broker.hub.connections and broker.hub.loop.time() < deadline:
        await asyncio.sleep(0.02)
    for connection in list(broker.hub.connections):
        connection.transport.abort()
    await asyncio.sleep(0)
    broker.hub.turn()
