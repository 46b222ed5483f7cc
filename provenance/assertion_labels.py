"""Which labels an assertion of the user's own may have, and what such an assertion may hold.

The grammar is C2PA 2.4, section 6.2.2; a double underscore is kept for the numbers that the engine
gives to several assertions of one label (section 6.4).
"""

import math
import re
from collections.abc import Mapping
from typing import Any

from assaymark.reports.errors import InputError, nearest

_LABEL = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]*(\.[A-Za-z0-9][A-Za-z0-9_-]*)+")
_LABEL_LIMIT = 100
_DEPTH_LIMIT = 32
_VALUES_LIMIT = 10_000
TEXT_LIMIT = 65_536  # characters of one text; the whole manifest is read into memory by everybody

# Labels of C2PA 2.4, chapter 18, that say something about the work which only the user knows.
# All others under c2pa. and cawg. are made by the engine, or have a field of their own in Claims;
# c2pa.metadata may hold only what annex B lists, and cawg.metadata may hold the same and more.
FREE_LABELS = (
    "c2pa.asset-ref",
    "c2pa.asset-type.v2",
    "c2pa.depthmap.GDepth",
    "c2pa.environmental-sustainability",
    "c2pa.external-reference",
    "cawg.metadata",
    "font.info",
)
_RESERVED = ("c2pa.", "cawg.")


def check_label(label: str) -> None:
    """Raise InputError for a label outside the grammar, or one that is not the user's to write."""
    if len(label) > _LABEL_LIMIT or not _LABEL.fullmatch(label) or "__" in label:
        raise InputError(
            f'"{label[:_LABEL_LIMIT]}" is no assertion label: expected words of letters, digits, '
            f"- and single _ joined by dots, at most {_LABEL_LIMIT} characters, "
            'beginning with a domain of yours ("com.example.review")'
        )
    if label.startswith(_RESERVED) and label not in FREE_LABELS:
        raise InputError(
            f'assertion label "{label}" is reserved: what begins with c2pa. or cawg. is written by '
            f"the engine or said in a field of its own{nearest(label, FREE_LABELS)}"
        )


def check_assertion(label: str, value: Any) -> None:
    """Raise InputError for a bad label, or a value that is not a JSON object of sensible size."""
    check_label(label)
    if not isinstance(value, Mapping) or not value:
        raise InputError(f'assertion "{label}" must be an object with at least one key')
    _check_values(label, value)
    if is_metadata(label) and not value.get("@context"):
        raise InputError(
            f'assertion "{label}" needs "@context", the namespaces of its properties '
            "(C2PA 2.4, section 18.17.2)"
        )


def is_metadata(label: str) -> bool:
    """Whether the assertion is stored as JSON-LD (section 18.17.2); all others are CBOR."""
    return label.endswith(".metadata")


def check_text(what: str, text: str) -> None:
    """Raise InputError for text that is too long or not Unicode; hostile text is kept as it is."""
    if len(text) > TEXT_LIMIT:
        raise InputError(
            f"{what} has {len(text)} characters, expected at most {TEXT_LIMIT}: say less, the "
            "manifest travels with every copy"
        )
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise InputError(f"{what} is not Unicode text ({error.reason})") from error


def strange_characters(text: str) -> str:
    """The characters of a text that a reader does not see or that move others, as code points.

    >>> strange_characters("a\\u202eb")
    'U+202E'
    """
    found = dict.fromkeys(sign for sign in text if not sign.isprintable())
    return ", ".join(f"U+{ord(sign):04X}" for sign in list(found)[:5])


def _check_values(label: str, value: Any) -> None:
    count, waiting = 0, [(value, 1)]
    while waiting:
        item, depth = waiting.pop()
        count += 1
        if depth > _DEPTH_LIMIT or count > _VALUES_LIMIT:
            raise InputError(
                f'assertion "{label}" is too large: expected at most {_VALUES_LIMIT} values, '
                f"{_DEPTH_LIMIT} deep"
            )
        if isinstance(item, Mapping):
            for key in item:
                _check_key(label, key)
            waiting += [(inner, depth + 1) for inner in item.values()]
        elif isinstance(item, list | tuple):
            waiting += [(inner, depth + 1) for inner in item]
        else:
            _check_scalar(label, item)


def _check_key(label: str, key: object) -> None:
    if not isinstance(key, str):
        raise InputError(f'assertion "{label}" has the key {key!r}: keys must be text')
    check_text(f'a key of assertion "{label}"', key)


def _check_scalar(label: str, item: object) -> None:
    if isinstance(item, str):
        check_text(f'a text of assertion "{label}"', item)
    elif isinstance(item, float) and not math.isfinite(item):
        raise InputError(f'assertion "{label}" holds {item}: JSON has finite numbers only')
    elif isinstance(item, int) and not -(2**63) <= item < 2**63:
        raise InputError(
            f'assertion "{label}" holds a number of {item.bit_length()} bits: expected at most 63'
        )
    elif item is not None and not isinstance(item, bool | int | float):
        raise InputError(
            f'assertion "{label}" holds a {type(item).__name__}: write dates and bytes as text'
        )
