"""A small HTTP server for authorities that answer one kind of request: DER in, DER out.

Meant for tests, one command on one machine, and networks without a way out: every request has a
size limit and a time limit, and at most a few are answered at once.
"""

import base64
import binascii
import http.server
import socket
import threading
import urllib.parse
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Any

from assaymark.reports.errors import InputError

MAX_REQUEST = 64 * 1024  # bytes
_SECONDS = 10.0  # for a request and its reply
_AT_ONCE = 16

Answer = Callable[[bytes], bytes]
Log = Callable[[str], None]


@dataclass(frozen=True, kw_only=True)
class Service:
    """A protocol over HTTP. get: requests may also come base64-coded in the path (RFC 6960, A.1)."""

    answer: Answer
    request_type: str
    reply_type: str
    get: bool = False


@contextmanager
def serving(
    service: Service, host: str = "127.0.0.1", port: int = 0, *, log: Log = lambda line: None
) -> Iterator[str]:
    """Serve in a thread while the block runs, and give its URL. Raises InputError for a busy port."""
    server = _server(service, host, port, log)
    thread = threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True)
    thread.start()
    try:
        yield _url(server)
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def serve_forever(
    service: Service,
    host: str = "127.0.0.1",
    port: int = 0,
    *,
    ready: Callable[[str], None] = lambda url: None,
    log: Log = lambda line: None,
) -> None:
    """Serve until interrupted (KeyboardInterrupt passes through); `ready` is told the URL."""
    server = _server(service, host, port, log)
    try:
        ready(_url(server))
        server.serve_forever(0.2)
    finally:
        server.server_close()


class _Server(http.server.ThreadingHTTPServer):
    daemon_threads = True
    block_on_close = False

    def __init__(self, address: tuple[str, int], service: Service, log: Log) -> None:
        self.service, self.log = service, log
        self.places = threading.BoundedSemaphore(_AT_ONCE)
        super().__init__(address, _Handler)

    def process_request(self, request: Any, client_address: Any) -> None:
        if not self.places.acquire(blocking=False):
            self.log(f"{client_address[0]}: refused, {_AT_ONCE} requests are being answered")
            self.shutdown_request(request)
            return
        super().process_request(request, client_address)

    def process_request_thread(self, request: Any, client_address: Any) -> None:
        # a client that sends a byte now and then never meets the socket's own time limit
        limit = threading.Timer(_SECONDS, _hang_up, (request,))
        limit.daemon = True
        limit.start()
        try:
            super().process_request_thread(request, client_address)
        finally:
            limit.cancel()
            self.places.release()

    def handle_error(self, request: Any, client_address: Any) -> None:
        self.log(f"{client_address[0]}: the connection broke")


class _Handler(http.server.BaseHTTPRequestHandler):
    timeout = _SECONDS
    server: _Server

    def do_POST(self) -> None:
        kind = self.headers.get_content_type()
        length = self.headers.get("Content-Length", "")
        if kind != self.server.service.request_type:
            return self._refuse(415, f"expected {self.server.service.request_type}")
        if not (length.isascii() and length.isdigit()):
            return self._refuse(411, "expected a Content-Length")
        if len(length) > 9 or int(length) > MAX_REQUEST:
            return self._refuse(413, f"expected at most {MAX_REQUEST} bytes")
        body = self.rfile.read(int(length))
        if len(body) < int(length):
            return self._refuse(400, "the request ended early")
        self._reply(body)

    def do_GET(self) -> None:
        if not self.server.service.get:
            return self._refuse(405, "expected POST")
        # c2pa-rs and RFC 5019 leave "/" in the base64 as it is, so the whole path is the request
        try:
            coded = urllib.parse.unquote(self.path).removeprefix("/")  # it may end in one
            body = base64.b64decode(coded, validate=True)
        except (ValueError, binascii.Error):
            return self._refuse(400, "the path is not base64")
        self._reply(body)

    def _reply(self, body: bytes) -> None:
        try:
            reply = self.server.service.answer(body)
        except Exception as error:  # one broken request must not end the service
            self.server.log(f"{self.client_address[0]}: {type(error).__name__}")
            return self._refuse(500, "cannot answer")
        self._send(200, self.server.service.reply_type, reply)
        self.server.log(f"{self.client_address[0]}: {len(body)} bytes asked, {len(reply)} answered")

    def _refuse(self, status: int, why: str) -> None:
        self._send(status, "text/plain; charset=utf-8", f"{why}\n".encode())
        self.server.log(f"{self.client_address[0]}: {status}, {why}")

    def _send(self, status: int, kind: str, body: bytes) -> None:
        self.close_connection = True
        with suppress(OSError):  # nobody is there any more
            self.send_response(status)
            self.send_header("Content-Type", kind)
            self.send_header("Content-Length", str(len(body)))
            self.send_header("Connection", "close")
            self.end_headers()
            self.wfile.write(body)

    def version_string(self) -> str:
        return "assaymark"

    def log_message(self, *arguments: object) -> None:
        """The lines of this service go to its log alone."""


def _hang_up(request: socket.socket) -> None:
    with suppress(OSError):
        request.shutdown(socket.SHUT_RDWR)


def _server(service: Service, host: str, port: int, log: Log) -> _Server:
    try:
        return _Server((host, port), service, log)
    except (OSError, OverflowError) as error:
        raise InputError(
            f"cannot serve at {host}:{port}: {error}; name another port, or 0 for any free one"
        ) from error


def _url(server: _Server) -> str:
    host, port = str(server.server_address[0]), server.server_address[1]
    return f"http://{f'[{host}]' if ':' in host else host}:{port}/"
