"""What several machines have asked of one venue, in Redis: one script, one round trip."""

from __future__ import annotations

import json
import logging
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from redis import Redis, ResponseError
from redis.backoff import NoBackoff
from redis.retry import Retry

from botswarm.config import Secret
from botswarm.exchanges.allowance import Limit
from botswarm.exchanges.counting import PARTS

logger = logging.getLogger(__name__)

TIMEOUT_S = 0.05
"""An order does not wait longer for it; without Redis each machine keeps to its part."""
AGAIN_S = 5.0
KEPT_S = 2 * 86_400
MACHINES_S = 120
"""A machine that asked nothing for so long is not counted among those that share."""

# The arithmetic is counting.py's; a test holds the two to each other.
SCRIPT = """
local key, machines, op, said = KEYS[1], KEYS[2], ARGV[1], cjson.decode(ARGV[2])
local PARTS = said.parts
local RING = PARTS + 1
local now = said.now
if not now then
  local time = redis.call('TIME')
  now = tonumber(time[1]) + tonumber(time[2]) / 1000000
end

local function cell(part) return string.format('%.0f', part) end

local function begun(w)
  return {m = w.most, u = 0, p = 0, c = {}}
end

local function load(w)
  local raw = redis.call('HGET', key, w.name)
  local is_read, s = false, nil
  if raw then is_read, s = pcall(cmsgpack.unpack, raw) end
  if not is_read or type(s) ~= 'table' or not (s.m and s.u and s.p and s.c) then s = begun(w) end
  if w.period == 0 then
    if s.p <= now then s.u = math.max(0, s.u - (now - s.p) * w.decay) end
    s.p = now
    return s
  end
  local part = math.floor(now / w.period * PARTS)
  if part ~= s.p then
    local kept, used = {}, 0
    for each, count in pairs(s.c) do
      local at = tonumber(each)
      if at > part - RING and at <= part then
        kept[each] = count
        used = used + count
      end
    end
    s.p, s.u, s.c = part, used, kept
  end
  return s
end

local function save(w, s) redis.call('HSET', key, w.name, cmsgpack.pack(s)) end

local function add(w, s, amount)
  s.u = s.u + amount
  if w.period > 0 then s.c[cell(s.p)] = (s.c[cell(s.p)] or 0) + amount end
  save(w, s)
end

local function wait(w, s)
  local ceiling = math.max(s.m * w.share, math.min(w.amount, s.m))
  local missing = s.u + w.amount - ceiling
  if missing <= 0 then return 0 end
  if w.period == 0 then return missing / w.decay end
  if w.amount > ceiling then return w.period end
  for part = s.p - PARTS, s.p do
    missing = missing - (s.c[cell(part)] or 0)
    if missing <= 0 then return math.max(0.001, (part + RING) * w.period / PARTS - now) end
  end
  return w.period
end

local function hear(w, s)
  if w.amount > s.u then
    add(w, s, w.amount - s.u)
  elseif w.age and w.period > 0 then
    local first_new = math.max(s.p - PARTS, math.floor((now - w.age) / w.period * PARTS))
    local old = 0
    for part = s.p - PARTS, first_new - 1 do old = old + (s.c[cell(part)] or 0) end
    local too_many = old - w.amount
    for part = s.p - PARTS, first_new - 1 do
      if too_many <= 0 then break end
      local taken = math.min(too_many, s.c[cell(part)] or 0)
      if taken > 0 then
        s.c[cell(part)] = s.c[cell(part)] - taken
        s.u = s.u - taken
        too_many = too_many - taken
      end
    end
    save(w, s)
  end
end

redis.call('ZADD', machines, now, said.machine)
redis.call('ZREMRANGEBYSCORE', machines, '-inf', '(' .. string.format('%.6f', now - said.alive_s))
redis.call('EXPIRE', machines, said.kept_s)
local many = redis.call('ZCARD', machines)
local ban = tonumber(redis.call('HGET', key, said.ban) or '0') or 0
local longest = 0
if op == 'take' then
  local states = {}
  for i, w in ipairs(said.counts) do
    states[i] = load(w)
    longest = math.max(longest, wait(w, states[i]))
  end
  if ban > now then longest = math.max(longest, ban - now) end
  if longest == 0 then
    for i, w in ipairs(said.counts) do add(w, states[i], w.amount) end
  end
elseif op == 'hear' then
  for _, w in ipairs(said.counts) do hear(w, load(w)) end
elseif op == 'learn' then
  for _, w in ipairs(said.counts) do
    local s = load(w)
    s.m = w.most
    save(w, s)
  end
elseif op == 'ban' then
  ban = math.max(ban, now + said.seconds)
  redis.call('HSET', key, said.ban, string.format('%.6f', ban))
end
redis.call('EXPIRE', key, said.kept_s)
return {string.format('%.6f', longest), string.format('%.6f', math.max(0, ban - now)), many}
"""


@dataclass(frozen=True, slots=True)
class Answer:
    wait_s: float
    ban_s: float


class RedisCounts:
    """Of one venue's host. Every call answers None where Redis does not, and never raises."""

    def __init__(
        self,
        url: Secret,
        name: str,
        *,
        machine: str,
        address: str = "",
        now: Callable[[], float] | None = None,
    ) -> None:
        """``name`` is the key's. ``now`` is Redis' own clock unless a test gives another."""
        self._url, self._machine, self._address, self._now = url, machine, address, now
        # Braces: on a cluster both keys are kept by the same node.
        self._keys = [f"{{{name}}}", f"{{{name}}}:machines"]
        self._lock = threading.Lock()
        self._registered: Any = None
        self._gone_until = 0.0
        self._is_gone = False
        self.machines = 1
        """That share, when Redis was last heard."""

    def take(self, counts: Sequence[dict[str, Any]]) -> Answer | None:
        return self._call("take", counts=counts)

    def hear(self, counts: Sequence[dict[str, Any]]) -> None:
        self._call("hear", counts=counts)

    def learn(self, counts: Sequence[dict[str, Any]]) -> None:
        self._call("learn", counts=counts)

    def ban(self, seconds: float) -> None:
        self._call("ban", counts=[], seconds=seconds)

    def count(self, name: str, limit: Limit, **more: float) -> dict[str, Any]:
        """One count as the script reads it."""
        scope = "account" if limit.of_account else f"address {self._address}"
        known = {"most": limit.most, "period": limit.period_s, "decay": limit.decay_per_s}
        return {"name": f"{scope}: {name}", **known, **more}

    def _call(self, op: str, **said: Any) -> Answer | None:
        if time.monotonic() < self._gone_until:
            return None
        said |= {"machine": self._machine, "ban": f"ban of {self._address}"}
        said |= {"parts": PARTS, "alive_s": MACHINES_S, "kept_s": KEPT_S}
        if self._now is not None:
            said["now"] = self._now()
        try:
            wait_s, ban_s, machines = self._eval(op, json.dumps(said))
            self.machines = max(1, int(machines))
            answer = Answer(float(wait_s), float(ban_s))
        except Exception as error:
            # What listens there may not even be Redis: its client then raises anything.
            self._lost(error)
            return None
        if self._is_gone:
            self._is_gone = False
            logger.info("limits of venues are shared over Redis again")
        return answer

    def _eval(self, op: str, said: str) -> Any:
        script = self._script()
        try:
            return script(self._keys, [op, said])
        except ResponseError as error:
            if type(error) is not ResponseError:
                # No memory, no right to write: what is counted there stands, and so do bans.
                raise
            # Something else stands there: what is counted in it is lost either way.
            script.registered_client.delete(*self._keys)
            return script(self._keys, [op, said])

    def _script(self) -> Any:
        with self._lock:
            if self._registered is None:
                client = Redis.from_url(
                    self._url.reveal(),
                    socket_connect_timeout=TIMEOUT_S,
                    socket_timeout=TIMEOUT_S,
                    retry=Retry(NoBackoff(), 0),
                )
                # Sent once; called by its hash from then on.
                self._registered = client.register_script(SCRIPT)
            return self._registered

    def _lost(self, error: Exception) -> None:
        self._gone_until = time.monotonic() + AGAIN_S
        if not self._is_gone:
            logger.warning(
                "limits of venues are not shared over Redis at %s (%s): this machine keeps to "
                "its part, one of %d",
                self._url.masked,
                str(error) or type(error).__name__,
                self.machines,
            )
        self._is_gone = True

    def close(self) -> None:
        if self._registered is not None:
            self._registered.registered_client.close()
