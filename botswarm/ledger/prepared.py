"""Statements that PostgreSQL plans once for each connection: those made while others wait.

Planning the question for an account's exposure takes several times as long as answering it.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any

from sqlalchemy import Connection, Engine, ExceptionContext, event

PREPARED = {"botswarm_prepared": True}
"""The execution options of such a statement; elsewhere than in PostgreSQL they say nothing."""
OPTION = "botswarm_prepared"
VALUE = re.compile(r"%\((\w+)\)s")


@dataclass(slots=True)
class Known:
    """What one connection has prepared. A name is never used twice."""

    names: dict[str, str] = field(default_factory=dict)
    count: int = 0

    def new(self, statement: str) -> str:
        self.count += 1
        name = self.names[statement] = f"botswarm_{self.count}"
        return name


@lru_cache(maxsize=64)
def in_two(statement: str) -> tuple[str, str]:
    """What is to be prepared, its values numbered, and the values to execute it with.

    ``statement`` is as it is sent to psycopg2, its values named.
    """
    names = list(dict.fromkeys(VALUE.findall(statement)))
    numbered = VALUE.sub(lambda found: f"${names.index(found[1]) + 1}", statement)
    return numbered, f" ({', '.join(f'%({name})s' for name in names)})" if names else ""


def listen(engine: Engine) -> None:
    """Have this engine's connections remember what they have prepared."""

    @event.listens_for(engine, "before_cursor_execute", retval=True)
    def prepare_once(
        connection: Connection,
        cursor: object,
        statement: str,
        parameters: Any,
        context: Any,
        executemany: bool,
    ) -> tuple[str, Any]:
        if executemany or not context.execution_options.get(OPTION):
            return statement, parameters
        known: Known = connection.info.setdefault(OPTION, Known())
        numbered, values = in_two(statement)
        if (name := known.names.get(statement)) is not None:
            return f"EXECUTE {name}{values}", parameters
        name = known.new(statement)
        return f"PREPARE {name} AS {numbered};\nEXECUTE {name}{values}", parameters

    @event.listens_for(engine, "handle_error")
    def forget(context: ExceptionContext) -> None:
        """Whether it was prepared before it failed cannot be told: it gets another name."""
        words = (context.statement or "").split(maxsplit=2)
        if words[:1] == ["PREPARE"] and context.connection is not None:
            known: Known = context.connection.info.get(OPTION, Known())
            known.names = {text: name for text, name in known.names.items() if name != words[1]}
