"""Kill the beat that leads while the clock jumps: every slot is sent once, or listed as missed.

``python -m tests.campaign.two_beats --kills 50 --seed 1 [--broker rabbitmq]``
"""

from __future__ import annotations

import argparse
import random
import signal
import sys
import tempfile
import threading
import time
from collections import Counter, defaultdict
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from botswarm.ledger import migrate
from botswarm.ledger.store import Ledger
from botswarm.queueing.leadership import SLOT_HEADER, slot_of
from botswarm.schedule import Entry
from botswarm.testing.servers import AmqpServer, EmbeddedBrokerServer, RabbitMQServer
from tests.campaign.two_beats_clock import TABLE
from tests.integration.swarm import Process, Swarm, until

if TYPE_CHECKING:
    from collections.abc import Iterator

BROKERS: dict[str, type[AmqpServer]] = {
    "embedded": EmbeddedBrokerServer,
    "rabbitmq": RabbitMQServer,
}
JUMPS_S = (3600.0, -3600.0, 86_400.0, -86_400.0)
FAR_S = 3 * 86_400.0
END_AT_S = 2 * 86_400.0
"""Days that have all been by the clock that holds in the end: each moment of them is judged."""
BEATS = 2
LEADS, WRITTEN = "leading: this beat", 8.0


@dataclass(slots=True)
class Report:
    broker: str
    seed: int
    kills: int = 0
    jumps: int = 0
    silences: int = 0
    freezes: int = 0
    messages: int = 0
    sent: dict[str, int] = field(default_factory=dict)
    missed: dict[str, int] = field(default_factory=dict)
    failures: list[str] = field(default_factory=list)

    def __str__(self) -> str:
        lines = [
            f"{self.kills} leaders killed on {self.broker}, seed {self.seed}; the clock jumped "
            f"{self.jumps} times, {self.silences} times nobody listened, {self.freezes} leaders "
            f"were frozen; {self.messages} messages",
            *(
                f"{name}: {count} sent, {self.missed.get(name, 0)} missed"
                for name, count in self.sent.items()
            ),
            f"failures: {'none' if not self.failures else ''}",
            *(f"  {each}" for each in self.failures),
        ]
        return "\n".join(lines)


class Reader:
    """The one worker there is: takes what is sent and does nothing; it can be absent."""

    def __init__(self, swarm: Swarm) -> None:
        self.taken: list[tuple[str, int, str]] = []
        self.ids: list[str] = []
        self._swarm = swarm
        self._is_present = threading.Event()
        self._is_over = threading.Event()
        self._is_present.set()
        self._thread = threading.Thread(target=self._read, daemon=True)
        self._thread.start()

    @contextmanager
    def absent(self) -> Iterator[None]:
        self._is_present.clear()
        yield
        self._is_present.set()

    def end(self) -> None:
        self._is_over.set()
        self._thread.join(10)

    def _take(self, message: Any) -> None:
        slot = slot_of(message.headers.get(SLOT_HEADER))
        assert slot is not None
        self.taken.append((slot.entry, slot.number, message.headers["id"]))

    def _read(self) -> None:
        with self._swarm.app.connection_for_read() as connection:
            self._swarm.app.amqp.declare_all(connection)
            channel: Any = connection.channel()
            tag = None
            while not self._is_over.is_set():
                if self._is_present.is_set() and tag is None:
                    tag = channel.basic_consume("ops", no_ack=True, callback=self._take)
                elif not self._is_present.is_set() and tag is not None:
                    channel.basic_cancel(tag)
                    tag = None
                try:
                    connection.drain_events(timeout=0.1)
                except TimeoutError:
                    continue


class Stage:
    def __init__(self, server: AmqpServer, folder: Path) -> None:
        self.folder = folder
        self._offset = folder / "offset"
        self.jump_by = 0.0
        self.began = time.time()
        self._offset.write_text("0")
        url = f"sqlite:///{folder / 'ledger.db'}"
        self.ledger = Ledger(url)
        migrate.migrate(self.ledger.database)
        self.swarm = Swarm(server, "/", folder, {"BOTSWARM_DATABASE_URL": url})
        self.swarm.variables["TWO_BEATS_OFFSET"] = str(self._offset)
        self.reader = Reader(self.swarm)
        self.beats = [self._beat() for _ in range(BEATS)]

    def _beat(self) -> Process:
        words = ("-S", "tests.campaign.two_beats_clock:ShiftedScheduler")
        return self.swarm.start("beat", *words)

    def jump(self, seconds: float) -> None:
        self.jump_by += seconds
        replaced = self._offset.with_suffix(".new")
        replaced.write_text(str(self.jump_by))
        replaced.replace(self._offset)

    def leader(self) -> Process:
        """The one whose connection holds the leader's queue: the last to have said so."""

        def last() -> Process | None:
            living = [each for each in self.beats if each.popen.poll() is None]
            leading = [each for each in living if _last_word(each) == LEADS]
            return leading[0] if len(leading) == 1 else None

        found: Process = until(last, "one beat to lead", 60)
        return found

    def replace(self, killed: Process) -> None:
        self.beats = [each for each in self.beats if each is not killed]
        self.beats.append(self._beat())

    def wait_for(self, count: int) -> None:
        goal = len(self.reader.taken) + count
        until(lambda: len(self.reader.taken) >= goal, f"{count} more messages", 60)

    def close(self) -> None:
        self.reader.end()
        self.swarm.close()
        self.ledger.close()


def _last_word(beat: Process) -> str:
    text = beat.text
    return LEADS if text.rfind(LEADS) > text.rfind("no longer leading") else ""


def run(kills: int, seed: int, broker: str, folder: Path) -> Report:
    report, chance = Report(broker, seed), random.Random(seed)
    with BROKERS[broker]() as server:
        stage = Stage(server, folder)
        try:
            _play(stage, report, chance, kills)
            stage.jump(END_AT_S - stage.jump_by)
            stage.wait_for(20)
            _settle(stage, report)
        finally:
            stage.close()
    return report


def _play(stage: Stage, report: Report, chance: random.Random, kills: int) -> None:
    for number in range(kills):
        stage.wait_for(chance.randint(3, 8))
        if chance.random() < 0.5:
            stage.jump(_jump(chance, stage.jump_by))
            report.jumps += 1
            stage.wait_for(chance.randint(1, 4))
        if chance.random() < 0.2:
            with stage.reader.absent():
                time.sleep(chance.uniform(1, 3))
            report.silences += 1
        leader = stage.leader()
        if number % 17 == 11:
            _freeze(stage, leader)
            report.freezes += 1
            leader = stage.leader()
        time.sleep(chance.uniform(0, 0.3))
        leader.popen.kill()
        leader.popen.wait()
        report.kills += 1
        stage.replace(leader)


def _jump(chance: random.Random, jumped: float) -> float:
    """Back and forth over the same days, so that moments are met again."""
    return chance.choice([jump for jump in JUMPS_S if abs(jumped + jump) <= FAR_S])


def _freeze(stage: Stage, leader: Process) -> None:
    """Until the broker has given it up and another leads; then it wakes and finds out."""
    leader.signal_group(signal.SIGSTOP)
    others = [each for each in stage.beats if each is not leader]
    until(lambda: any(_last_word(each) == LEADS for each in others), "another to lead", 90)
    leader.signal_group(signal.SIGCONT)
    until(lambda: _last_word(leader) != LEADS, "the frozen one to find out", 60)


def _settle(stage: Stage, report: Report) -> None:
    time.sleep(WRITTEN)  # the diary is written every few seconds
    for beat in stage.beats:
        beat.popen.terminate()
        beat.popen.wait(20)
    time.sleep(0.5)
    _judge(stage, report)


def _judge(stage: Stage, report: Report) -> None:
    taken = stage.reader.taken
    report.messages = len(taken)
    for name, count in Counter(task_id for _, _, task_id in taken).items():
        if count > 1:
            report.failures.append(f"the task {name} was sent {count} times")
    missed: dict[str, set[int]] = defaultdict(set)
    sent: dict[str, list[int]] = defaultdict(list)
    for each in stage.ledger.schedules.missed():
        step = next(
            (int(e.every_s) for e in TABLE if e.name == each.entry and e.at_s is not None), 1
        )
        stretch = set(range(each.first_slot, each.last_slot + 1, step))
        report.missed[each.entry] = report.missed.get(each.entry, 0) + len(stretch)
        missed[each.entry] |= stretch
    for name, slot, _ in taken:
        sent[name].append(slot)
    for entry in TABLE:
        slots = sent[entry.name]
        report.sent[entry.name] = len(slots)
        if len(set(slots)) < len(slots):
            report.failures.append(f"{entry.name}: a slot was sent twice")
        if both := missed[entry.name] & set(slots):
            report.failures.append(f"{entry.name}: sent and missed: {sorted(both)[:5]}")
        lost = _expected(entry, slots, stage.began) - set(slots) - missed[entry.name]
        if lost:
            report.failures.append(
                f"{entry.name}: {len(lost)} slots neither sent nor missed: {sorted(lost)[:5]}"
            )


def _expected(entry: Entry, sent: list[int], began: float) -> set[int]:
    """Of an entry of seconds every number; of one of moments every moment of the days judged."""
    if entry.at_s is None:
        return set(range(min(sent), max(sent) + 1)) if sent else set()
    every, at = int(entry.every_s), int(entry.at_s)
    first = int((began - at) // every + 1) * every + at
    return set(range(first, int(began + END_AT_S), every))


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kills", type=int, default=50)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--broker", choices=sorted(BROKERS), default="embedded")
    parser.add_argument("--folder", type=Path, help="Where logs and ledger are kept.")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="botswarm-two-beats-") as folder:
        where = options.folder or Path(folder)
        report = run(options.kills, options.seed, options.broker, where)
    print(report)
    return 1 if report.failures else 0


if __name__ == "__main__":
    sys.exit(main())
