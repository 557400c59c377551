"""The doors of the exchange: who may enter, how often, when, and with which mishap in between."""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import quote

from botswarm.exchanges.simulated import refusal
from botswarm.exchanges.simulated.control import Control
from botswarm.exchanges.simulated.http import Request, Response, split_parameters
from botswarm.exchanges.simulated.journal import JournalFailed
from botswarm.exchanges.simulated.limits import AddressLimits
from botswarm.exchanges.simulated.mishaps import GARBAGE, Delivery, carry, garbage
from botswarm.exchanges.simulated.operations import PLACE, REST, WS_API, Operation, Operations
from botswarm.exchanges.simulated.parameters import Parameters
from botswarm.exchanges.simulated.refusal import Refusal
from botswarm.exchanges.simulated.service import Service
from botswarm.exchanges.simulated.signatures import Credentials, Window, unsigned
from botswarm.exchanges.simulated.streams import VENUE
from botswarm.exchanges.simulated.users import SUBSCRIPTIONS_MAX, UserLine

_log = logging.getLogger(__name__)


@dataclass(slots=True)
class Outcome:
    result: object = None
    refusal: Refusal | None = None
    delivery: Delivery = "whole"
    headers: dict[str, str] = field(default_factory=dict)


class Gateway:
    def __init__(self, service: Service, credentials: Credentials) -> None:
        self.service = service
        self.credentials = credentials
        self.operations = Operations(service)
        self.control = Control(service, credentials.secret)
        self._addresses: dict[str, AddressLimits] = {}

    def address(self, peer: str) -> AddressLimits:
        found = self._addresses.get(peer)
        if found is None:
            found = self._addresses[peer] = AddressLimits(self.service.options.limits)
        return found

    # --- REST -----------------------------------------------------------------------------

    async def rest(self, request: Request) -> tuple[Response, Delivery]:
        if (answer := self.control.answer(request)) is not None:
            return answer, "whole"
        operation = REST.get((request.method, request.path))
        if operation is None:
            return _unknown_path(request), "whole"
        address, now_ms = self.address(request.peer), self.service.now_ms()
        try:
            parameters = Parameters(
                [*split_parameters(request.query), *split_parameters(request.body)]
            )
            weight = operation.weight(parameters.values)
            self._spend(address, weight, now_ms)
            window = self._admit_rest(operation, request, parameters)
            outcome = await self._perform(operation, parameters, window)
        except Refusal as why:
            outcome = Outcome(refusal=why)
        else:
            if operation.is_free_when_done and outcome.refusal is None:
                address.give_back(weight, now_ms)
        return self._respond(outcome, address), outcome.delivery

    def _spend(self, address: AddressLimits, weight: int, now_ms: int) -> None:
        if self.service.storms:
            self.service.storms[-1].refuse(now_ms)
        address.spend(weight, now_ms)

    def _admit_rest(
        self, operation: Operation, request: Request, parameters: Parameters
    ) -> Window | None:
        if not operation.is_signed:
            return None
        self.credentials.check_key(request.headers.get("x-mbx-apikey"))
        window = Window.read(parameters.values.get)
        window.check(self.service.now_ms())
        payload = unsigned(request.query) + unsigned(request.body)
        self.credentials.check_signature(payload, parameters.values.get("signature"))
        return window

    def _respond(self, outcome: Outcome, address: AddressLimits) -> Response:
        headers = address.headers(self.service.now_ms()) | outcome.headers
        if outcome.delivery == "garbage":
            return garbage(headers)
        if outcome.refusal is None:
            return Response.json(outcome.result, headers=headers)
        why = outcome.refusal
        self.service.faults.note_refused(why.code)
        return Response.json(
            {"code": why.code, "msg": why.text}, status=why.status, headers=headers | why.headers
        )

    # --- both ways ------------------------------------------------------------------------

    async def _perform(
        self, operation: Operation, parameters: Parameters, window: Window | None
    ) -> Outcome:
        if operation.action in ("place", "cancel") and (delay_s := self.service.market.delay_s()):
            await asyncio.sleep(delay_s)
        carried = await carry(
            self.service.faults,
            VENUE,
            operation.action,
            lambda: self._run(operation, parameters, window),
            lambda: self._run(operation, Parameters(parameters.values.items()), window),
        )
        if carried.instead == "timeout":
            return Outcome(refusal=refusal.execution_unknown())
        if carried.instead == "error":
            return Outcome(refusal=_internal_error())
        outcome = carried.result or Outcome()
        outcome.delivery = carried.delivery
        return outcome

    def _run(self, operation: Operation, parameters: Parameters, window: Window | None) -> Outcome:
        try:
            if window is not None:
                # Once more, at the engine's door: what waited on the way may be too old now.
                window.check(self.service.now_ms())
            result = operation.run(self.operations, parameters)
        except Refusal as why:
            return Outcome(refusal=why)
        except JournalFailed:
            raise  # the answer must not leave: nothing else remembers what was done
        except Exception:
            _log.exception(
                "the exchange failed at %s", parameters.values.get("symbol", "a request")
            )
            return Outcome(refusal=_internal_error())
        headers = {}
        if operation is PLACE:
            headers = self.service.order_limits.headers(self.service.now_ms())
        return Outcome(result=result, headers=headers)

    # --- WebSocket API --------------------------------------------------------------------

    async def ws_api(self, line: UserLine, peer: str, text: str) -> tuple[bytes, Delivery]:
        number: object = None
        address = self.address(peer)
        try:
            number, method, values = _read_ws_request(text)
            parameters = Parameters(values.items())
            if method.startswith("userDataStream."):
                self._spend(address, 2, self.service.now_ms())
                outcome = Outcome(self._user_stream(line, method, parameters))
            else:
                outcome = await self._ws_operation(method, parameters, address)
        except Refusal as why:
            outcome = Outcome(refusal=why)
        answer = self._ws_answer(number, outcome, address)
        if outcome.delivery == "garbage":
            return GARBAGE, "whole"
        return json.dumps(answer, separators=(",", ":")).encode(), outcome.delivery

    async def _ws_operation(
        self, method: str, parameters: Parameters, address: AddressLimits
    ) -> Outcome:
        operation = WS_API.get(method)
        if operation is None:
            raise Refusal(-1130, f"Method '{method}' is not known.")
        weight, now_ms = operation.weight(parameters.values), self.service.now_ms()
        self._spend(address, weight, now_ms)
        window = self._admit_ws(parameters) if operation.is_signed else None
        outcome = await self._perform(operation, parameters, window)
        if operation.is_free_when_done and outcome.refusal is None:
            address.give_back(weight, now_ms)
        return outcome

    def _admit_ws(self, parameters: Parameters) -> Window:
        values = parameters.values
        self.credentials.check_key(values.get("apiKey"))
        window = Window.read(values.get)
        window.check(self.service.now_ms())
        payload = "&".join(
            f"{name}={quote(value, safe='')}"
            for name, value in sorted(values.items())
            if name != "signature"
        )
        self.credentials.check_signature(payload, values.get("signature"))
        return window

    def _user_stream(self, line: UserLine, method: str, parameters: Parameters) -> object:
        if method == "userDataStream.subscribe.signature":
            self._admit_ws(parameters)
            if len(line.subscriptions) >= SUBSCRIPTIONS_MAX:
                raise Refusal(-1130, "Too many subscriptions in this session.")
            return {"subscriptionId": line.subscribe(self.credentials.account)}
        if method == "userDataStream.unsubscribe":
            number = parameters.integer("subscriptionId")
            if number is None:
                line.subscriptions.clear()
            else:
                line.subscriptions.pop(number, None)
            return {}
        raise Refusal(-1130, f"Method '{method}' is not known; listen keys are gone.")

    def _ws_answer(
        self, number: object, outcome: Outcome, address: AddressLimits
    ) -> dict[str, object]:
        now_ms = self.service.now_ms()
        limits = self.service.options.limits.described()
        limits = [
            {**limits[0], "count": address.weight.count(now_ms)},
            *self.service.order_limits.described(now_ms),
        ]
        why = outcome.refusal
        if why is None:
            return {"id": number, "status": 200, "result": outcome.result, "rateLimits": limits}
        error: dict[str, object] = {"code": why.code, "msg": why.text}
        if "Retry-After" in why.headers:
            retry_ms = now_ms + 1000 * int(why.headers["Retry-After"])
            error["data"] = {"serverTime": now_ms, "retryAfter": retry_ms}
        return {"id": number, "status": why.status, "error": error, "rateLimits": limits}


def _internal_error() -> Refusal:
    return Refusal(-1000, "An unknown error occurred while processing the request.", status=503)


def _unknown_path(request: Request) -> Response:
    text = f"{request.method} {request.path} is not part of the simulated exchange"
    return Response.json({"code": -1020, "msg": text}, status=404)


def _read_ws_request(text: str) -> tuple[object, str, Mapping[str, str]]:
    try:
        message: Any = json.loads(text, parse_float=str)
    except ValueError:
        raise Refusal(-1135, "JSON Request is invalid") from None
    if not isinstance(message, dict) or not isinstance(message.get("method"), str):
        raise Refusal(-1135, "JSON Request is invalid")
    given = message.get("params") or {}
    if not isinstance(given, dict):
        raise Refusal(-1135, "JSON Request is invalid")
    values = {str(name): _text(value) for name, value in given.items()}
    return message.get("id"), message["method"], values


def _text(value: object) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, str | int):
        return str(value)
    return json.dumps(value, separators=(",", ":"))
