"""What stands at the other end of a channel: it takes notices, refuses them, or hangs."""

from __future__ import annotations

import contextlib
import json
import socket
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any


@dataclass(slots=True)
class Receiver:
    port: int
    answers: list[int] = field(default_factory=list)
    """Of the next requests; afterwards all is well."""
    got: list[tuple[str, dict[str, str], Any]] = field(default_factory=list)
    """Path, headers and body of what was taken."""

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def bodies(self) -> list[Any]:
        return [body for _, _, body in self.got]


@contextlib.contextmanager
def http_receiver(port: int = 0) -> Iterator[Receiver]:
    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            code = receiver.answers.pop(0) if receiver.answers else 200
            if code < 300:
                receiver.got.append((self.path, dict(self.headers), body))
            said = b"ok" if code < 300 else b"not today"
            self.send_response(code)
            self.send_header("Content-Length", str(len(said)))
            self.end_headers()
            self.wfile.write(said)

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", port), Handler)
    receiver = Receiver(server.server_port)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    try:
        yield receiver
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


@dataclass(slots=True)
class Mailbox:
    port: int
    mails: list[str] = field(default_factory=list)
    said: list[str] = field(default_factory=list)


@contextlib.contextmanager
def mail_receiver() -> Iterator[Mailbox]:
    """As much of SMTP as a client needs to hand over one mail after the other."""
    listener = socket.create_server(("127.0.0.1", 0))
    box = Mailbox(listener.getsockname()[1])

    def serve() -> None:
        with contextlib.suppress(OSError):
            while True:
                connection, _ = listener.accept()
                with connection, connection.makefile("rwb") as stream:
                    _talk(stream, box)

    thread = threading.Thread(target=serve)
    thread.start()
    try:
        yield box
    finally:
        listener.shutdown(socket.SHUT_RDWR)
        listener.close()
        thread.join()


def _talk(stream: Any, box: Mailbox) -> None:
    def say(words: str) -> None:
        stream.write(words.encode() + b"\r\n")
        stream.flush()

    say("220 here")
    while line := stream.readline().decode().strip():
        box.said.append(line)
        verb = line.split(" ")[0].upper()
        if verb == "EHLO":
            say("250-here\r\n250 AUTH PLAIN")
        elif verb == "AUTH":
            say("235 welcome")
        elif verb == "DATA":
            say("354 go on")
            lines = []
            while (part := stream.readline().decode().rstrip("\r\n")) != ".":
                lines.append(part)
            box.mails.append("\n".join(lines))
            say("250 taken")
        elif verb == "QUIT":
            say("221 bye")
            return
        else:
            say("250 fine")
