"""A server that takes objects as Amazon S3 does, and looks at their signature and their hash."""

from __future__ import annotations

import hashlib
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs, unquote, urlsplit

from botswarm.testing.servers import free_port


class Store(ThreadingHTTPServer):
    """Keeps objects by path, two to a page of the list."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", free_port()), Handler)
        self.objects: dict[str, bytes] = {}
        self.refuses = False
        self.refusals = 0


class Handler(BaseHTTPRequestHandler):
    server: Store

    def do_PUT(self) -> None:
        body = self.rfile.read(int(self.headers["content-length"]))
        if hashlib.sha256(body).hexdigest() != self.headers["x-amz-content-sha256"]:
            self._answer(400, b"<Error><Code>XAmzContentSHA256Mismatch</Code></Error>")
        elif self._is_let_in():
            self.server.objects[unquote(self.path)] = body
            self._answer(200, b"")

    def do_GET(self) -> None:
        if not self._is_let_in():
            return
        parts = urlsplit(self.path)
        query = {name: values[0] for name, values in parse_qs(parts.query).items()}
        if "list-type" in query:
            self._list(parts.path, query)
        elif (content := self.server.objects.get(unquote(parts.path))) is None:
            self._answer(404, b"<Error><Code>NoSuchKey</Code></Error>")
        else:
            self._answer(200, content)

    def _list(self, bucket: str, query: dict[str, str]) -> None:
        names = sorted(
            key.removeprefix(f"{bucket}/")
            for key in self.server.objects
            if key.startswith(f"{bucket}/{query['prefix']}")
        )
        start = int(query.get("continuation-token", "0"))
        keys = "".join(f"<Contents><Key>{key}</Key></Contents>" for key in names[start : start + 2])
        more = ""
        if start + 2 < len(names):
            more = f"<NextContinuationToken>{start + 2}</NextContinuationToken>"
        self._answer(
            200, f'<ListBucketResult xmlns="urn:x">{keys}{more}</ListBucketResult>'.encode()
        )

    def _is_let_in(self) -> bool:
        said = self.headers.get("authorization", "")
        if self.server.refuses or not said.startswith("AWS4-HMAC-SHA256 Credential=them/"):
            self.server.refusals += 1
            self._answer(403, b"<Error><Code>SignatureDoesNotMatch</Code></Error>")
            return False
        return True

    def _answer(self, status: int, body: bytes) -> None:
        self.send_response(status)
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:
        pass
