"""What requests may cost, and how fast they may follow each other.

A ceiling is kept exactly: before a request is sent, the most that it can cost is put aside, and when that
would pass a ceiling, nothing is sent any more. What it did cost is settled when the answer tells it.
"""

import threading
from dataclasses import dataclass


class Stopped(Exception):
    """Nobody waits for the answer any more."""


@dataclass(frozen=True, slots=True)
class Amount:
    """Requests, and the tokens read and written for them."""

    requests: int = 0
    read: int = 0
    written: int = 0

    @property
    def tokens(self) -> int:
        return self.read + self.written

    def __add__(self, other: "Amount") -> "Amount":
        return Amount(
            self.requests + other.requests, self.read + other.read, self.written + other.written
        )


@dataclass(frozen=True, kw_only=True)
class Ceiling:
    """The most that may be spent; None where there is no limit. Prices are of a million tokens."""

    requests: int | None = None
    tokens: int | None = None
    cost: float | None = None
    price_read: float = 0.0
    price_written: float = 0.0

    def price(self, amount: Amount) -> float:
        return (amount.read * self.price_read + amount.written * self.price_written) / 1e6

    def passed_by(self, amount: Amount) -> str | None:
        """Which limit this amount is above, in words."""
        if self.requests is not None and amount.requests > self.requests:
            return f"the ceiling of {self.requests} requests (max_requests)"
        if self.tokens is not None and amount.tokens > self.tokens:
            return f"the ceiling of {self.tokens} tokens (max_tokens_total)"
        if self.cost is not None and self.price(amount) > self.cost:
            return f"the cost ceiling of {self.cost:g} (max_cost)"
        return None


class Budget:
    """What has been spent and what is put aside, of several threads."""

    def __init__(self, ceiling: Ceiling) -> None:
        self.ceiling = ceiling
        self.spent = Amount()
        self.reached: str | None = None
        self._aside: dict[int, Amount] = {}
        self._next = 0
        self._changed = threading.Condition()

    def put_aside(self, most: Amount, stop: threading.Event) -> int | None:
        """A number to settle this amount by; None when it would pass a ceiling, now and from now on.

        While requests under way may still turn out cheaper than feared, their end is awaited.
        """
        with self._changed:
            while self.reached is None:
                if stop.is_set():
                    raise Stopped
                passed = self.ceiling.passed_by(sum(self._aside.values(), self.spent + most))
                if passed is None:
                    self._next += 1
                    self._aside[self._next] = most
                    return self._next
                if not self._aside:
                    self.reached = passed
                    self._changed.notify_all()
                else:
                    self._changed.wait(0.2)
            return None

    def settle(self, number: int, used: Amount | None) -> None:
        """What was put aside has cost this; None when nobody says: then all of it counts as spent."""
        with self._changed:
            most = self._aside.pop(number)
            self.spent += most if used is None else used
            self._changed.notify_all()


class Pace:
    """So much a minute, evenly: a token bucket that holds one request, however large it is.

    Each one waits until those before it are paid for; servers that count by the second are kept to too.
    """

    def __init__(self, per_minute: float | None) -> None:
        self._each = 60.0 / per_minute if per_minute else 0.0
        self._free = float("-inf")

    def delay(self, amount: float, now: float) -> float:
        """Seconds to wait before this amount may be used; it is booked."""
        begin = max(self._free, now)
        self._free = begin + amount * self._each
        return begin - now

    def correct(self, amount: float) -> None:
        """So much more (or less) was used than booked."""
        self._free += amount * self._each
