"""Where a continuation begins among the tokens of an echoed text.

Servers tell tokens in several spellings and offsets in several units, with or without special tokens in
front. Nothing is believed that cannot be checked: the tokens must spell the text that was asked for.
"""

import re
from collections.abc import Callable, Sequence
from functools import cache
from itertools import accumulate, pairwise

_BYTES = re.compile(r"^bytes:((?:\\x[0-9a-fA-F]{2})+)$")
_ONE_BYTE = re.compile(r"^<0x([0-9A-Fa-f]{2})>$")
_NOT_PLAIN = re.compile(r"[^A-Za-z0-9]+")


def _as_text(token: str) -> bytes:
    """As written; bytes that are no whole character as OpenAI writes them, bytes:\\xe2\\x80."""
    found = _BYTES.match(token)
    if found:
        return bytes.fromhex(found[1].replace("\\x", ""))
    return token.encode("utf-8", "surrogatepass")


def _as_sentencepiece(token: str) -> bytes:
    found = _ONE_BYTE.match(token)
    return bytes.fromhex(found[1]) if found else _as_text(token.replace("\u2581", " "))


@cache
def _byte_alphabet() -> dict[str, int]:
    """The printable stand-ins of bytes in byte-level vocabularies (GPT-2, bytes_to_unicode)."""
    plain = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    others = [byte for byte in range(256) if byte not in plain]
    return {chr(byte): byte for byte in plain} | {
        chr(256 + place): byte for place, byte in enumerate(others)
    }


def _as_byte_level(token: str) -> bytes:
    alphabet = _byte_alphabet()
    if all(c in alphabet for c in token):
        return bytes(alphabet[c] for c in token)
    return _as_text(token)


SPELLINGS: tuple[Callable[[str], bytes], ...] = (_as_text, _as_byte_level, _as_sentencepiece)


def spans(
    tokens: Sequence[str], offsets: Sequence[int] | None, text: str
) -> list[tuple[int, int]] | None:
    """From where to where in the UTF-8 bytes of `text` each token reaches; None when they do not fit it.

    Tokens before the text, such as that of its beginning, reach from 0 to 0 or below; those written
    after it begin at its end or later.
    """
    wanted = text.encode("utf-8", "surrogatepass")
    for spelling in SPELLINGS:
        pieces = [spelling(token) for token in tokens]
        joined, ends = b"".join(pieces), list(accumulate(map(len, pieces), initial=0))
        for begin in (0, ends[min(1, len(pieces))]):  # a special token may stand in front
            space = joined[begin : begin + 1] == b" "  # and the space that SentencePiece puts there
            for skipped in (begin, begin + space):
                if joined.startswith(wanted, skipped):
                    return [(a - skipped, b - skipped) for a, b in pairwise(ends)]
    return _by_offsets(tokens, offsets, text)


def _by_offsets(
    tokens: Sequence[str], offsets: Sequence[int] | None, text: str
) -> list[tuple[int, int]] | None:
    """The same by the server's offsets in characters, for tokens that spell nothing.

    Letters and digits in a token must stand where its offset says. A first token of no characters may
    be a special one or the first bytes of a character: told apart only before an ASCII one.
    """
    if not offsets or len(offsets) != len(tokens) or list(offsets) != sorted(offsets):
        return None
    ends = [*offsets[1:], max(len(text), offsets[-1])]
    if ends[0] == 0 and not text[:1].isascii():
        return None
    for place, (token, start, end) in enumerate(zip(tokens, offsets, ends, strict=True)):
        special = place == 0 and end == 0  # in front of the text, whatever it is called
        inside = 0 <= start < len(text) and not special
        if start < 0 or (inside and not _agree(token, text[start:end])):
            return None
    at = list(accumulate((len(c.encode("utf-8", "surrogatepass")) for c in text), initial=0))
    if not any(end == len(text) for end in ends):
        return None
    return [
        (at[min(a, len(text))], at[min(b, len(text))]) for a, b in zip(offsets, ends, strict=True)
    ]


def _agree(token: str, piece: str) -> bool:
    return bool(_BYTES.match(token)) or _NOT_PLAIN.sub("", token) == _NOT_PLAIN.sub("", piece)


def continuation(spans: Sequence[tuple[int, int]], boundary: int, end: int) -> range | None:
    """Which tokens are those of a continuation from byte `boundary` to byte `end` of a text.

    A token that begins in the context and ends in the continuation is the continuation's first one: its
    probability is that of the text that goes on. None when there is no such token.
    """
    inside = [
        place
        for place, (start, stop) in enumerate(spans)
        if start < end and stop > 0 and (stop > boundary or start >= boundary)
    ]
    return range(inside[0], inside[-1] + 1) if inside else None
