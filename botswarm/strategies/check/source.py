"""Reading a strategy's source: what it imports, calls and changes that a pure one does not."""

from __future__ import annotations

import ast
from collections.abc import Iterator

from botswarm.strategies.check.finding import Finding

CLOCKS = {"time", "datetime", "calendar", "zoneinfo", "sched"}
DICE = {"random", "secrets", "uuid"}
OUTSIDE = {
    *("os", "io", "pathlib", "socket", "ssl", "http", "urllib", "requests", "httpx", "aiohttp"),
    *("subprocess", "multiprocessing", "threading", "asyncio", "concurrent", "sqlite3", "shelve"),
    *("pickle", "shutil", "tempfile", "glob", "signal", "ctypes", "sys", "ccxt", "sqlalchemy"),
    *("redis", "celery", "websocket", "logging"),
}
BUILTINS = {"open", "input", "print", "exec", "eval", "compile", "__import__", "breakpoint", "id"}
BUILTINS_WHY = {
    "print": "it prints",
    "id": "it asks where a thing lies in memory, which is another place in every process",
    "open": "it opens a file",
    "input": "it asks a person",
}
CHANGING = {"append", "add", "update", "extend", "insert", "pop", "clear", "setdefault", "remove"}
PURE_CURE = (
    "decide from what the view shows: view.now_ms is the time, view.memory what it said last"
)
KEEP_CURE = "keep what the next decision needs in Decision.memory; it comes back as view.memory"


def read(text: str) -> list[Finding]:
    """Of a file that compiles."""
    tree = ast.parse(text)
    module_names = {
        target.id
        for node in tree.body
        if isinstance(node, (ast.Assign, ast.AnnAssign))
        for target in (node.targets if isinstance(node, ast.Assign) else [node.target])
        if isinstance(target, ast.Name)
    }
    found: list[Finding] = []
    for node in ast.walk(tree):
        found += _imports(node)
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
            found += _function(node, module_names)
    return found


def _imports(node: ast.AST) -> Iterator[Finding]:
    if isinstance(node, ast.Import):
        names = [alias.name for alias in node.names]
    elif isinstance(node, ast.ImportFrom) and node.module:
        names = [node.module]
        if node.module == "numpy":
            names += [f"numpy.{alias.name}" for alias in node.names]
    else:
        return
    for name in names:
        room = name.partition(".")[0]
        if name.startswith("numpy.random"):
            yield _impure(node, "it imports numpy.random, dice")
        elif room in CLOCKS:
            # timedelta and the like are harmless; what is asked of it shows when it is tried.
            is_error = room == "time"
            yield _impure(node, f"it imports {room}, a clock", is_error=is_error)
        elif room in DICE:
            yield _impure(node, f"it imports {room}, dice")
        elif room in OUTSIDE:
            yield _impure(node, f"it imports {room}, a way to the world outside")


def _function(
    function: ast.FunctionDef | ast.AsyncFunctionDef, module_names: set[str]
) -> Iterator[Finding]:
    local = {
        node.id
        for node in ast.walk(function)
        if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store)
    }
    shared = module_names - local
    for node in ast.walk(function):
        if isinstance(node, (ast.Global, ast.Nonlocal)):
            words = f"it changes {', '.join(node.names)}, which outlives the decision"
            yield _kept(node, words)
        elif isinstance(node, ast.Call):
            yield from _call(node, shared)
        elif isinstance(node, ast.Attribute):
            yield from _attribute(node)
        elif isinstance(node, (ast.Assign, ast.AugAssign)):
            targets = node.targets if isinstance(node, ast.Assign) else [node.target]
            for target in targets:
                base = target.value if isinstance(target, (ast.Subscript, ast.Attribute)) else None
                if isinstance(base, ast.Name) and base.id in shared:
                    yield _kept(node, f"it changes {base.id}, which outlives the decision")
    for default in (*function.args.defaults, *function.args.kw_defaults):
        if isinstance(default, (ast.List, ast.Dict, ast.Set)):
            words = "a default that is a list, dict or set is shared by all calls"
            yield _kept(default, words)


def _call(node: ast.Call, shared: set[str]) -> Iterator[Finding]:
    called = node.func
    if isinstance(called, ast.Name) and called.id in BUILTINS:
        yield _impure(node, BUILTINS_WHY.get(called.id, f"it calls {called.id}()"))
    if isinstance(called, ast.Attribute) and isinstance(called.value, ast.Name):
        if called.attr in CHANGING and called.value.id in shared:
            yield _kept(node, f"it changes {called.value.id}, which outlives the decision")
        if called.value.id == "object" and called.attr == "__setattr__":
            yield _kept(node, "it changes itself; one strategy serves many decisions")


def _attribute(node: ast.Attribute) -> Iterator[Finding]:
    if node.attr == "random" and ast.unparse(node.value) in ("numpy", "np"):
        yield _impure(node, "it rolls dice, numpy.random")
    elif node.attr == "base":
        words = "it reaches behind an array (.base), where candles may be that it must not see"
        yield Finding(kind="look-ahead", words=words, cure="use the array itself", line=node.lineno)
    elif node.attr.startswith("_") and not node.attr.startswith("__"):
        own = isinstance(node.value, ast.Name) and node.value.id in ("self", "cls")
        if not own:
            words = f"it reaches into {ast.unparse(node)}, which is nobody's but its owner's"
            cure = "use what the API documents"
            yield Finding(
                kind="look-ahead", words=words, cure=cure, line=node.lineno, is_error=False
            )


def _impure(node: ast.AST, words: str, *, is_error: bool = True) -> Finding:
    line = getattr(node, "lineno", None)
    return Finding(kind="impure", words=words, cure=PURE_CURE, line=line, is_error=is_error)


def _kept(node: ast.AST, words: str) -> Finding:
    return Finding(kind="impure", words=words, cure=KEEP_CURE, line=getattr(node, "lineno", None))
