"""One JSON request to an address and back: without redirects, without trust, and never without end.

A connection is kept for the next request. No proxy of the environment is used unless asked, a token is
sent over https or to this machine only, and the whole of an answer has a time limit and a size limit.
"""

import base64
import functools
import http.client
import io
import os
import socket
import ssl
import time
import urllib.parse
import urllib.request
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from assaymark.reports.errors import InputError

LARGEST_ANSWER = 1 << 26
_KEPT_FOR = 2.0  # seconds: servers close connections that say nothing after five or more
_LOCAL = ("localhost", "127.0.0.1", "::1")
_PORTS = {"http": 80, "https": 443}


@dataclass(frozen=True, kw_only=True)
class Address:
    """Where requests go. shown: without what stands after a question mark, which may be a secret."""

    shown: str
    scheme: str
    host: str
    port: int
    path: str
    query: str = field(repr=False)
    headers: Mapping[str, str] = field(repr=False)
    token: str = field(repr=False)

    def target(self, path: str) -> str:
        return f"{self.path}{path}" + (f"?{self.query}" if self.query else "")


@dataclass(frozen=True, slots=True)
class Answer:
    """What a server sent back; retry_after and location as it wrote them, or ""."""

    status: int
    body: bytes
    retry_after: str = ""
    location: str = ""


class Unreachable(Exception):
    """No whole answer came. asked: the request may have been read, and billed. again: worth another
    try. stale: a kept connection was closed meanwhile, which says nothing about the server."""

    def __init__(
        self, sentence: str, *, asked: bool, again: bool = True, stale: bool = False
    ) -> None:
        self.asked, self.again, self.stale = asked, again, stale
        super().__init__(sentence)


def address(url: str, token_env: str | None = None) -> Address:
    """The parts of http(s)://HOST:PORT/PATH, with the token of the environment variable `token_env`.

    Raises InputError for an address that cannot be used, for a token that is not there, and for one
    that would be sent in the clear to another machine.
    """
    try:
        parts = urllib.parse.urlsplit(url)
        host, port = parts.hostname, parts.port
    except ValueError as error:
        raise InputError(f"{_shown(url)} is no address: {error}") from error
    strange = not url.isascii() or any(c.isspace() or not c.isprintable() for c in url)
    if parts.scheme not in _PORTS or not host or parts.username is not None or strange:
        raise InputError(
            f"{parts.scheme or '…'}://{host or ''}… is no usable address: expected http://HOST:PORT/v1 "
            "or https://HOST/v1 without user or password; a token goes into an environment variable "
            "that token_env names"
        )
    headers = {"Content-Type": "application/json", "Accept": "application/json"}
    token = _token(token_env, parts.scheme, host) if token_env is not None else ""
    if token:
        headers["Authorization"] = f"Bearer {token}"
    return Address(
        shown=_shown(url),
        scheme=parts.scheme,
        host=host,
        port=port if port is not None else _PORTS[parts.scheme],
        path=parts.path.rstrip("/"),
        query=parts.query,
        headers=headers,
        token=token,
    )


def _shown(url: str) -> str:
    return url.partition("?")[0].partition("#")[0]


def _token(variable: str, scheme: str, host: str) -> str:
    token = os.environ.get(variable)
    if not token:
        raise InputError(
            f"the environment variable {variable} (token_env) is not set: put the token of {host} there"
        )
    if not token.isprintable() or not token.isascii():
        raise InputError(
            f"the environment variable {variable} (token_env) holds a line break or another character "
            "that no token has: expected a token alone"
        )
    if scheme != "https" and host not in _LOCAL:
        raise InputError(
            f"a token is not sent to {host} in the clear: write its address with https://"
        )
    return token


class _Hurried(io.RawIOBase):
    """The bytes of a socket until a moment: the limit of a socket itself is one of each piece."""

    def __init__(self, raw: io.RawIOBase, line: socket.socket, until: float) -> None:
        self._raw, self._line, self._until = raw, line, until

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int | None:
        left = self._until - time.monotonic()
        if left <= 0:
            raise TimeoutError
        self._line.settimeout(left)
        return self._raw.readinto(buffer)

    def close(self) -> None:
        self._raw.close()
        super().close()


class _Response(http.client.HTTPResponse):
    def __init__(self, line: socket.socket, *arguments: Any, until: float, **named: Any) -> None:
        super().__init__(line, *arguments, **named)
        self.fp = io.BufferedReader(_Hurried(self.fp.detach(), line, until))


class Line:
    """A connection to an address, opened when needed and kept between requests; of one thread at a time."""

    def __init__(self, place: Address, *, proxy: bool = False) -> None:
        self._place = place
        self._proxy = _proxy(place) if proxy else None
        self._connection: http.client.HTTPConnection | None = None
        self._used = 0.0

    def post(self, path: str, body: bytes, limit: float) -> Answer:
        """The server's answer to a POST, whatever its status. Raises Unreachable."""
        until = time.monotonic() + limit
        if self._connection is not None and time.monotonic() - self._used > _KEPT_FOR:
            self.close()
        kept, asked = self._connection is not None, False
        try:
            connection = self._connection = self._connection or self._opened(limit)
            connection.sock.settimeout(limit)
            connection.response_class = functools.partial(_Response, until=until)  # type: ignore[assignment]
            asked = True
            connection.request("POST", self._target(path), body, self._headers())
            with connection.getresponse() as response:
                answer = Answer(
                    response.status,
                    self._body(response),
                    response.headers.get("Retry-After") or "",
                    response.headers.get("Location") or "",
                )
        except (OSError, http.client.HTTPException) as error:
            self.close()
            stale = kept and isinstance(error, (ConnectionError, http.client.RemoteDisconnected))
            raise Unreachable(
                f"{self._place.shown} {_why(error, limit)}",
                asked=asked and not stale,
                again=not isinstance(error, ssl.SSLCertVerificationError),
                stale=stale,
            ) from error
        except BaseException:
            self.close()
            raise
        self._used = time.monotonic()
        if connection.sock is None:  # the server wants no more requests over this connection
            self.close()
        return answer

    def close(self) -> None:
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    def _body(self, response: http.client.HTTPResponse) -> bytes:
        parts, size = [], 0
        while part := response.read1(1 << 16):
            size += len(part)
            parts.append(part)
            if size > LARGEST_ANSWER:
                raise Unreachable(
                    f"{self._place.shown} answers more than {LARGEST_ANSWER >> 20} MiB, which is not read",
                    asked=True,
                    again=False,
                )
        if response.length:
            raise http.client.IncompleteRead(b"".join(parts), response.length)
        body, token = b"".join(parts), self._place.token.encode()
        return (
            body.replace(token, b"[token]") if token else body
        )  # some servers repeat it in errors

    def _opened(self, limit: float) -> http.client.HTTPConnection:
        place, proxy = self._place, self._proxy
        host, port = (place.host, place.port) if proxy is None else (proxy.host, proxy.port)
        kind = (
            http.client.HTTPSConnection if place.scheme == "https" else http.client.HTTPConnection
        )
        connection = kind(host, port, timeout=limit)
        if proxy is not None and place.scheme == "https":
            connection.set_tunnel(place.host, place.port, dict(proxy.headers))
        try:
            connection.connect()
        except BaseException:
            connection.close()
            raise
        return connection

    def _target(self, path: str) -> str:
        place, target = self._place, self._place.target(path)
        if self._proxy is None or place.scheme == "https":
            return target
        host = f"[{place.host}]" if ":" in place.host else place.host
        return f"http://{host}:{place.port}{target}"

    def _headers(self) -> dict[str, str]:
        plain = self._proxy is not None and self._place.scheme == "http"
        extra = self._proxy.headers if self._proxy is not None and plain else {}
        return {**self._place.headers, **extra}


@dataclass(frozen=True)
class _Proxy:
    host: str
    port: int
    headers: Mapping[str, str] = field(repr=False)


def _proxy(place: Address) -> _Proxy | None:
    """The proxy that the environment names for an address, if any."""
    named = urllib.request.getproxies().get(place.scheme)
    if not named or urllib.request.proxy_bypass(f"{place.host}:{place.port}"):
        return None
    try:
        parts = urllib.parse.urlsplit(named if "://" in named else f"http://{named}")
        host, port = parts.hostname, parts.port
    except ValueError:
        host, port = None, None
    if not host or parts.scheme != "http":
        raise InputError(
            f"the proxy that the environment names for {place.scheme} is not of the form http://HOST:PORT: "
            "name such a one, or leave proxy off"
        )
    headers = {}
    if parts.username is not None:
        secret = urllib.parse.unquote(f"{parts.username}:{parts.password or ''}")
        headers["Proxy-Authorization"] = f"Basic {base64.b64encode(secret.encode()).decode()}"
    return _Proxy(host, port or 80, headers)


def _why(error: Exception, limit: float) -> str:
    if isinstance(error, TimeoutError):
        return f"gave no whole answer within {limit:g} s (time_limit)"
    if isinstance(error, http.client.IncompleteRead):
        return "broke off in the middle of its answer"
    if isinstance(error, http.client.RemoteDisconnected):
        return "closed the connection without an answer"
    return f"cannot be reached: {excerpt(str(error).encode()) or type(error).__name__}"


def excerpt(body: bytes, length: int = 160) -> str:
    """The beginning of an answer, fit to be shown in a sentence."""
    text = " ".join(body[: 4 * length].decode("utf-8", "replace").split())
    shown = "".join(c if c.isprintable() else "?" for c in text)
    return f"{shown[:length]}…" if len(shown) > length else shown
