"""A PostgreSQL server of our own for a while: brought to a moment from a base and its log.

It forces nothing to the disk: what is read out of it is kept elsewhere, and it is thrown away.
"""

from __future__ import annotations

import os
import pwd
import signal
import subprocess
import tarfile
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import datetime
from pathlib import Path
from typing import IO

from botswarm.backup.postgresql import PATH
from botswarm.backup.sealing import Damaged
from botswarm.errors import NotFound, TimedOut
from botswarm.programs import find_postgresql, last_will

READY_S = 3_600.0
POLL_S = 0.1
STOP_S = 60.0
PORT = 5432
"""Of the socket's name alone: nothing listens on the network."""
USER = "postgres"
SETTINGS = """
listen_addresses = ''
port = {port}
unix_socket_directories = '{folder}'
hba_file = '{folder}/hba.conf'
ident_file = '{folder}/ident.conf'
hot_standby = off
fsync = off
archive_mode = off
max_wal_size = 4GB
shared_buffers = 128MB
maintenance_work_mem = 128MB
logging_collector = off
log_destination = stderr
restore_command = 'cp "{folder}/log/%f" "%p"'
recovery_target_timeline = latest
recovery_target_action = promote
"""


class Cluster:
    """In a folder of its own, which the caller removes; ``log`` in it is filled by the caller."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.data = folder / "data"
        self.log = folder / "log"
        # PostgreSQL refuses to run as root.
        self._user = USER if os.geteuid() == 0 else None

    def unpack(self, source: IO[bytes]) -> None:
        self.data.mkdir(mode=0o700)
        self.log.mkdir(mode=0o700, exist_ok=True)
        try:
            with tarfile.open(fileobj=source, mode="r|gz") as archive:
                archive.extractall(self.data, filter="data")
        except tarfile.TarError as error:
            raise Damaged(f"the base of the archive cannot be unpacked: {error}") from error
        for name in ("postmaster.pid", "standby.signal", "postgresql.auto.conf"):
            (self.data / name).unlink(missing_ok=True)

    @contextmanager
    def running(self, until: datetime | None) -> Iterator[None]:
        """Recovered, and open for connections on its socket."""
        self._configure(until)
        output = (self.folder / "server.log").open("ab")
        server = subprocess.Popen(
            [
                str(find_postgresql("postgres")),
                *("-D", str(self.data), "-c", f"config_file={self.folder}/side.conf"),
            ],
            env={"PATH": PATH, "LC_ALL": "C"},
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            cwd=self.folder,
            start_new_session=True,
            user=self._user,
        )
        output.close()
        will = last_will(server.pid, self.folder)
        try:
            self._await(server)
            yield
        finally:
            self._stop(server)
            will.kill()
            will.communicate()

    def url(self, user: str, database: str) -> str:
        return f"postgresql+psycopg2://{user}@/{database}?host={self.folder}&port={PORT}"

    def _configure(self, until: datetime | None) -> None:
        text = SETTINGS.format(folder=self.folder, port=PORT)
        if until is not None:
            text += f"recovery_target_time = '{until.isoformat()}'\n"
        (self.folder / "side.conf").write_text(text)
        (self.folder / "hba.conf").write_text("local all all trust\n")
        (self.folder / "ident.conf").write_text("")
        (self.data / "recovery.signal").write_text("")
        if self._user is not None:
            self._hand_over(self._user)

    def _hand_over(self, user: str) -> None:
        try:
            owner = pwd.getpwnam(user)
        except KeyError:
            raise NotFound(
                "PostgreSQL refuses to run as root, and there is no user postgres to run it",
                cure="apt-get install postgresql, or run this as an ordinary user",
            ) from None
        for path in (self.folder, *self.folder.rglob("*")):
            os.chown(path, owner.pw_uid, owner.pw_gid, follow_symlinks=False)

    def _await(self, server: subprocess.Popen[bytes]) -> None:
        deadline = time.monotonic() + READY_S
        while server.poll() is None:
            # While it recovers it refuses connections; it opens when it has come to its end.
            done = subprocess.run(
                [
                    str(find_postgresql("pg_isready", package="postgresql-client")),
                    *("--quiet", "--host", str(self.folder), "--port", str(PORT)),
                ],
                env={"PATH": PATH, "LC_ALL": "C"},
                check=False,
            )
            if done.returncode == 0:
                return
            if time.monotonic() > deadline:
                raise TimedOut(
                    f"the server in {self.folder} did not come to the end of its log within "
                    f"{READY_S:g} s",
                    cure="make bases more often: the archive makes one a day",
                )
            time.sleep(POLL_S)
        raise Damaged(f"the base and its log cannot be recovered: {self._last_words()}")

    def _last_words(self) -> str:
        lines = (self.folder / "server.log").read_text(errors="replace").split("\n")
        said = [line.partition("] ")[2] or line for line in lines if "FATAL" in line]
        return (said or lines[-2:] or ["it said nothing"])[0].strip()

    def _stop(self, server: subprocess.Popen[bytes]) -> None:
        with suppress(ProcessLookupError):
            server.send_signal(signal.SIGINT)
        try:
            server.wait(STOP_S)
        except subprocess.TimeoutExpired:
            with suppress(ProcessLookupError):
                os.killpg(server.pid, signal.SIGKILL)
            server.wait()


@contextmanager
def scratch() -> Iterator[Path]:
    """A folder that is gone afterwards, where the server's user can reach it (see TMPDIR)."""
    with tempfile.TemporaryDirectory(prefix="bsw-") as folder:
        yield Path(folder)
