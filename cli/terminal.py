"""What goes to a terminal: results on stdout, the rest on stderr, and nothing hostile on either."""

import os
import sys
import time
from typing import TextIO


def printable(text: str) -> str:
    """Text on one line without control characters: a file name must not be able to forge output.

    >>> printable("a\\x1b[2Jb\\nc")
    'a\\\\x1b[2Jb\\\\nc'
    """
    return "".join(
        char if char.isprintable() else char.encode("unicode_escape", "surrogatepass").decode()
        for char in text
    )


def say(text: str = "") -> None:
    """A line of the result, on stdout."""
    write(sys.stdout, printable(text) + "\n")


def tell(text: str) -> None:
    """A line for the person who waits, on stderr."""
    write(sys.stderr, printable(text) + "\n")


def coloured(stream: TextIO) -> bool:
    """Whether escape codes are welcome: a terminal, and none of NO_COLOR, CI and TERM=dumb."""
    if os.environ.get("NO_COLOR") or os.environ.get("TERM") == "dumb":
        return False
    if os.environ.get("FORCE_COLOR"):
        return True
    return stream.isatty() and not os.environ.get("CI")


def write(stream: TextIO, text: str) -> None:
    """Write and flush; a reader who has gone away does not change the verdict."""
    try:
        try:
            stream.write(text)
        except UnicodeEncodeError:  # a C locale: keep the numbers, lose the signs
            stream.write(text.encode("ascii", "backslashreplace").decode())
        stream.flush()
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())


class Progress:
    """One line a check: redrawn on a terminal, printed once at its end elsewhere."""

    def __init__(self, total: int) -> None:
        self.total = total
        self.number = 0
        self.live = sys.stderr.isatty() and not os.environ.get("CI")
        self.name = ""
        self.started = self.drawn = 0.0

    def start(self, name: str) -> None:
        self.number += 1
        self.name = name
        self.started = time.monotonic()
        if self.live:
            self._draw("")

    def __call__(self, done: int, total: int) -> None:
        now = time.monotonic()
        if self.live and now - self.drawn > 0.1:
            self.drawn = now
            self._draw(f"{done}/{total}")

    def finish(self, outcome: str) -> None:
        seconds = time.monotonic() - self.started
        if self.live:
            write(sys.stderr, "\r\x1b[K")
        tell(f"[{self.number}/{self.total}] {self.name}  {outcome}  {seconds:.1f} s")

    def _draw(self, text: str) -> None:
        line = printable(f"[{self.number}/{self.total}] {self.name}  {text}")
        write(sys.stderr, f"\r\x1b[K{line[:100]}")
