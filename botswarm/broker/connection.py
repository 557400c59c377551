"""One client's TCP connection: handshake, frames, heartbeats, flow in both directions."""

from __future__ import annotations

import asyncio
import fcntl
import hmac
import logging
import secrets
import socket
import struct
import sys
import termios
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Final, Protocol

from botswarm import __version__
from botswarm.broker import wire
from botswarm.broker.channel import Channel
from botswarm.broker.hub import Hub
from botswarm.broker.wire import AmqpError, Reader

if TYPE_CHECKING:
    from botswarm.broker.queues import Queue
    from botswarm.broker.vhost import VHost

_log = logging.getLogger(__name__)

FRAME_MAX: Final = 131_072
CHANNEL_MAX: Final = 2047
HEARTBEAT_S: Final = 60
HANDSHAKE_S: Final = 10
CLOSE_S: Final = 10
# A client that reads too slowly gets no deliveries above the first, is not listened to above
# the second: what waits for it in memory stays between.
OUT_HIGH_BYTES: Final = 1024 * 1024
UNREAD_HIGH_BYTES: Final = 4 * 1024 * 1024

CAPABILITIES: Final = {
    "publisher_confirms": True,
    "exchange_exchange_bindings": True,
    "basic.nack": True,
    "consumer_cancel_notify": True,
    "connection.blocked": True,
    "consumer_priorities": True,
    "authentication_failure_close": True,
    "per_consumer_qos": True,
    "direct_reply_to": True,
}


class House(Protocol):
    """What a connection needs of the broker it belongs to."""

    hub: Hub
    user: str
    password: str
    vhosts: dict[str, VHost]


class Connection(asyncio.Protocol):
    vhost: VHost

    def __init__(self, house: House) -> None:
        self.house = house
        self.hub = house.hub
        self.user = ""
        self.name = ""
        self.channels: dict[int, Channel] = {}
        self.owned: set[Queue] = set()
        self.client_properties: dict[str, Any] = {}
        self.frame_max = FRAME_MAX
        self.channel_max = CHANNEL_MAX
        self.heartbeat_s = 0
        self.connected_at_ms = self.hub.wall_ms()
        self.received_bytes = self.sent_bytes = 0
        self.congested = False  # no deliveries now
        self.blocked = False  # it publishes while an alarm is on: not listened to
        self._out: list[bytes] = []
        self._out_bytes = 0
        self._rest = b""
        self._greeted = False
        self._closing = False
        self._peer_is_slow = False
        self._overfull = False
        self._stage: Callable[[int, int, Reader], None] = self._on_start_ok
        self._heard = self._spoke = False
        self._silent_beats = 0
        self._unheard = (0, 0)
        self._timer: asyncio.TimerHandle | None = None

    # --- life -----------------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self.transport = transport
        transport.set_write_buffer_limits(high=OUT_HIGH_BYTES)
        raw = transport.get_extra_info("socket")
        if raw is not None:
            raw.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        peer, here = transport.get_extra_info("peername"), transport.get_extra_info("sockname")
        self.name = f"{peer[0]}:{peer[1]} -> {here[0]}:{here[1]}"
        self.hub.connections.add(self)
        self._timer = self.hub.loop.call_later(HANDSHAKE_S, self._handshake_too_slow)

    def _handshake_too_slow(self) -> None:
        _log.warning("connection %s: no handshake within %d s", self.name, HANDSHAKE_S)
        self.transport.abort()

    def connection_lost(self, exc: Exception | None) -> None:
        self.hub.connections.discard(self)
        self._closing = True
        self.congested = True
        if self._timer is not None:
            self._timer.cancel()
        for channel in list(self.channels.values()):
            channel.close()
        self.channels.clear()
        for queue in list(self.owned):
            if not queue.deleted:
                self.vhost.remove_queue(queue)
        self.owned.clear()
        self._out.clear()
        self.hub.wake()

    def capable(self, capability: str) -> bool:
        capabilities = self.client_properties.get("capabilities")
        return isinstance(capabilities, dict) and capabilities.get(capability) is True

    @property
    def is_open(self) -> bool:
        return self._stage == self._on_running and not self._closing

    def is_in(self, vhost: VHost) -> bool:
        return getattr(self, "vhost", None) is vhost  # none before connection.open

    def new_name(self) -> str:
        return secrets.token_urlsafe(16)

    # --- writing --------------------------------------------------------------------------

    def send(self, data: bytes) -> None:
        if not self._out:
            self.hub.to_write.append(self)
            self.hub.wake()
        self._out.append(data)
        self._out_bytes += len(data)
        if self._out_bytes > OUT_HIGH_BYTES:
            self.congested = True

    def write_out(self) -> None:
        if not self._out:
            return
        data = b"".join(self._out) if len(self._out) > 1 else self._out[0]
        self._out.clear()
        self._out_bytes = 0
        if self.transport.is_closing():
            return
        self._spoke = True
        self.sent_bytes += len(data)
        self.transport.write(data)
        if self._peer_is_slow:
            if self.transport.get_write_buffer_size() > UNREAD_HIGH_BYTES:
                self.transport.pause_reading()
            return
        if self.congested:
            self._deliver_again()
        if self._overfull:
            self.hub.loop.call_soon(self._listen_again)

    def pause_writing(self) -> None:
        self._peer_is_slow = self.congested = True

    def resume_writing(self) -> None:
        self._peer_is_slow = False
        self._deliver_again()
        self._listen_again()

    def _deliver_again(self) -> None:
        self.congested = False
        for channel in self.channels.values():
            for consumer in channel.consumers.values():
                if consumer.queue.ready_count:
                    consumer.queue.kick()

    def _listen_again(self) -> None:
        if self.blocked or self._peer_is_slow or self.transport.is_closing():
            return
        self._overfull = False
        self._heard = True
        self.transport.resume_reading()
        if self._rest:
            rest, self._rest = self._rest, b""
            self.data_received(rest)

    # --- alarms ---------------------------------------------------------------------------

    def has_published(self) -> None:
        """During an alarm the first publish is the last for now: nothing more is read."""
        if self.hub.alarm and not self.blocked:
            self.blocked = True
            self.transport.pause_reading()
            self._tell_blocked(self.hub.alarm)

    def unblock(self) -> None:
        if not self.blocked:
            return
        self.blocked = False
        if self.capable("connection.blocked"):
            self.send(wire.method(0, 10, 61))
        self._listen_again()

    def _tell_blocked(self, reason: str) -> None:
        if self.capable("connection.blocked"):
            self.send(wire.method(0, 10, 60, wire.shortstr(reason)))

    # --- reading --------------------------------------------------------------------------

    def data_received(self, data: bytes) -> None:
        self._heard = True
        self.received_bytes += len(data)
        if self._rest:
            data = self._rest + data
            self._rest = b""
        at = 0
        try:
            if not self._greeted:
                at = self._greet(data)
                if not self._greeted:
                    return
            self._rest = self._frames(data, at)
        except AmqpError as error:
            self._fail(error)
        except (struct.error, IndexError) as error:
            self._fail(wire.Malformed(f"a frame is too short for what it holds ({error})"))
        except Exception:
            # One client's bytes must never end the others' connections.
            _log.exception("connection %s: unexpected", self.name)
            self._fail(AmqpError(541, "the broker's log says more"))

    def _greet(self, data: bytes) -> int:
        if len(data) < 8 and wire.PROTOCOL_HEADER.startswith(data):
            self._rest = data
            return 0
        if data[:8] != wire.PROTOCOL_HEADER:
            self.transport.write(wire.PROTOCOL_HEADER)
            self.transport.close()
            self._closing = True
            return 0
        self._greeted = True
        properties = {
            "capabilities": CAPABILITIES,
            "cluster_name": f"botswarm@{socket.gethostname()}",
            "copyright": "Apache-2.0",
            "information": "The embedded broker of botswarm: one machine, loopback only",
            "platform": "Python",
            "product": "botswarm",
            "version": __version__,
        }
        self.send(
            wire.method(
                0,
                10,
                10,
                b"\x00\x09"
                + wire.longstr(wire.write_table(properties))
                + wire.longstr(b"PLAIN AMQPLAIN")
                + wire.longstr(b"en_US"),
            )
        )
        return 8

    def _frames(self, data: bytes, at: int) -> bytes:
        """Act on every whole frame; what is left over waits for the next bytes."""
        size_of_data, channels = len(data), self.channels
        unpack_head, unpack_ids = wire.unpack_frame_head, wire.unpack_ids
        largest = self.frame_max - wire.FRAME_OVERHEAD
        while size_of_data - at >= 7:
            if self._closing:
                return self._frames_while_closing(data, at)
            if self._out_bytes > UNREAD_HIGH_BYTES:
                # It asks for more than it may have waiting: the rest of its wishes come later.
                self._overfull = True
                self.transport.pause_reading()
                break
            kind, number, size = unpack_head(data, at)
            if size > largest:
                raise AmqpError(501, f"a frame of {size} bytes, {largest} are agreed on")
            end = at + 7 + size
            if end >= size_of_data:
                break
            if data[end] != wire.FRAME_END:
                raise AmqpError(501, f"a frame of type {kind} does not end where it should")
            payload = data[at + 7 : end]
            at = end + 1
            channel = channels.get(number)
            if kind == wire.FRAME_METHOD:
                class_id, method_id = unpack_ids(payload)
                if channel is None or channel.closing or class_id < 30:
                    try:
                        self._on_rare_method(number, channel, class_id, method_id, payload)
                    except AmqpError as error:
                        error.method = (class_id, method_id)
                        if error.hard or channel is None:
                            raise
                        self.close_channel(channel, error)
                    largest = self.frame_max - wire.FRAME_OVERHEAD
                    continue
                if channel.publishing is not None:
                    raise AmqpError(505, f"method {class_id}.{method_id} amid a message's content")
                try:
                    if class_id == 60 and method_id == 40:
                        channel.begin_publish(payload)
                    elif class_id == 60 and method_id == 80:
                        channel.ack(payload)
                    else:
                        channel.on_method(class_id, method_id, payload)
                except AmqpError as error:
                    error.method = (class_id, method_id)
                    if error.hard:
                        raise
                    self.close_channel(channel, error)
            elif kind == wire.FRAME_HEADER or kind == wire.FRAME_BODY:
                if channel is None:
                    raise AmqpError(504, f"content on channel {number}, which is not open")
                if channel.closing:
                    continue
                try:
                    if kind == wire.FRAME_HEADER:
                        channel.header(payload)
                    else:
                        channel.body(payload)
                except AmqpError as error:
                    error.method = (60, 40)
                    if error.hard:
                        raise
                    self.close_channel(channel, error)
                if self.blocked:
                    break
            elif kind == wire.FRAME_HEARTBEAT:
                if number:
                    raise AmqpError(505, "a heartbeat on a channel other than 0")
            else:
                raise AmqpError(501, f"unknown frame type {kind}")
        return data[at:]

    def _frames_while_closing(self, data: bytes, at: int) -> bytes:
        """We said goodbye: only the answer to that still matters."""
        while len(data) - at >= 8:
            kind, number, size = wire.unpack_frame_head(data, at)
            if size > FRAME_MAX or len(data) - at < size + 8:
                break
            if kind == wire.FRAME_METHOD and number == 0 and data[at + 7 : at + 11] in CLOSING:
                if data[at + 7 : at + 11] == CLOSE:
                    self.send(wire.method(0, 10, 51))
                    self.write_out()
                self.transport.close()
                return b""
            at += size + 8
        if len(data) - at > FRAME_MAX:
            return b""
        return data[at:]

    # --- what goes wrong ------------------------------------------------------------------

    def close_channel(self, channel: Channel, error: AmqpError) -> None:
        _log.info("connection %s channel %d: %s", self.name, channel.number, error)
        channel.close()
        self.send(
            wire.method(
                channel.number,
                20,
                40,
                struct.pack(">H", error.code)
                + wire.shortstr(str(error))
                + struct.pack(">HH", *error.method),
            )
        )

    def _fail(self, error: AmqpError) -> None:
        """The connection cannot go on: say why, hear no more of it."""
        if self._closing:
            self.transport.abort()
            return
        _log.warning("connection %s: %s", self.name, error)
        self.close(error.code, str(error), error.method)

    def close(self, code: int, text: str, at: tuple[int, int] = (0, 0)) -> None:
        """Say goodbye with a reason and wait a little for the answer."""
        if self._closing:
            return
        self._closing = True
        self._rest = b""
        for channel in self.channels.values():
            channel.close()
        self.send(
            wire.method(
                0, 10, 50, struct.pack(">H", code) + wire.shortstr(text) + struct.pack(">HH", *at)
            )
        )
        self.write_out()
        if self.blocked:
            self.blocked = False
            self.transport.resume_reading()
        self._end_soon()

    def _end_soon(self) -> None:
        """A client that reads no more must not keep its connection for ever."""
        if self._timer is not None:
            self._timer.cancel()
        self._timer = self.hub.loop.call_later(CLOSE_S, self.transport.abort)

    # --- methods of the connection and its channels ---------------------------------------

    def _on_rare_method(
        self, number: int, channel: Channel | None, class_id: int, method_id: int, payload: bytes
    ) -> None:
        if number == 0:
            if class_id != 10:
                raise AmqpError(504, f"method {class_id}.{method_id} on channel 0")
            if (class_id, method_id) == (10, 50):
                self._on_close()
                return
            self._stage(class_id, method_id, Reader(payload, 4))
            return
        if self._stage != self._on_running:
            raise AmqpError(504, f"channel {number} before the connection is open")
        if channel is None:
            self._on_unopened_channel(number, class_id, method_id)
        elif channel.closing:
            self._on_closing_channel(number, channel, class_id, method_id)
        elif (class_id, method_id) == (20, 10):
            raise AmqpError(504, f"second 'channel.open' seen on channel {number}")
        elif (class_id, method_id) == (20, 40):
            channel.close()
            del self.channels[number]
            self.send(wire.method(number, 20, 41))
        elif (class_id, method_id) in ((20, 41), (20, 21)):
            pass  # an answer to something we are not waiting for any more
        elif class_id == 20:
            channel.on_method(class_id, method_id, payload)
        else:
            raise AmqpError(503, f"method {class_id}.{method_id} on channel {number}")

    def _on_unopened_channel(self, number: int, class_id: int, method_id: int) -> None:
        if (class_id, method_id) in ((20, 40), (20, 41)):
            if method_id == 40:
                self.send(wire.method(number, 20, 41))
            return
        if (class_id, method_id) != (20, 10):
            raise AmqpError(504, f"expected 'channel.open' on channel {number}")
        if len(self.channels) >= self.channel_max:
            raise AmqpError(
                530,
                f"number of channels opened ({len(self.channels)}) has reached the negotiated "
                f"channel_max ({self.channel_max})",
            )
        self.channels[number] = Channel(self, number)
        self.send(wire.method(number, 20, 11, wire.longstr(b"")))

    def _on_closing_channel(
        self, number: int, channel: Channel, class_id: int, method_id: int
    ) -> None:
        """We closed it: what was under way is ignored until the client has answered."""
        if (class_id, method_id) == (20, 41):
            del self.channels[number]
        elif (class_id, method_id) == (20, 40):
            del self.channels[number]
            self.send(wire.method(number, 20, 41))

    def _on_close(self) -> None:
        self._closing = True
        for channel in self.channels.values():
            channel.close()
        self.send(wire.method(0, 10, 51))
        self.write_out()
        self.transport.close()
        self._end_soon()

    def _on_start_ok(self, class_id: int, method_id: int, reader: Reader) -> None:
        self._expect(class_id, method_id, 11)
        self.client_properties = reader.table()
        mechanism, response = reader.shortstr(), reader.longstr()
        if mechanism not in ("PLAIN", "AMQPLAIN"):
            raise AmqpError(503, f"unknown authentication mechanism '{mechanism}'")
        if not self._may_log_in(mechanism, response):
            _log.warning("connection %s: wrong user or password", self.name)
            text = (
                f"Login was refused using authentication mechanism {mechanism}. "
                "For details see the broker logfile."
            )
            if self.capable("authentication_failure_close"):
                raise AmqpError(403, text, hard=True)
            self.transport.close()
            self._closing = True
            return
        self.user = self.house.user
        self._stage = self._on_tune_ok
        self.send(wire.method(0, 10, 30, struct.pack(">HIH", CHANNEL_MAX, FRAME_MAX, HEARTBEAT_S)))

    def _may_log_in(self, mechanism: str, response: bytes) -> bool:
        if mechanism == "PLAIN":
            parts = response.split(b"\x00")
            if len(parts) != 3:
                return False
            user, password = parts[1], parts[2]
        else:
            given = wire.read_table(response)
            user = wire.to_bytes(str(given.get("LOGIN", "")))
            password = wire.to_bytes(str(given.get("PASSWORD", "")))
        right_user = hmac.compare_digest(user, self.house.user.encode())
        right_password = hmac.compare_digest(password, self.house.password.encode())
        return right_user and right_password

    def _on_tune_ok(self, class_id: int, method_id: int, reader: Reader) -> None:
        self._expect(class_id, method_id, 31)
        channel_max, frame_max, heartbeat = reader.short(), reader.long(), reader.short()
        self.channel_max = self._negotiated("channel_max", channel_max, CHANNEL_MAX)
        self.frame_max = self._negotiated("frame_max", frame_max, FRAME_MAX)
        if self.frame_max < wire.FRAME_MIN:
            raise AmqpError(
                530, f"failed to negotiate connection parameters: frame_max {frame_max} < 4096"
            )
        self.heartbeat_s = heartbeat
        self._stage = self._on_open

    def _negotiated(self, name: str, asked: int, most: int) -> int:
        if asked == 0 or asked > most:  # 0 asks for no limit at all
            raise AmqpError(
                530,
                f"failed to negotiate connection parameters: negotiated {name} = {asked} is "
                f"higher than the maximum allowed value ({most})",
            )
        return asked

    def _on_open(self, class_id: int, method_id: int, reader: Reader) -> None:
        self._expect(class_id, method_id, 40)
        name = reader.shortstr()
        vhost = self.house.vhosts.get(name)
        if vhost is None:
            raise AmqpError(530, f"vhost {name} not found")
        self.vhost = vhost
        self._stage = self._on_running
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if self.heartbeat_s:
            self._timer = self.hub.loop.call_later(self.heartbeat_s / 2, self._beat)
        self.send(wire.method(0, 10, 41, b"\x00"))

    def _on_running(self, class_id: int, method_id: int, reader: Reader) -> None:
        if (class_id, method_id) == (10, 51):
            self.transport.close()
            return
        if (class_id, method_id) in ((10, 60), (10, 61)):
            return
        raise AmqpError(504, f"method {class_id}.{method_id} on an open connection")

    def _expect(self, class_id: int, method_id: int, wanted: int) -> None:
        if (class_id, method_id) != (10, wanted):
            raise AmqpError(503, f"method {class_id}.{method_id} amid the handshake")

    # --- heartbeats -----------------------------------------------------------------------

    def _beat(self) -> None:
        """Twice per heartbeat: speak if we were silent; silence of two heartbeats is a death."""
        if self._heard or self.blocked or self._makes_progress():
            self._silent_beats = 0
        else:
            self._silent_beats += 1
        if self._silent_beats >= 4:
            _log.warning("connection %s: no heartbeat for %d s", self.name, 2 * self.heartbeat_s)
            self.transport.abort()
            return
        if not self._spoke:
            self.sent_bytes += len(wire.HEARTBEAT)
            self.transport.write(wire.HEARTBEAT)
        self._heard = self._spoke = False
        self._timer = self.hub.loop.call_later(self.heartbeat_s / 2, self._beat)

    def _makes_progress(self) -> bool:
        """Whether a client we do not listen to, because it reads slowly, reads or speaks at all."""
        if self.transport.is_reading():
            return False
        taken = self.sent_bytes - self.transport.get_write_buffer_size()
        waiting = fcntl.ioctl(self.transport.get_extra_info("socket"), termios.FIONREAD, bytes(4))
        before, self._unheard = self._unheard, (taken, int.from_bytes(waiting, sys.byteorder))
        return self._unheard != before


CLOSE: Final = struct.pack(">HH", 10, 50)
CLOSING: Final = (CLOSE, struct.pack(">HH", 10, 51))
