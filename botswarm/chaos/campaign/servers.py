"""Faults of RabbitMQ, PostgreSQL and Redis: stopped, killed, emptied, full, blocked, hung."""

from __future__ import annotations

import contextlib
import os
import random
import shutil
import signal
import socket
import subprocess
import time
from pathlib import Path
from typing import Any

import psutil
import psycopg2

from botswarm.chaos.campaign.plan import Fault
from botswarm.chaos.campaign.stage import DATABASE, Stage
from botswarm.chaos.campaign.waiting import until
from botswarm.errors import BotswarmError, TimedOut, Unreachable
from botswarm.ledger.session import Database
from botswarm.ledger.verify import verify
from botswarm.programs import find_program

BACK_BY_ITSELF_S = 20.0
STRUCK_S = 60.0
"""So long is waited for something that can be broken."""
FULL_CHECK_EVERY = 5
"""A restored ledger is checked link by link only so often; that takes as long as it is big."""

# --- RabbitMQ -------------------------------------------------------------------------------------


def _stop_app(stage: Stage, dice: random.Random) -> str:
    stage.rabbitmq.control("stop_app")
    try:
        time.sleep(dice.uniform(0, 3))
    finally:
        stage.rabbitmq.control("start_app")
    return "stopped and started"


def _kill_broker(stage: Stage, dice: random.Random) -> str:
    stage.rabbitmq.kill()
    time.sleep(dice.uniform(0, 2))
    stage.rabbitmq.start()
    return "killed"


def _lose_broker(stage: Stage, _: random.Random) -> str:
    stage.rabbitmq.kill()
    try:
        _throw_away_state(stage)
    finally:
        stage.rabbitmq.start()
    return "all of its state deleted"


def _throw_away_state(stage: Stage) -> None:
    state = stage.rabbitmq.data / "mnesia"
    until(lambda: _is_gone(state), "the broker's state to be gone", STRUCK_S)


def _is_gone(folder: Path) -> bool:
    shutil.rmtree(folder, ignore_errors=True)
    return not folder.exists()


def _alarm(stage: Stage, dice: random.Random) -> str:
    seconds = dice.uniform(2, 6)
    if dice.random() < 0.5:
        stage.rabbitmq.raise_memory_alarm()
        try:
            time.sleep(seconds)
        finally:
            stage.rabbitmq.clear_memory_alarm()
        return f"memory alarm for {seconds:.0f} s"
    stage.rabbitmq.control("set_disk_free_limit", "1000GB")
    try:
        time.sleep(seconds)
    finally:
        stage.rabbitmq.control("set_disk_free_limit", "50MB")
    return f"disk alarm for {seconds:.0f} s"


# --- PostgreSQL -----------------------------------------------------------------------------------


def _query(stage: Stage) -> Any:
    connection = psycopg2.connect(stage.postgresql.url(DATABASE), connect_timeout=5)
    connection.autocommit = True
    return connection


def _kill_database(stage: Stage, dice: random.Random) -> str:
    how = dice.choice(("postmaster", "backend", "immediate"))
    if how == "postmaster":
        stage.postgresql.kill()
        stage.postgresql.start()
    elif how == "immediate":
        os.kill(stage.postgresql.pid, signal.SIGQUIT)
        until(lambda: not stage.postgresql.running, "PostgreSQL to end", 60)
        stage.postgresql.start()
    else:
        until(lambda: _kill_backend(stage, dice), "a backend that serves the swarm", STRUCK_S)
        until(lambda: stage.postgresql.answers, "PostgreSQL to recover", 90)
    return how


def _kill_backend(stage: Stage, dice: random.Random) -> bool:
    with contextlib.closing(_query(stage)) as connection, connection.cursor() as cursor:
        cursor.execute("SELECT pid FROM pg_stat_activity WHERE application_name = 'botswarm'")
        pids = [row[0] for row in cursor.fetchall()]
    with contextlib.suppress(ProcessLookupError):
        if pids:
            os.kill(dice.choice(pids), signal.SIGKILL)
            return True
    return False


def _crowd(stage: Stage, dice: random.Random) -> str:
    how = dice.choice(("storm", "account lock", "terminated", "table lock"))
    held: list[Any] = []
    with contextlib.ExitStack() as stack:
        if how == "storm":
            with contextlib.suppress(psycopg2.Error):
                while len(held) < 120:
                    held.append(stack.enter_context(contextlib.closing(_query(stage))))
            time.sleep(3)
            return f"{len(held)} connections for 3 s"
        connection = stack.enter_context(contextlib.closing(_query(stage)))
        cursor = connection.cursor()
        if how == "terminated":
            cursor.execute(
                "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity "
                "WHERE application_name = 'botswarm' AND pid <> pg_backend_pid()"
            )
            return f"{cursor.fetchone()[0]} connections ended"
        connection.autocommit = False
        seconds = dice.uniform(1, 7)
        if how == "account lock":
            cursor.execute("SELECT 1 FROM accounts FOR UPDATE")
        else:
            cursor.execute("SET lock_timeout = '5s'")
            try:
                cursor.execute("LOCK TABLE orders IN SHARE ROW EXCLUSIVE MODE")
            except psycopg2.errors.LockNotAvailable:
                # Whoever wrote meanwhile had to wait behind it.
                return "table lock waited for in vain for 5 s"
        time.sleep(seconds)
        connection.rollback()
    return f"{how} for {seconds:.0f} s, idle in transaction"


def _fill_disk(stage: Stage, dice: random.Random) -> str:
    name = dice.choice(("postgresql", "postgresql", "rabbitmq"))
    room, server = stage.rooms[name], getattr(stage, name)
    room.fill()
    try:
        time.sleep(dice.uniform(3, 6))
    finally:
        room.empty()
    time.sleep(0.5)
    ended = not server.running
    if not ended:
        try:
            until(lambda: server.answers, f"{name} to be back", BACK_BY_ITSELF_S)
        except TimedOut:
            # Its process lives and serves nobody: it is restarted, as an operator would.
            server.kill()
            ended = True
    said = ""
    if ended:
        said = ", restarted"
        try:
            server.start()
        except (TimedOut, Unreachable):
            if name != "rabbitmq":
                raise
            # RabbitMQ 3.10 may write a queue's index that it cannot read. What an operator does
            # is in the runbook: it holds nothing that the ledger does not.
            _throw_away_state(stage)
            server.start()
            said = ", which did not start again before its state was thrown away"
    until(lambda: server.answers, f"{name} to be back", 120)
    return f"{name}{said}"


def _back_up(stage: Stage, dice: random.Random) -> str:
    """Until there is a backup of our own: a plain dump under load, killed or restored."""
    programs = [str(path) for path in sorted(Path("/usr/lib/postgresql").glob("*/bin"))][::-1]
    dump = find_program("pg_dump", package="postgresql-client", folders=programs)
    restore = find_program("pg_restore", package="postgresql-client", folders=programs)
    path = stage.folder / "backup.dump"
    command = [str(dump), "--format=custom", "--compress=1", f"--file={path}"]
    running = subprocess.Popen([*command, stage.postgresql.url(DATABASE)], stderr=subprocess.PIPE)
    if dice.random() < 0.3:
        time.sleep(dice.uniform(0.02, 0.3))
        running.kill()  # where it was faster, it is a backup like any other
    _, said = running.communicate(timeout=120)
    if running.returncode == -signal.SIGKILL:
        return "killed while dumping"
    if running.returncode != 0:
        raise BotswarmError(f"nothing was dumped: {said.decode(errors='replace').strip()[:80]}")
    if dice.random() < 0.3:
        return "damaged and noticed" if _is_noticed(path, restore, dice) else "damaged, UNNOTICED"
    return _restored(stage, path, restore, is_whole=dice.randrange(FULL_CHECK_EVERY) == 0)


def _is_noticed(path: Path, restore: Path, dice: random.Random) -> bool:
    """Half of the file is gone: whoever restores it must hear of it."""
    content = path.read_bytes()
    path.write_bytes(content[: dice.randrange(len(content) // 2, len(content) - 64)])
    done = subprocess.run(
        [str(restore), "--file=/dev/null", str(path)], capture_output=True, check=False
    )
    return done.returncode != 0


def _restored(stage: Stage, path: Path, restore: Path, *, is_whole: bool) -> str:
    name = "restored"
    with contextlib.closing(_query(stage)) as connection, connection.cursor() as cursor:
        cursor.execute(f"DROP DATABASE IF EXISTS {name}")
        cursor.execute(f"CREATE DATABASE {name}")
    url = stage.postgresql.url(name)
    done = subprocess.run(
        [str(restore), "--exit-on-error", f"--dbname={url}", str(path)],
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode != 0:
        raise BotswarmError(f"a dump was not restored: {done.stderr.strip()[:200]}")
    database = Database(url.replace("postgresql://", "postgresql+psycopg2://"))
    try:
        if is_whole:
            found = verify(database).findings
            if found:
                raise BotswarmError(f"a restored ledger is wrong: {found[:3]}")
    finally:
        database.close()
        with contextlib.closing(_query(stage)) as connection, connection.cursor() as cursor:
            cursor.execute(f"DROP DATABASE IF EXISTS {name}")
    return "restored and checked" if is_whole else "restored"


# --- Redis ----------------------------------------------------------------------------------------


def _break_cache(stage: Stage, dice: random.Random) -> str:
    how = dice.choice(("kill", "flush", "full", "garbage", "hang"))
    if how == "kill":
        stage.redis.kill()
        time.sleep(dice.uniform(0, 3))
        stage.redis.start()
    elif how == "hang":
        process = psutil.Process(stage.redis.pid)
        process.suspend()
        try:
            time.sleep(dice.uniform(3, 10))
        finally:
            process.resume()
    elif how == "full":
        _say(stage, "CONFIG SET maxmemory 1")
        time.sleep(3)
        _say(stage, "CONFIG SET maxmemory 0")
    elif how == "flush":
        _say(stage, "FLUSHALL")
    else:
        until(lambda: _keys(stage), "keys to put garbage in", STRUCK_S)
        keys = _keys(stage)[:50]
        for key in keys:
            _say(stage, f"DEL {key}")
            _say(stage, f"SET {key} {dice.randbytes(8).hex()}")
        how = f"garbage in {len(keys)} keys"
    return how


def _keys(stage: Stage) -> list[str]:
    return [word for word in _say(stage, "KEYS *").split() if word[0] not in "*$"]


def _say(stage: Stage, line: str) -> str:
    with socket.create_connection((stage.redis.host, stage.redis.port), timeout=5) as connection:
        connection.sendall(f"{line}\r\n".encode())
        return connection.recv(65_536).decode(errors="replace")


SERVER_FAULTS = (
    Fault(code="F7", words="RabbitMQ stopped and started by its operator", strike=_stop_app,
          about_s=12, holds=("broker",)),
    Fault(code="F8", words="RabbitMQ killed", strike=_kill_broker, about_s=12,
          holds=("broker",)),
    Fault(code="F9", words="RabbitMQ's whole state lost", strike=_lose_broker, about_s=10,
          holds=("broker",)),
    Fault(code="F10", words="memory and disk alarms of RabbitMQ", strike=_alarm, about_s=8,
          holds=("broker",)),
    Fault(code="F12", words="PostgreSQL: postmaster or backend killed, immediate stop",
          strike=_kill_database, about_s=4, holds=("ledger",)),
    Fault(code="F13", words="connection storm, idle transactions, lock timeouts",
          strike=_crowd, about_s=5, holds=("ledger",)),
    Fault(code="F14", words="disk full under PostgreSQL or RabbitMQ", strike=_fill_disk,
          about_s=8, holds=("ledger", "broker"), needs="mount"),
    Fault(code="F15", words="Redis killed, flushed, full, garbled, hung", strike=_break_cache,
          about_s=5, holds=("cache",)),
    Fault(code="F28", words="backup under load: killed, damaged, restored", strike=_back_up,
          about_s=8, holds=("ledger",)),
)  # fmt: skip
