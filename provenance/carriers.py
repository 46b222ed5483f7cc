"""How a text holds a manifest store: invisible characters (C2PA 2.4, A.8), an element (A.7), a comment (A.9).

A carrier is recognised only where every byte of it is one that its method writes, so nothing can hide
in the part of a text that the signature leaves out.
"""

import base64
import binascii
import re
from collections.abc import Callable
from dataclasses import dataclass

import c2pa_text

from assaymark.provenance.formats import Format, Route

SELECTORS = "[\ufe00-\ufe0f\U000e0100-\U000e01ef]"
MAX_EMBEDDED = 16 << 20  # bytes of a manifest store in a text
_WRAPPER = re.compile(f"\ufeff({SELECTORS}{{8,}})")
_MARK = c2pa_text.DATA_URI_PREFIX
_TYPE, _MANY_MARKS = 'type="application/c2pa"', 50
_BLOCK = re.compile(f"{c2pa_text.BEGIN_DELIMITER}(.*?){c2pa_text.END_DELIMITER}", re.DOTALL)
_CODING = re.compile(r"^[ \t\f]*#.*?coding[:=]")
_RESERVED = ("#!", "<?", "---", "%", "@charset", "\ufeff")


class CarrierError(ValueError):
    """A text whose manifest cannot be taken out as the standard says; code: C2PA 2.4, A.7 to A.9."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code


@dataclass(frozen=True, kw_only=True)
class Held:
    """A text in three parts; only the middle one, which holds the store, is left out of the hash."""

    before: str
    carrier: str
    after: str
    store: bytes

    @property
    def bare(self) -> str:
        """The text without its carrier and the line break that ends it."""
        after = self.after
        if "\ufeff" not in self.carrier[:1]:
            after = after.removeprefix("\r").removeprefix("\n")
        return self.before + after


@dataclass(frozen=True, kw_only=True)
class Place:
    """Where a store goes: between two parts of a text. wrap: the carrier, as long for any store."""

    before: str
    after: str
    wrap: Callable[[bytes], str]


def find(kind: Format, text: str) -> Held | None:
    """The carrier of a text's manifest store; None where it has none.

    Raises CarrierError for two of them, one that is damaged, and one that names another place.
    """
    return _FINDS[kind.route](kind, text)


def place(kind: Format, text: str) -> Place:
    """Where a manifest store goes in a text that has none; raises CarrierError where nowhere."""
    return _PLACES[kind.route](kind, text)


def _find_wrapper(kind: Format, text: str) -> Held | None:
    found = [match for match in _WRAPPER.finditer(text) if _decode(match[1][:8]) == c2pa_text.MAGIC]
    if not found:
        return None
    if len(found) > 1:
        raise CarrierError(
            "manifest.text.multipleWrappers", f"the text has {len(found)} manifests, one is allowed"
        )
    (match,) = found
    # a hostile text may be all selectors: no more of them is decoded than a manifest may have
    size = int.from_bytes(_decode(match[1][9:13]), "big")
    if size > MAX_EMBEDDED or len(match[1]) > 2 * (size + 32):
        raise CarrierError(
            "manifest.text.corruptedWrapper",
            f"{len(match[1])} characters for a manifest of {size} bytes",
        )
    checked = c2pa_text.validate_wrapper_bytes(_decode(match[1]))
    store = checked.manifest_bytes
    if not checked.valid or store is None:
        raise CarrierError("manifest.text.corruptedWrapper", str(checked.issues[0].message))
    if match[0] not in (c2pa_text.encode_wrapper(store), _padded(store)):
        raise CarrierError(
            "manifest.text.corruptedWrapper", "more than a manifest is hidden in the characters"
        )
    return Held(
        before=text[: match.start()], carrier=match[0], after=text[match.end() :], store=store
    )


def _decode(selectors: str) -> bytes:
    decoded: bytes = c2pa_text.decode_wrapper_sequence(selectors)
    return decoded


def _padded(store: bytes) -> str:
    size = c2pa_text.worst_case_wrapper_byte_length(len(store))
    padded: str = c2pa_text.encode_wrapper_padded(store, size)
    return padded


def _place_wrapper(kind: Format, text: str) -> Place:
    return Place(before=text, after="", wrap=_padded)


def _find_element(kind: Format, text: str) -> Held | None:
    marks = text.count(_TYPE)
    if marks > _MANY_MARKS:  # the search below is slow on very many that are never closed
        raise CarrierError("manifest.html.multipleManifests", f"the page marks {marks} manifests")
    try:
        found = c2pa_text.extract_html(text)
    except c2pa_text.HtmlError as error:
        raise CarrierError(error.code, str(error)) from error
    if found is None:
        return None
    if found.method == "reference":
        raise CarrierError(
            "manifest.inaccessible", f"its manifest lies elsewhere ({found.reference}): not fetched"
        )
    carrier = c2pa_text.build_html_script(found.manifest or b"")
    before, held, after = text.partition(carrier)
    if not found.manifest or not held:
        raise CarrierError(
            "manifest.html.malformed", "the element of the manifest holds more than a manifest"
        )
    return Held(before=before, carrier=carrier, after=after, store=found.manifest)


# What hides a tag from a browser, then the tag that is looked for; an open end swallows the rest.
_HEAD_END = re.compile(
    r"<!--(?:.*?-->|.*)|<(script|style|title|noscript|template)\b(?:.*?</\1\s*>|.*)|(</head\s*>)",
    re.DOTALL | re.IGNORECASE,
)


def _place_element(kind: Format, text: str) -> Place:
    end = next((match for match in _HEAD_END.finditer(text) if match[2]), None)
    if end is None:
        raise CarrierError("html.noHead", "the page has no </head>, where a manifest belongs")
    newline = "\r\n" if "\r\n" in text else "\n"
    return Place(
        before=text[: end.start()],
        after=newline + text[end.start() :],
        wrap=c2pa_text.build_html_script,
    )


def _find_block(kind: Format, text: str) -> Held | None:
    begins, ends = text.count(c2pa_text.BEGIN_DELIMITER), text.count(c2pa_text.END_DELIMITER)
    if not begins and not ends:
        return None
    if not begins or not ends:  # one delimiter alone is a text about manifests, or a cut one
        if _MARK not in text:
            return None
        raise CarrierError("manifest.structuredText.noManifest", "the manifest's block is cut")
    try:
        found = c2pa_text.extract_structured(text)
    except c2pa_text.StructuredError as error:
        if _MARK not in text:
            return None
        raise CarrierError(error.code, str(error)) from error
    if not found.reference.startswith(_MARK):
        raise CarrierError(
            "manifest.inaccessible", f"its manifest lies elsewhere ({found.reference}): not fetched"
        )
    store = _canonical(found.reference)
    match = _BLOCK.search(text)
    if store is None or match is None:
        raise CarrierError(
            "manifest.structuredText.malformedReference", "the manifest's block is damaged"
        )
    start, end = _bounds(kind, text, match, found.reference)
    return Held(before=text[:start], carrier=text[start:end], after=text[end:], store=store)


def _canonical(reference: str) -> bytes | None:
    """The store of a data: URI whose every character counts."""
    try:
        store = base64.b64decode(reference[len(_MARK) :], validate=True)
    except binascii.Error:
        return None
    return store if c2pa_text.encode_data_uri(store) == reference else None


def _bounds(kind: Format, text: str, match: re.Match[str], reference: str) -> tuple[int, int]:
    """Begin and end of the whole line of a block; raises CarrierError where more stands on it."""
    start = text.rfind("\n", 0, match.start()) + 1
    end = text.find("\n", match.end())
    end = len(text) if end < 0 else end
    line = text[start:end].removesuffix("\r")
    begin, close = kind.comment
    fenced = [c2pa_text.build_manifest_block_multiline(reference, new) for new in ("\n", "\r\n")]
    if line not in (c2pa_text.build_manifest_block(reference, begin, close), *fenced):
        raise CarrierError(
            "manifest.structuredText.malformedReference",
            "more than a comment with the manifest stands on its line",
        )
    return start, start + len(line)


def _place_block(kind: Format, text: str) -> Place:
    if c2pa_text.BEGIN_DELIMITER in text or c2pa_text.END_DELIMITER in text:
        raise CarrierError(
            "manifest.structuredText.multipleReferences",
            "the text speaks of manifests itself, in the very words that mark one",
        )
    newline = "\r\n" if "\r\n" in text else "\n"
    begin, close = kind.comment

    def wrap(store: bytes) -> str:
        block: str = c2pa_text.build_manifest_block(c2pa_text.encode_data_uri(store), begin, close)
        return block

    if _first_line_is_reserved(text):
        gap = "" if text.endswith("\n") or not text else newline
        return Place(before=text + gap, after=newline, wrap=wrap)
    return Place(before="", after=newline + text, wrap=wrap)


def _first_line_is_reserved(text: str) -> bool:
    """A shebang, a declaration, front matter or the file's encoding (PEP 263) must stay first."""
    return text.startswith(_RESERVED) or any(map(_CODING.match, text.split("\n", 2)[:2]))


_FINDS: dict[Route, Callable[[Format, str], Held | None]] = {
    Route.TEXT: _find_wrapper,
    Route.HTML: _find_element,
    Route.STRUCTURED: _find_block,
}
_PLACES: dict[Route, Callable[[Format, str], Place]] = {
    Route.TEXT: _place_wrapper,
    Route.HTML: _place_element,
    Route.STRUCTURED: _place_block,
}
