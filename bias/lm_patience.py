"""Asking a server that is busy, failing or away: again, later, not too often, and not without end.

Retries with exponential backoff and full jitter (https://aws.amazon.com/blogs/architecture/
exponential-backoff-and-jitter/); Retry-After of RFC 9110 section 10.2.3; and a circuit breaker.
"""

import email.utils
import json
import random
import threading
import time
from collections import deque
from collections.abc import Callable, Generator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, TypeVar

from assaymark.bias.lm_budget import Amount, Budget, Pace, Stopped
from assaymark.bias.lm_http import Address, Answer, Line, Unreachable, excerpt
from assaymark.bias.lm_model import Failed

A = TypeVar("A")
_AGAIN = (408, 409, 425, 429)
_REDIRECTS = (301, 302, 303, 307, 308)
_TOO_LONG = ("context_length", "context length", "maximum context", "max_model_len", "too long")
_FILTERED = ("content_filter", "content management policy")
_ADVICE = {
    401: "; name the environment variable with its token (token_env)",
    403: "; see what the token of token_env may do",
    404: "; see the address, which usually ends in /v1, and the model's name",
    413: "; ask fewer texts at once (batch)",
    429: "; ask more slowly (requests_per_minute, tokens_per_minute, concurrency)",
}


class Refused(Exception):
    """No usable answer. status: of HTTP, None without one. said: what the server wrote, shortened.

    own: the request itself is at fault (its length or content), which says nothing about the next one.
    """

    def __init__(
        self, failed: Failed, *, status: int | None = None, said: str = "", own: bool = False
    ) -> None:
        self.failed, self.status, self.said, self.own = failed, status, said, own
        super().__init__(failed.reason)

    @property
    def filtered(self) -> bool:
        """Did the server refuse a text for its content?"""
        return self.status == 400 and any(word in self.said.lower() for word in _FILTERED)


class Unreadable(Exception):
    """An answer that is not what it should be, in words."""


@dataclass(frozen=True, kw_only=True)
class Manners:
    """How a server is asked. pause: the first one lasts up to so many seconds, each later one up to
    twice as long, none longer than longest_pause, whatever Retry-After says. give_up_after: so many
    requests in a row that failed for good, and no more are sent."""

    time_limit: float
    retries: int
    pause: float
    longest_pause: float
    give_up_after: int
    seed: int
    proxy: bool
    requests_per_minute: float | None
    tokens_per_minute: float | None


class Client:
    """Asks one server, from several threads; holds what they share: budget, pace, connections."""

    def __init__(self, place: Address, manners: Manners, budget: Budget) -> None:
        self.place, self.manners, self.budget = place, manners, budget
        self._lines: deque[Line] = deque()
        self._random = random.Random(manners.seed)
        self._lock = threading.Lock()
        self._requests = Pace(manners.requests_per_minute)
        self._tokens = Pace(manners.tokens_per_minute)
        self._hold = 0.0  # until then the server wants to be left alone
        self._failures = 0
        self._last = ""

    def ask(
        self,
        path: str,
        body: Mapping[str, Any],
        most: Amount,
        read: Callable[[Mapping[str, Any]], A],
        stop: threading.Event,
        *,
        retries: int | None = None,
    ) -> A:
        """What `read` makes of the server's answer to a JSON body.

        most: the most that the request can cost. read: raises Unreadable for an answer that is none.
        retries: fewer than usual. Raises Refused when there is no usable answer, and Stopped.
        """
        if self.given_up:
            raise Refused(self._gone())
        try:
            written = json.dumps(body).encode()
            answer = read(self._patiently(path, written, most, stop, retries))
        except Unreadable as error:
            refused = Refused(
                Failed("unparsable", f"{self.place.shown} answered what cannot be used: {error}")
            )
            self._count(refused)
            raise refused from error
        except Refused as refused:
            self._count(refused)
            raise
        with self._lock:
            self._failures = 0
        return answer

    @property
    def given_up(self) -> bool:
        return self._failures >= self.manners.give_up_after

    def begin(self) -> None:
        """A new run: a server that was given up gets one chance."""
        with self._lock:
            self._failures = min(self._failures, self.manners.give_up_after - 1)

    def close(self) -> None:
        """Connections that nobody uses are closed."""
        while self._lines:
            self._lines.pop().close()

    def _gone(self) -> Failed:
        times = self.manners.give_up_after
        return Failed(
            "error", f"not asked: {times} requests in a row had failed; the last: {self._last}"
        )

    def _count(self, refused: Refused) -> None:
        if refused.own or refused.failed.kind == "ceiling":
            return
        with self._lock:
            self._failures += 1
            self._last = refused.failed.reason

    def _patiently(
        self, path: str, body: bytes, most: Amount, stop: threading.Event, retries: int | None
    ) -> Mapping[str, Any]:
        attempt, stale = 0, False
        retries = self.manners.retries if retries is None else min(retries, self.manners.retries)
        while True:
            try:
                answer = self._once(path, body, most, stop)
            except Unreachable as error:
                refused = Refused(Failed("error", str(error)))
                again, wanted = error.again, None
                if error.stale and not stale:
                    stale = True  # the next one goes over a new connection, at once
                    continue
            else:
                if isinstance(answer, dict):
                    return answer
                refused = _refused(answer, self.place.shown)
                again = answer.status in _AGAIN or answer.status >= 500
                wanted = seconds(answer.retry_after, time.time())
            if not again:
                raise refused
            if attempt == retries or self.given_up:
                reason = f"{refused.failed.reason}; asked {attempt + 1} times"
                raise Refused(
                    Failed("error", reason), status=refused.status, said=refused.said
                ) from refused
            self._pause(attempt, wanted, stop)
            attempt += 1

    def _once(
        self, path: str, body: bytes, most: Amount, stop: threading.Event
    ) -> dict[str, Any] | Answer:
        """The content of a good answer, or an answer with another status."""
        number = self.budget.put_aside(most, stop)
        if number is None:
            raise Refused(Failed("ceiling", f"not asked: {self.budget.reached} is reached"))
        used: Amount | None = Amount()  # what was not sent costs nothing
        try:
            self._in_turn(most, stop)
            used = Amount(1)  # nor does what the server refuses
            with self._line(stop) as line:
                answer = line.post(path, body, self.manners.time_limit)
            if answer.status != 200:
                return answer
            used = None
            content = _json(answer.body)
            used = _usage(content)
            return content
        except Unreachable as error:
            used = None if error.asked else Amount(1)
            raise
        finally:
            self.budget.settle(number, used)
            if used is not None:
                with self._lock:
                    self._tokens.correct(used.tokens - _likely(most))

    def _in_turn(self, most: Amount, stop: threading.Event) -> None:
        now = time.monotonic()
        with self._lock:
            waits = (
                self._requests.delay(most.requests, now),
                self._tokens.delay(_likely(most), now),
                self._hold - now,
            )
        _sleep(max(waits), stop)

    def _pause(self, attempt: int, wanted: float | None, stop: threading.Event) -> None:
        longest = self.manners.longest_pause
        with self._lock:
            drawn = self._random.uniform(0.0, min(self.manners.pause * 2**attempt, longest))
            if wanted is not None:  # then all threads wait
                self._hold = max(self._hold, time.monotonic() + min(wanted, longest))
        _sleep(drawn, stop)

    @contextmanager
    def _line(self, stop: threading.Event) -> Generator[Line, None, None]:
        try:
            line = self._lines.pop()
        except IndexError:
            line = Line(self.place, proxy=self.manners.proxy)
        try:
            yield line
        finally:
            if stop.is_set():
                line.close()
            else:
                self._lines.append(line)


def _likely(most: Amount) -> int:
    """Tokens, as servers guess them for their own limits: the most that a text can have are its bytes."""
    return most.read // 4 + most.written


def seconds(retry_after: str, now: float) -> float | None:
    """What Retry-After asks for, as seconds or as a date; None when it is neither.

    >>> seconds("2", 0.0), seconds("Thu, 01 Jan 1970 00:01:00 GMT", 58.0), seconds("soon", 0.0)
    (2.0, 2.0, None)
    """
    text = retry_after.strip()
    if text.isascii() and text.replace(".", "", 1).isdecimal():
        return float(text)
    try:
        return max(email.utils.parsedate_to_datetime(text).timestamp() - now, 0.0)
    except (ValueError, OverflowError):
        return None


def _sleep(wanted: float, stop: threading.Event) -> None:
    if stop.wait(wanted) if wanted > 0 else stop.is_set():
        raise Stopped


def _json(body: bytes) -> dict[str, Any]:
    try:
        content = json.loads(body)
    except (ValueError, RecursionError) as error:
        raise Unreadable(f"no JSON, but {excerpt(body) or 'nothing'}") from error
    if not isinstance(content, dict):
        raise Unreadable(f"JSON that is no object: {excerpt(body)}")
    if content.get("error") and "choices" not in content:
        raise Unreadable(f"an error under status 200: {excerpt(body)}")
    return content


def _usage(content: Mapping[str, Any]) -> Amount | None:
    """The tokens that the server counted; None when it does not tell, or nothing that can be true."""
    usage = content.get("usage")
    if not isinstance(usage, dict):
        return None
    read, written = usage.get("prompt_tokens"), usage.get("completion_tokens", 0)
    if type(read) is not int or type(written) is not int or read < 0 or written < 0:
        return None
    return Amount(1, read, written)


def _refused(answer: Answer, shown: str) -> Refused:
    status, said = answer.status, excerpt(answer.body, 400)
    if status in _REDIRECTS:
        place = excerpt(answer.location.partition("?")[0].encode()) or "another address"
        return Refused(
            Failed(
                "error",
                f"{shown} sends to {place} (status {status}), which is not followed: name that address "
                "if it is the right one",
            ),
            status=status,
        )
    lower = said.lower()
    own = status in (400, 413, 422) and any(word in lower for word in (*_TOO_LONG, *_FILTERED))
    too_long = own and any(word in lower for word in _TOO_LONG)
    tells = f": {excerpt(answer.body)}" if said else ""
    sentence = f"{shown} answered status {status}{tells}{_ADVICE.get(status, '')}"
    return Refused(
        Failed("too-long" if too_long else "error", sentence), status=status, said=said, own=own
    )
