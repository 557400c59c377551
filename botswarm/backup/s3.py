"""A bucket that speaks like Amazon S3, over the standard library's client.

boto3 would bring 27 MB for three requests; the signature is a page (AWS Signature Version 4).
Nothing is ever deleted: what uploads backups should not be able to, a bucket has rules for that.
"""

from __future__ import annotations

import hashlib
import hmac
import http.client
import ssl
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from urllib.parse import quote, urlsplit
from xml.etree import ElementTree

from botswarm.backup.sealing import sha256_of, spoken
from botswarm.config import Secret, Settings
from botswarm.errors import NotFound, Refused, Unreachable

TIMEOUT_S = 60.0
CHUNK = 1 << 20
OBJECT_MAX = 5 << 30
"""What S3 takes in one request."""
EMPTY = hashlib.sha256(b"").hexdigest()
ALGORITHM, SERVICE = "AWS4-HMAC-SHA256", "s3"
UNSAFE_REPLIES = 4096


@dataclass(frozen=True, slots=True, kw_only=True)
class Keys:
    access: str
    secret: Secret
    region: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    method: str
    host: str
    path: str
    query: Mapping[str, str]
    headers: Mapping[str, str]
    payload_hash: str


def signed(request: Request, keys: Keys, at: datetime) -> dict[str, str]:
    """The headers to send, with the one that proves who sends them."""
    moment = f"{at.astimezone(UTC):%Y%m%dT%H%M%SZ}"
    headers = {
        **{name.lower(): value for name, value in request.headers.items()},
        "host": request.host,
        "x-amz-content-sha256": request.payload_hash,
        "x-amz-date": moment,
    }
    names = ";".join(sorted(headers))
    canonical = "\n".join(
        (
            request.method,
            quote(request.path, safe="/-_.~"),
            query_of(request.query),
            *(f"{name}:{headers[name].strip()}" for name in sorted(headers)),
            "",
            names,
            request.payload_hash,
        )
    )
    scope = f"{moment[:8]}/{keys.region}/{SERVICE}/aws4_request"
    hashed = hashlib.sha256(canonical.encode()).hexdigest()
    to_sign = "\n".join((ALGORITHM, moment, scope, hashed))
    key = f"AWS4{keys.secret.reveal()}".encode()
    for part in scope.split("/"):
        key = hmac.new(key, part.encode(), hashlib.sha256).digest()
    signature = hmac.new(key, to_sign.encode(), hashlib.sha256).hexdigest()
    credential = f"Credential={keys.access}/{scope}"
    headers["authorization"] = (
        f"{ALGORITHM} {credential},SignedHeaders={names},Signature={signature}"
    )
    return headers


def query_of(query: Mapping[str, str]) -> str:
    pairs = (f"{quote(name, safe='-_.~')}={quote(query[name], safe='-_.~')}" for name in query)
    return "&".join(sorted(pairs))


class Bucket:
    """A folder of a bucket. Raises Unreachable, Refused and NotFound in words."""

    def __init__(self, url: str, endpoint: str, keys: Keys) -> None:
        """``url`` is s3://BUCKET/FOLDER; ``endpoint`` is the server's address."""
        self.url = url
        name, _, folder = url.removeprefix("s3://").partition("/")
        self._bucket = name
        self._folder = f"{folder}/" if folder else ""
        self._endpoint = urlsplit(endpoint)
        self._keys = keys

    def put(self, name: str, path: Path) -> None:
        with spoken(path):
            size, digest = sha256_of(path)
            if size > OBJECT_MAX:
                raise Refused(
                    f"{path.name} has {size >> 30} GB, and a bucket takes {OBJECT_MAX >> 30}",
                    cure="carry it away in another way",
                )
            with path.open("rb") as file:
                self._ask("PUT", name, payload_hash=digest, size=size, body=file)

    def get(self, name: str, path: Path) -> None:
        with (
            self._answered("GET", self._path(name)) as answer,
            spoken(path),
            path.open("xb") as file,
        ):
            while chunk := answer.read(CHUNK):
                file.write(chunk)

    def names(self, prefix: str = "") -> Sequence[str]:
        """Of all objects whose name begins so, without the folder."""
        found: list[str] = []
        token = ""
        while True:
            query = {"list-type": "2", "prefix": self._folder + prefix}
            query |= {"continuation-token": token} if token else {}
            with self._answered("GET", f"/{self._bucket}", query) as answer:
                page = _parsed(answer.read())
            found += [key.removeprefix(self._folder) for key in _texts(page, "Key")]
            token = next(iter(_texts(page, "NextContinuationToken")), "")
            if not token:
                return found

    def _path(self, name: str) -> str:
        return f"/{self._bucket}/{self._folder}{name}"

    def _ask(self, method: str, name: str, *, payload_hash: str, size: int, body: object) -> None:
        path = self._path(name)
        length = {"content-length": str(size)}
        with self._answered(method, path, {}, payload_hash, length, body) as answer:
            answer.read()

    @contextmanager
    def _answered(
        self,
        method: str,
        path: str,
        query: Mapping[str, str] | None = None,
        payload_hash: str = EMPTY,
        headers: Mapping[str, str] | None = None,
        body: object = None,
    ) -> Iterator[http.client.HTTPResponse]:
        request = Request(
            method=method,
            host=self._endpoint.netloc,
            path=path,
            query=query or {},
            headers=headers or {},
            payload_hash=payload_hash,
        )
        target = quote(path, safe="/-_.~") + (f"?{query_of(query)}" if query else "")
        try:
            with closing(self._connect()) as connection:
                sent = signed(request, self._keys, datetime.now(UTC))
                connection.request(method, target, body=body, headers=sent)  # type: ignore[arg-type]
                answer = connection.getresponse()
                if answer.status >= 300:
                    raise self._meaning(answer, path)
                yield answer
        except (OSError, http.client.HTTPException, ssl.SSLError) as error:
            raise Unreachable(
                f"the bucket {self.url} cannot be reached: {error}",
                cure="see BOTSWARM_BACKUP_S3_ENDPOINT, and the network",
            ) from error

    def _connect(self) -> http.client.HTTPConnection:
        if self._endpoint.scheme == "http":
            return http.client.HTTPConnection(self._endpoint.netloc, timeout=TIMEOUT_S)
        context = ssl.create_default_context()
        return http.client.HTTPSConnection(
            self._endpoint.netloc, timeout=TIMEOUT_S, context=context
        )

    def _meaning(self, answer: http.client.HTTPResponse, path: str) -> Exception:
        said = answer.read(UNSAFE_REPLIES)
        code = next(iter(_texts(_parsed(said), "Code")), "") if said.startswith(b"<") else ""
        words = f"{answer.status} {code or answer.reason}"
        if answer.status == 404:
            return NotFound(f"{path} is not in the bucket ({words})", cure="see what is there")
        if answer.status in (401, 403):
            return Refused(
                f"the bucket {self.url} does not let us in ({words})",
                cure="see the keys, the region and their rights: put, get and list",
            )
        return Unreachable(f"the bucket {self.url} answers {words}", cure="try again later")


def bucket_of(settings: Settings) -> Bucket | None:
    """None where none is named."""
    return None if settings.backup_s3_url is None else bucket_at(settings.backup_s3_url, settings)


def bucket_at(url: str, settings: Settings) -> Bucket:
    """Another one at the same server, with the same keys."""
    access, secret = settings.backup_s3_access_key, settings.backup_s3_secret_key
    assert access is not None, "the settings were checked"
    assert secret is not None, "the settings were checked"
    keys = Keys(access=access.reveal(), secret=secret, region=settings.backup_s3_region)
    return Bucket(url, settings.backup_s3_endpoint, keys)


def _parsed(content: bytes) -> ElementTree.Element:
    # It comes from the server whose keys we hold; entities are not expanded without a DTD.
    try:
        return ElementTree.fromstring(content)  # noqa: S314 - as above
    except ElementTree.ParseError as error:
        raise Unreachable("the bucket answers no XML", cure="see the endpoint") from error


def _texts(page: ElementTree.Element, name: str) -> Sequence[str]:
    return [each.text or "" for each in page.iter() if each.tag.rpartition("}")[2] == name]
