"""Spoil backups in every way one at a time: none may go unnoticed, none may count as good.

    python -m tests.campaign.backup_corruption --corruptions 100 --kills 20 --full-disks 20

Works on the folder alone, so it is the same for every kind of ledger. A spoilt backup has to be
refused by verify; a writer that is killed, or whose disk takes no more, must leave nothing that
counts. Exits with 1 where anything went unnoticed.
"""

from __future__ import annotations

import argparse
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from botswarm.backup.create import check, create, try_out
from botswarm.backup.folder import Backup, State
from botswarm.backup.place import Place, place_of
from botswarm.config import load
from botswarm.errors import BotswarmError
from tests.campaign.many_fills import fill_ledger

ROOT = Path(__file__).parents[2]
KEYS = (
    "MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY=",
    "ZmVkY2JhOTg3NjU0MzIxMGZlZGNiYTk4NzY1NDMyMTA=",
)


@dataclass(slots=True)
class Tally:
    noticed: Counter[str] = field(default_factory=Counter)
    unnoticed: list[str] = field(default_factory=list)

    def count(self, what: str, words: str | None) -> None:
        if words is None:
            self.noticed[what] += 1
        else:
            self.unnoticed.append(f"{what}: {words}")


@dataclass(frozen=True, slots=True)
class Stage:
    """A ledger, two good backups of it unsealed and two sealed, and a folder to spoil copies in."""

    folder: Path
    environment: Mapping[str, str]
    good: Mapping[bool, Sequence[Backup]]
    """By whether they are sealed."""

    def place(self, name: str, key: str | None) -> Place:
        environment = {**self.environment, "BOTSWARM_BACKUP_DIR": str(self.folder / name)}
        if key is not None:
            environment["BOTSWARM_BACKUP_KEY"] = key
        return place_of(load(environ=environment, folder=self.folder).settings)


def stage(folder: Path, fills: int) -> Stage:
    environment = {"BOTSWARM_STATE_DIR": str(folder / "state")}
    (folder / "state").mkdir()
    fill_ledger(f"sqlite:///{folder / 'state' / 'ledger.db'}", fills)
    made = Stage(folder, environment, {})
    good = {}
    for is_sealed, key in ((False, None), (True, KEYS[0])):
        place = made.place(f"good-{is_sealed}", key)
        good[is_sealed] = [try_out(place, create(place).backup) for _ in range(2)]
    return Stage(folder, environment, good)


# --- ways to spoil one ----------------------------------------------------------------------------

Chance = random.Random
Spoil = Callable[[Path, Path, Chance], str]


def one_bit(spoilt: Path, _: Path, chance: Chance) -> str:
    path = _any(spoilt, chance)
    content = bytearray(path.read_bytes())
    at = chance.randrange(len(content))
    content[at] ^= 1 << chance.randrange(8)
    path.write_bytes(content)
    return f"bit at {at} of {path.name}"


def cut_off(spoilt: Path, _: Path, chance: Chance) -> str:
    path = _any(spoilt, chance)
    content = path.read_bytes()
    keep = chance.randrange(len(content))
    path.write_bytes(content[:keep])
    return f"{path.name} cut to {keep} of {len(content)} bytes"


def added(spoilt: Path, _: Path, chance: Chance) -> str:
    path = _any(spoilt, chance)
    path.write_bytes(path.read_bytes() + chance.randbytes(chance.randrange(1, 100)))
    return f"bytes after {path.name}"


def missing(spoilt: Path, _: Path, chance: Chance) -> str:
    path = _any(spoilt, chance)
    path.unlink()
    return f"{path.name} missing"


def of_another(spoilt: Path, other: Path, chance: Chance) -> str:
    path = _any(spoilt, chance)
    while path.read_bytes() == (other / path.name).read_bytes():
        path = _any(spoilt, chance)
    shutil.copy(other / path.name, path)
    return f"{path.name} of another backup"


def relisted(spoilt: Path, other: Path, chance: Chance) -> str:
    """Somebody puts another backup's part in its place, and its hash into the list."""
    part = next(path for path in spoilt.iterdir() if path.name.startswith("ledger"))
    before = _hash(part)
    shutil.copy(other / part.name, part)
    sums = spoilt / "SHA256SUMS"
    sums.write_text(sums.read_text().replace(before, _hash(part)))
    return f"{part.name} of another backup, and its hash"


def zeroed(spoilt: Path, _: Path, chance: Chance) -> str:
    path = _any(spoilt, chance)
    content = bytearray(path.read_bytes())
    start = chance.randrange(len(content))
    end = min(len(content), start + 512)
    content[start:end] = bytes(end - start)
    path.write_bytes(content)
    return f"zeros at {start} of {path.name}"


WAYS: Sequence[Spoil] = (one_bit, one_bit, one_bit, cut_off, cut_off, added, missing, of_another,
                         zeroed)  # fmt: skip


def _any(folder: Path, chance: Chance) -> Path:
    return chance.choice(sorted(folder.iterdir()))


def _hash(path: Path) -> str:
    from botswarm.backup.sealing import sha256_of

    return sha256_of(path)[1]


def corrupt(on: Stage, count: int, tally: Tally, chance: Chance) -> None:
    for number in range(count):
        is_sealed = bool(number % 2)
        good, other = on.good[is_sealed]
        name = f"spoilt-{number}"
        key = KEYS[0] if is_sealed else None
        place = on.place(name, key)
        target = on.folder / name / good.id
        shutil.copytree(good.path, target)
        if is_sealed and number % 10 == 9:
            what, words = "wrong key", "with another key"
            place = on.place(name, chance.choice([KEYS[1], None]))
        elif is_sealed and number % 10 == 7:
            # Without a seal whoever may write the list may write anything: only its owner may.
            what, words = "relisted", relisted(target, other.path, chance)
        else:
            way = chance.choice(WAYS)
            what, words = way.__name__, way(target, other.path, chance)
        tally.count(what, None if _is_noticed(place, good.id) else words)
        shutil.rmtree(on.folder / name)


def _is_noticed(place: Place, backup_id: str) -> bool:
    """By verify; or, where only the proof of its trial is spoilt, it does not count as good."""
    try:
        backup = place.folder.read(backup_id)
        if backup.state is not State.GOOD:
            return True
        check(place, backup)
    except BotswarmError:
        return True
    return False


# --- writers that do not come to their end --------------------------------------------------------


def kill(on: Stage, count: int, tally: Tally, chance: Chance) -> None:
    longest = _how_long(on)
    for number in range(count):
        name = f"killed-{number}"
        writer = _writer(on, name)
        time.sleep(chance.random() * longest)
        writer.send_signal(signal.SIGKILL)
        writer.communicate()
        was_killed = writer.returncode == -signal.SIGKILL
        tally.count("killed" if was_killed else "killed too late", _left(on, name, was_killed))
        shutil.rmtree(on.folder / name, ignore_errors=True)


def fill_disk(on: Stage, count: int, tally: Tally, chance: Chance) -> None:
    """The system refuses to write past a bound in any file, as it does on a full disk."""
    most = max(part.bytes for part in on.good[False][0].parts)
    for number in range(count):
        name = f"full-{number}"
        writer = _writer(on, name, file_max=chance.randrange(1, most))
        said = writer.communicate()[1].decode()
        words = _left(on, name, True)
        if writer.returncode != 5 or "Traceback" in said:
            words = f"ended with {writer.returncode}: {said[-300:]}"
        tally.count("full disk", words)
        shutil.rmtree(on.folder / name, ignore_errors=True)


def _left(on: Stage, name: str, was_stopped: bool) -> str | None:
    place = on.place(name, None)
    found, unusable = place.folder.list()
    if unusable:
        return f"{unusable[0].name} lies there: {unusable[0].words}"
    if found and was_stopped:
        # It had its name already: then it has to be whole, and still nobody has tried it.
        check(place, found[0])
        if found[0].state is State.GOOD and found[0].tested_at is None:
            return "counts as good"
    return None


def _how_long(on: Stage) -> float:
    began = time.monotonic()
    _writer(on, "timing").communicate()
    shutil.rmtree(on.folder / "timing")
    return time.monotonic() - began


def _writer(on: Stage, name: str, *, file_max: int = 0) -> subprocess.Popen[bytes]:
    program = (
        "import resource, signal, sys\n"
        "most = int(sys.argv[1])\n"
        "if most:\n"
        "    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n"
        "    resource.setrlimit(resource.RLIMIT_FSIZE, (most, most))\n"
        "from botswarm.cli import main\n"
        "main(['backup', 'create'])\n"
    )
    return subprocess.Popen(
        [sys.executable, "-c", program, str(file_max)],
        cwd=on.folder,
        env={
            **os.environ,
            **on.environment,
            "BOTSWARM_BACKUP_DIR": str(on.folder / name),
            "PYTHONPATH": str(ROOT),
        },
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
    )


def run(
    *, fills: int, corruptions: int, kills: int, full_disks: int, seed: int = 1
) -> tuple[Tally, float]:
    tally, chance, began = Tally(), random.Random(seed), time.monotonic()
    with tempfile.TemporaryDirectory(prefix="botswarm-corruption-") as folder:
        on = stage(Path(folder), fills)
        corrupt(on, corruptions, tally, chance)
        kill(on, kills, tally, chance)
        fill_disk(on, full_disks, tally, chance)
    return tally, time.monotonic() - began


def main() -> None:
    parser = argparse.ArgumentParser(description=str(__doc__).partition("\n")[0])
    for name, default in (("corruptions", 100), ("kills", 20), ("full-disks", 20), ("fills", 3000),
                          ("seed", 1)):  # fmt: skip
        parser.add_argument(f"--{name}", type=int, default=default)
    tally, took_s = run(**vars(parser.parse_args()))
    for what, number in sorted(tally.noticed.items()):
        print(f"{what}: {number} noticed")
    for words in tally.unnoticed:
        print(f"UNNOTICED {words}")
    total = sum(tally.noticed.values())
    print(f"{total} noticed, {len(tally.unnoticed)} unnoticed, {took_s:.0f} s")
    sys.exit(1 if tally.unnoticed else 0)


if __name__ == "__main__":
    main()
