"""A live broker in a process of its own, to be killed, restarted, weighed and listened to."""

from __future__ import annotations

import os
import time
from pathlib import Path

import amqp
import psutil

from botswarm.testing.servers import AmqpServer, EmbeddedBrokerServer

TROUBLE = ("Traceback", '"level": "error"', '"level": "critical"')


class Victim:
    """One server of ``botswarm.testing`` with what a campaign asks of it besides."""

    def __init__(self, server: AmqpServer) -> None:
        self.server = server
        self.state_dir = (
            server.state_dir if isinstance(server, EmbeddedBrokerServer) else server.data / "mnesia"
        )
        self._credentials = ("", "")

    def start(self) -> float:
        """Seconds from the process's start to its readiness."""
        began = time.monotonic()
        self.server.start()
        self._credentials = (self.server.user, self.server.password)
        return time.monotonic() - began

    def kill(self) -> None:
        """``kill -9``: nothing is flushed, nobody is told."""
        self.server.kill()

    def stop(self) -> None:
        self.server.stop()

    def connect(self) -> amqp.Connection:
        user, password = self._credentials
        connection = amqp.Connection(
            f"127.0.0.1:{self.server.port}",
            userid=user,
            password=password,
            heartbeat=0,
            connect_timeout=5,
            read_timeout=60,
        )
        connection.connect()
        return connection

    def resident_mb(self) -> float:
        return float(psutil.Process(self.server.pid).memory_info().rss) / 1e6

    def descriptors(self) -> int:
        return psutil.Process(self.server.pid).num_fds()

    def state_mb(self) -> float:
        """What the state folder weighs; files may come and go while it is weighed."""
        total = 0
        for folder, _, names in os.walk(self.state_dir):
            for name in names:
                try:
                    total += (Path(folder) / name).stat().st_size
                except FileNotFoundError:
                    continue
        return total / 1e6

    def complaints(self) -> list[str]:
        """Lines of the broker's log that no client, however mad, should be able to cause."""
        log = self.server.log
        lines = log.read_text(errors="replace").splitlines() if log.exists() else []
        return [line for line in lines if any(sign in line for sign in TROUBLE)]
