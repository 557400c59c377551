"""A small ledger of each kind with fills in it, and a folder to save it to."""

from __future__ import annotations

import itertools
import shutil
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from botswarm.backup.place import Place, place_of
from botswarm.config import load
from botswarm.testing.servers import PostgreSQLServer
from tests.backup.object_store import Store
from tests.campaign.many_fills import fill_ledger

FILLS = 300
KEY = "MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY="
OTHER_KEY = "ZmVkY2JhOTg3NjU0MzIxMGZlZGNiYTk4NzY1NDMyMTA="

_numbers = itertools.count(1)


@pytest.fixture(scope="session")
def postgresql() -> Iterator[PostgreSQLServer]:
    with PostgreSQLServer() as server:
        server.create_database("filled")
        fill_ledger(server.ledger_url("filled"), FILLS)
        yield server


@pytest.fixture(scope="session")
def filled_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("filled") / "ledger.db"
    fill_ledger(f"sqlite:///{path}", FILLS)
    return path


@pytest.fixture(params=["sqlite", "postgresql"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """Of a ledger with fills, for this test alone."""
    if request.param == "sqlite":
        path = tmp_path / "state" / "ledger.db"
        path.parent.mkdir()
        shutil.copy(request.getfixturevalue("filled_file"), path)
        return f"sqlite:///{path}"
    server: PostgreSQLServer = request.getfixturevalue("postgresql")
    name = f"ledger{next(_numbers)}"
    server.copy_database("filled", name)
    return server.ledger_url(name)


PlaceOf = Callable[..., Place]


@pytest.fixture
def place_for(tmp_path: Path) -> PlaceOf:
    def make(url: str, **settings: str) -> Place:
        environment = {
            "BOTSWARM_STATE_DIR": str(tmp_path / "state"),
            "BOTSWARM_BACKUP_DIR": str(tmp_path / "backups"),
            "BOTSWARM_DATABASE_URL": url,
            **{f"BOTSWARM_{name.upper()}": value for name, value in settings.items()},
        }
        return place_of(load(environ=environment, folder=tmp_path).settings)

    return make


@pytest.fixture
def place(url: str, place_for: PlaceOf) -> Place:
    return place_for(url)


@pytest.fixture
def sqlite_place(sqlite_url: str, place_for: PlaceOf) -> Place:
    """Where both kinds go the same way: a server costs ten times as much."""
    return place_for(sqlite_url)


@pytest.fixture
def sqlite_url(tmp_path: Path, filled_file: Path) -> str:
    path = tmp_path / "state" / "ledger.db"
    path.parent.mkdir()
    shutil.copy(filled_file, path)
    return f"sqlite:///{path}"


@pytest.fixture
def store() -> Iterator[Store]:
    server = Store()
    thread = threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True)
    thread.start()
    yield server
    server.shutdown()
    server.server_close()
    thread.join()
