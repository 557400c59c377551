"""The files of a backup: packed as gzip, sealed where there is a key, and hashed on the way.

Unsealed files are plain gzip files, which any gunzip opens. Sealed ones are a line of JSON and
then chunks, each its length and its bytes by AES-256-GCM: the nonce counts them and tells the
last one, so none can be changed, moved, left out or cut off unseen (docs/backups.md).
"""

from __future__ import annotations

import gzip
import hashlib
import io
import json
import os
import struct
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

from botswarm.errors import BotswarmError, Unreachable
from botswarm.keys.envelope import KEY_BYTES, NONCE_BYTES, MasterKey, Unsealable, identity

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.ciphers.aead import AESGCM

FORMAT = "botswarm sealed 1"
CHUNK = 1 << 20
TAG = 16
HEADER_MAX = 4096
LENGTH = struct.Struct(">I")
PACKED, SEALED = ".gz", ".aes"
LEVEL = 1
"""Of gzip: more would take several times as long and save a sixth."""


class Damaged(BotswarmError):
    """A backup is not what was written, or not all of it: it is never used."""

    exit_code = 3
    code = "BSW-3005"

    def __init__(self, cause: str) -> None:
        super().__init__(
            cause, cure="use another backup (botswarm backup list), and find out what changed it"
        )


@dataclass(frozen=True, slots=True)
class Written:
    """A file as it lies there."""

    name: str
    bytes: int
    sha256: str


def extension(key: MasterKey | None, *, is_packed: bool = True) -> str:
    return (PACKED if is_packed else "") + (SEALED if key is not None else "")


@contextmanager
def writing(path: Path, label: str, key: MasterKey | None) -> Iterator[tuple[IO[bytes], _Hashed]]:
    """A stream whose bytes become the file, on the disk when the block has ended.

    ``label`` is what the file is and of which backup: sealed, it opens as nothing else. The name
    of ``path`` says what is done to the bytes.
    """
    with path.open("xb") as file:
        hashed = _Hashed(file)
        under: Any = hashed
        if path.name.endswith(SEALED):
            assert key is not None, "nobody gave a key to seal with"
            under = _Sealing(hashed, label, key)
        inner = path.name.removesuffix(SEALED)
        packing: Any = None
        if inner.endswith(PACKED):
            packing = gzip.GzipFile(
                filename="", mode="wb", compresslevel=LEVEL, fileobj=under, mtime=0
            )
        yield packing or under, hashed
        if packing is not None:
            packing.close()
        if under is not hashed:
            under.finish()
        force(file)


def write(path: Path, label: str, key: MasterKey | None, source: IO[bytes]) -> Written:
    """All of ``source``; raises Unreachable where the disk does not take it."""
    with spoken(path), writing(path, label, key) as (sink, hashed):
        while chunk := source.read(CHUNK):
            sink.write(chunk)
    return Written(path.name, hashed.bytes, hashed.hexdigest())


def write_bytes(path: Path, label: str, key: MasterKey | None, content: bytes) -> Written:
    return write(path, label, key, io.BytesIO(content))


@contextmanager
def reading(path: Path, label: str, key: MasterKey | None) -> Iterator[IO[bytes]]:
    """The bytes that were written. Raises Damaged where anything of it was changed."""
    try:
        with path.open("rb") as file:
            under: Any = file
            if path.name.endswith(SEALED):
                under = io.BufferedReader(_Opening(file, label, key, path.name), CHUNK)
            if path.name.removesuffix(SEALED).endswith(PACKED):
                under = gzip.GzipFile(fileobj=under, mode="rb")
            yield under
    except FileNotFoundError as error:
        raise Damaged(f"{path.name} is missing") from error
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise Damaged(f"{path.name} cannot be unpacked: {error}") from error


def copy_out(path: Path, label: str, key: MasterKey | None, target: Path) -> None:
    """The bytes that were written, into a new file that only its owner may read."""
    with spoken(target), reading(path, label, key) as source:
        descriptor = os.open(target, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(descriptor, "wb") as file:
            while chunk := source.read(CHUNK):
                file.write(chunk)
            force(file)


def force(file: IO[bytes]) -> None:
    """Onto the disk."""
    file.flush()
    os.fsync(file.fileno())


def read_bytes(path: Path, label: str, key: MasterKey | None) -> bytes:
    with reading(path, label, key) as source:
        return source.read()


def sha256_of(path: Path) -> tuple[int, str]:
    """How many bytes there are, and their hash."""
    digest, size = hashlib.sha256(), 0
    with path.open("rb") as file:
        while chunk := file.read(CHUNK):
            digest.update(chunk)
            size += len(chunk)
    return size, digest.hexdigest()


@contextmanager
def spoken(path: Path, setting: str = "BOTSWARM_BACKUP_DIR") -> Iterator[None]:
    """Say what the disk says, and which setting names another."""
    try:
        yield
    except OSError as error:
        raise Unreachable(
            f"{error.filename or path} cannot be used: {error.strerror or error}",
            cure=f"make room there, mend its permissions, or name another {setting}",
        ) from error


class _Hashed:
    """A file that knows the hash of what was written to it."""

    def __init__(self, file: IO[bytes]) -> None:
        self._file = file
        self._digest = hashlib.sha256()
        self.bytes = 0

    def write(self, data: bytes) -> int:
        self._digest.update(data)
        self.bytes += len(data)
        self._file.write(data)
        return len(data)

    def flush(self) -> None:
        self._file.flush()

    def hexdigest(self) -> str:
        return self._digest.hexdigest()


class _Sealing:
    def __init__(self, sink: _Hashed, label: str, key: MasterKey) -> None:
        self._sink = sink
        self._kept = bytearray()
        self._number = 0
        data_key, nonce = os.urandom(KEY_BYTES), os.urandom(NONCE_BYTES)
        wrapped = key.wrap(nonce, data_key, identity(FORMAT, label, key.id))
        header = {"format": FORMAT, "key": key.id, "nonce": nonce.hex(), "wrapped": wrapped.hex()}
        self._header = json.dumps(header).encode() + b"\n"
        self._bound = self._header + label.encode()
        self._cipher = _cipher(data_key)
        sink.write(self._header)

    def write(self, data: bytes) -> int:
        self._kept += data
        # One chunk is always held back: only at the end it is known to be the last.
        while len(self._kept) > CHUNK:
            self._seal(bytes(self._kept[:CHUNK]), is_last=False)
            del self._kept[:CHUNK]
        return len(data)

    def flush(self) -> None:
        pass

    def finish(self) -> None:
        self._seal(bytes(self._kept), is_last=True)

    def _seal(self, plain: bytes, *, is_last: bool) -> None:
        sealed = self._cipher.encrypt(_nonce(self._number, is_last), plain, self._bound)
        self._sink.write(LENGTH.pack(len(sealed)) + sealed)
        self._number += 1


class _Opening(io.RawIOBase):
    def __init__(self, file: IO[bytes], label: str, key: MasterKey | None, name: str) -> None:
        self._file = file
        self._name = name
        self._plain = b""
        self._number = 0
        self._is_over = False
        header = file.readline(HEADER_MAX)
        self._bound = header + label.encode()
        self._cipher = _cipher(self._data_key(header, label, key))

    def _data_key(self, header: bytes, label: str, key: MasterKey | None) -> bytes:
        try:
            said = json.loads(header)
            nonce, wrapped = bytes.fromhex(said["nonce"]), bytes.fromhex(said["wrapped"])
            sealed_by = str(said["key"])
        except (ValueError, KeyError, TypeError) as error:
            raise Damaged(f"{self._name} does not begin as a sealed file does") from error
        if key is None or key.id != sealed_by:
            ours = "none was given" if key is None else f"this one is {key.id}"
            raise WrongKey(f"{self._name} is sealed by the key {sealed_by}, and {ours}")
        try:
            return key.unwrap(nonce, wrapped, identity(FORMAT, label, key.id))
        except Unsealable as error:
            raise Damaged(f"{self._name} is sealed as something else, or was changed") from error

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        while not self._plain and not self._is_over:
            self._plain = self._next()
        count = min(len(buffer), len(self._plain))
        buffer[:count] = self._plain[:count]
        self._plain = self._plain[count:]
        return count

    def _next(self) -> bytes:
        from cryptography.exceptions import InvalidTag

        length = self._file.read(LENGTH.size)
        size = LENGTH.unpack(length)[0] if len(length) == LENGTH.size else 0
        if not TAG <= size <= CHUNK + TAG:
            raise Damaged(f"{self._name} ends too soon, or was changed")
        sealed = self._file.read(size)
        here = self._file.read(1)
        self._is_over = not here
        if here:
            self._file.seek(-1, os.SEEK_CUR)
        try:
            plain = self._cipher.decrypt(_nonce(self._number, self._is_over), sealed, self._bound)
        except InvalidTag as error:
            raise Damaged(f"{self._name} was changed, or a part of it is missing") from error
        self._number += 1
        return plain


class WrongKey(Unreachable):
    """The key that sealed a backup is another one."""

    def __init__(self, cause: str) -> None:
        super().__init__(cause, cure="give that one: BOTSWARM_BACKUP_KEY_FILE")


def _nonce(number: int, is_last: bool) -> bytes:
    return number.to_bytes(NONCE_BYTES - 1, "big") + bytes([is_last])


def _cipher(key: bytes) -> AESGCM:
    # Imported when a file is sealed: most processes seal none.
    from cryptography.hazmat.primitives.ciphers.aead import AESGCM

    return AESGCM(key)
