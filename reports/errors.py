"""The errors raised on purpose: those a user can mend, and one that says the bug is ours.

AssaymarkError
├── InputError              a model, data set, file or argument is not what the check needs
│   └── PolicyError         the policy is wrong; knows the line
├── IntegrityError          a digest or signature that must hold does not
└── InternalContradiction   two of our own results cannot both be true
"""

from collections.abc import Iterable
from dataclasses import dataclass


class AssaymarkError(Exception):
    """Base of all errors raised on purpose: value seen, value expected, next step."""


class InputError(AssaymarkError):
    """An input is missing, malformed or of the wrong shape, type, unit or range."""


class IntegrityError(AssaymarkError):
    """A digest or a signature that must hold does not."""


class InternalContradiction(AssaymarkError):
    """Two of our own results cannot both be true: a bug of ours, so neither is reported."""


@dataclass(frozen=True, kw_only=True)
class Place:
    """Where in a text file something stands; line and column count from 1."""

    path: str
    line: int
    column: int
    length: int = 1
    text: str = ""

    def __str__(self) -> str:
        return f"{self.path}:{self.line}:{self.column}"


class PolicyError(InputError):
    """One or more mistakes in a policy, each with its place and a caret."""

    def __init__(self, mistakes: list[tuple[Place, str]]) -> None:
        self.mistakes = mistakes
        super().__init__("\n".join(_excerpt(place, message) for place, message in mistakes))


def nearest(word: str, known: Iterable[str]) -> str:
    """`: did you mean "x"?`, or the list of what is known.

    >>> nearest("robust_acuracy", ["robust_accuracy", "clean_accuracy"])
    ': did you mean "robust_accuracy"?'
    >>> nearest("male", ["Female", "Male"])
    ': did you mean "Male"?'
    """
    import difflib

    known = list(dict.fromkeys(known))
    same = [other for other in known if other.casefold() == word.casefold()]
    close = same or difflib.get_close_matches(word, known, n=1, cutoff=0.6)
    return f': did you mean "{close[0]}"?' if close else f"; known are {', '.join(known)}"


def _excerpt(place: Place, message: str) -> str:
    number = str(place.line)
    return "\n".join(
        (
            f"{place}: {message}",
            f"  {number} | {place.text}",
            f"  {' ' * len(number)} | {' ' * (place.column - 1)}{'^' * max(place.length, 1)}",
        )
    )
