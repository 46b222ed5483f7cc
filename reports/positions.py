"""Where each key and value of a TOML document stands: tomllib reads values but not places.

The text has already been accepted by tomllib, so the scanner only has to follow it, not judge it.
"""

import re
import tomllib
from bisect import bisect_right
from collections.abc import Iterator

Path = tuple[str | int, ...]
Span = tuple[int, int, int]
"""Line and column from 1, and length in characters."""

_KEY = re.compile(r'"(?:\\.|[^"\\])*"|\'[^\']*\'|[A-Za-z0-9_-]+')
_STRING = re.compile(
    r'"""(?:\\.|[^\\])*?"{3,5}|\'\'\'.*?\'{3,5}|"(?:\\.|[^"\\\n])*"|\'[^\'\n]*\'', re.DOTALL
)
_BARE = re.compile(r"[^\s,\]}#]+(?: \d\d:[^\s,\]}#]+)?")
_SPACE = re.compile(r"[ \t]*")
_GAP = re.compile(r"(?:[ \t\r\n]+|#[^\n]*)*")


def positions(text: str) -> dict[Path, tuple[Span, Span]]:
    """Spans of the key and of the value for every key path; array items have the same span twice.

    >>> positions('[[check]]\\nid = "a"')[("check", 0, "id")]
    ((2, 1, 2), (2, 6, 3))
    """
    return dict(_Scanner(text).document())


def _unquoted(word: str) -> str:
    if word[0] == '"':
        return str(next(iter(tomllib.loads(f"{word} = 0"))))
    return word[1:-1] if word[0] == "'" else word


class _Scanner:
    def __init__(self, text: str) -> None:
        self.text = text
        self.at = 0
        self.starts = [0, *(match.end() for match in re.finditer("\n", text))]

    def document(self) -> Iterator[tuple[Path, tuple[Span, Span]]]:
        table: Path = ()
        counts: dict[Path, int] = {}
        while self._skip(_GAP) < len(self.text):
            if self.text[self.at] == "[":
                start, double = self.at, self.text.startswith("[[", self.at)
                self.at += 2 if double else 1
                parts, _ = self._key()
                self.at = self.text.index("]", self.at) + (2 if double else 1)
                table = ()
                for i, part in enumerate(parts):
                    table += (part,)
                    if double and i == len(parts) - 1:
                        counts[table] = counts.get(table, -1) + 1
                    if table in counts:
                        table += (counts[table],)
                span = self._span(start, self.at)
                yield table, (span, span)
            else:
                yield from self._pair(table)

    def _pair(self, table: Path) -> Iterator[tuple[Path, tuple[Span, Span]]]:
        parts, key = self._key()
        self.at = self.text.index("=", self.at) + 1
        self._skip(_SPACE)
        start, path = self.at, (*table, *parts)
        inner = list(self._value(path))
        yield path, (key, self._span(start, self.at))
        yield from inner

    def _value(self, path: Path) -> Iterator[tuple[Path, tuple[Span, Span]]]:
        if string := _STRING.match(self.text, self.at):
            self.at = string.end()
        elif self.text[self.at] == "[":
            self.at += 1
            index = 0
            while self.text[self._skip(_GAP)] != "]":
                start, item = self.at, (*path, index)
                inner = list(self._value(item))
                span = self._span(start, self.at)
                yield item, (span, span)
                yield from inner
                index += 1
                self._skip(_GAP)
                self.at += self.text[self.at] == ","
            self.at += 1
        elif self.text[self.at] == "{":
            self.at += 1
            while self.text[self._skip(_GAP)] != "}":
                yield from self._pair(path)
                self._skip(_GAP)
                self.at += self.text[self.at] == ","
            self.at += 1
        elif bare := _BARE.match(self.text, self.at):
            self.at = bare.end()

    def _key(self) -> tuple[list[str], Span]:
        self._skip(_SPACE)
        start, parts = self.at, []
        while match := _KEY.match(self.text, self.at):
            word = match.group()
            parts.append(_unquoted(word))
            end = self.at = match.end()
            if self.text[self._skip(_SPACE)] != ".":
                break
            self.at += 1
            self._skip(_SPACE)
        return parts, self._span(start, end)

    def _skip(self, pattern: re.Pattern[str]) -> int:
        match = pattern.match(self.text, self.at)
        assert match is not None
        self.at = match.end()
        return self.at

    def _span(self, start: int, end: int) -> Span:
        line = bisect_right(self.starts, start)
        first_line = self.text[start:end].split("\n", 1)[0]
        return line, start - self.starts[line - 1] + 1, len(first_line)
