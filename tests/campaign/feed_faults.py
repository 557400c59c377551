"""What goes wrong in a soak of feeds: drawn by seed, aimed so that each outage can be judged."""

from __future__ import annotations

import random
import threading
import time
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from botswarm.exchanges.simulated.random_streams import RandomStreams
from botswarm.testing.proxy import CLEAN, Toxics
from tests.campaign.feed_stage import Daemon, Stage

OUTAGE_S = (1.0, 8.0)
LOOK_AFTER_S = 6.0
"""After an outage nothing else happens to its venue for so long: its end is being judged."""
STREAMS = "streams"
WEIGHTS: Mapping[str, float] = {
    STREAMS: 10,
    "outage": 2,
    "proxy down": 2,
    "proxy reset": 2,
    "proxy black hole": 2,
    "proxy slow": 1,
    "proxy slices": 1,
    "broker alarm": 1.5,
    "broker cut": 1.5,
    "broker down": 1,
    "kill": 1.5,
}


@dataclass(frozen=True, slots=True)
class Outage:
    venue: str
    addresses: tuple[str, ...]
    ended_ms: int


@dataclass(slots=True)
class Faults:
    stage: Stage
    seed: int
    counts: Counter[str] = field(default_factory=Counter)
    outages: list[Outage] = field(default_factory=list)
    kills_until: float = 0.0
    """Afterwards every daemon lives on, so that its weight can be judged."""
    _random: random.Random = field(init=False)
    _streams: RandomStreams = field(init=False)
    _spared: dict[str, float] = field(default_factory=dict)
    _later: list[threading.Thread] = field(default_factory=list)
    _killed_at: float = 0.0

    def __post_init__(self) -> None:
        self._random = random.Random(self.seed)
        self._streams = RandomStreams(self.seed, 0)

    def strike(self) -> None:
        """One of them, now; those that last are ended by themselves."""
        kind = self._random.choices(list(WEIGHTS), list(WEIGHTS.values()))[0]
        if kind == STREAMS:
            self._strike_streams()
        elif kind == "kill":
            self._kill()
        elif kind.startswith("broker"):
            self._strike_broker(kind)
        elif (venue := self._venue()) is not None:
            self._strike_venue(kind, venue)

    def end(self) -> None:
        """Wait for what lasts, and mend everything."""
        for thread in self._later:
            thread.join(30)
        self.stage.exchange.misbehaviour("DELETE")
        self.stage.exchange.arm("lifetime", seconds=86_400)
        for daemon in self.stage.daemons:
            for proxy in daemon.proxies.values():
                proxy.heal()
            if not daemon.running:
                daemon.start()

    # --- one by one -----------------------------------------------------------------------

    def _venue(self) -> str | None:
        """Any that is not being looked after."""
        now = time.monotonic()
        free = [name for name in self.stage.venues if self._spared.get(name, 0) < now]
        return self._random.choice(free) if free else None

    def _spare(self, venue: str, seconds: float) -> None:
        self._spared[venue] = time.monotonic() + seconds

    def _afterwards(self, seconds: float, action: Callable[[], object]) -> None:
        def work() -> None:
            time.sleep(seconds)
            action()

        thread = threading.Thread(target=work, daemon=True)
        thread.start()
        self._later.append(thread)

    def _strike_streams(self) -> None:
        wish = self._streams.wish()
        venue = self._venue()
        if wish["kind"] == "outage" or venue is None:
            return
        wish |= {"venue": venue, "peer": self._random.choice(["any", self._one().address])}
        if wish["kind"] == "limit_connects":
            self._spare(venue, float(str(wish["seconds"])) + 1)
        self.counts[str(wish["kind"])] += 1
        self.stage.exchange.misbehaviour("POST", wish)

    def _one(self) -> Daemon:
        return self._random.choice(self.stage.daemons)

    def _strike_venue(self, kind: str, venue: str) -> None:
        seconds = round(self._random.uniform(*OUTAGE_S), 1)
        daemon = self._one()
        proxy = daemon.proxies[venue]
        self.counts[kind] += 1
        if kind == "outage":
            addresses = tuple(each.address for each in self.stage.daemons)
            self._note_outage(venue, addresses, seconds)
            self.stage.exchange.arm("outage", venue=venue, seconds=seconds)
        elif kind == "proxy down":
            self._note_outage(venue, (daemon.address,), seconds)
            proxy.down()
            self._afterwards(seconds, proxy.up)
        elif kind == "proxy reset":
            proxy.reset()
        else:
            self._spare(venue, seconds + LOOK_AFTER_S)
            proxy.set(**self._toxics(kind))
            self._afterwards(seconds, lambda: proxy.set(up=CLEAN, down=CLEAN))

    def _toxics(self, kind: str) -> dict[str, Toxics]:
        if kind == "proxy black hole":
            hole = Toxics(is_black_hole=True)
            return self._random.choice([{"up": hole, "down": hole}, {"up": hole}, {"down": hole}])
        if kind == "proxy slow":
            return {"down": Toxics(latency_s=0.3, jitter_s=0.2, bytes_per_s=20_000)}
        return {"down": Toxics(slice_bytes=7, slice_pause_s=0.0005)}

    def _note_outage(self, venue: str, addresses: tuple[str, ...], seconds: float) -> None:
        self._spare(venue, seconds + LOOK_AFTER_S)
        ended_ms = int((time.time() + seconds) * 1000)
        self.outages.append(Outage(venue, addresses, ended_ms))

    def _strike_broker(self, kind: str) -> None:
        self.counts[kind] += 1
        broker, proxy = self.stage.broker, self._one().proxies["broker"]
        if kind == "broker alarm":
            broker.raise_memory_alarm()
            self._afterwards(round(self._random.uniform(2, 6), 1), broker.clear_memory_alarm)
        elif kind == "broker cut":
            proxy.reset()
        else:
            proxy.down()
            self._afterwards(round(self._random.uniform(1, 4), 1), proxy.up)

    def _kill(self) -> None:
        now = time.monotonic()
        is_watched = any(until > now for until in self._spared.values())
        # Who stands by must know the market before the one who leads may die.
        if now > self.kills_until or now - self._killed_at < 15 or is_watched:
            return
        daemon = self._one()
        if all(each.running for each in self.stage.daemons):
            self._killed_at = now
            self.counts["kill -9"] += 1
            daemon.kill()
            daemon.start()
