"""How alike two texts are in their words and the order of them."""

import re
from collections.abc import Collection, Sequence

_WORDS = 2_000
"""Words of a text that are compared."""


def words(text: str, masked: Collection[str] = ()) -> tuple[str, ...]:
    """The words of a text in small letters; those that are masked are all the same.

    >>> words("Emily's report: 3 pages", {"emily's"})
    ('·', 'report', '3', 'pages')
    """
    found = re.findall(r"\w+(?:['’\-]\w+)*", text.casefold())[:_WORDS]
    return tuple("·" if word in masked else word for word in found)


def rouge_l(one: Sequence[str], other: Sequence[str]) -> float:
    """F1 of the longest common subsequence, in [0, 1]; 1 of two empty texts (Lin 2004, ROUGE, section 3).

    >>> rouge_l("police killed the gunman".split(), "police kill the gunman".split())
    0.75
    """
    if not one and not other:
        return 1.0
    return 2 * _common(one, other) / (len(one) + len(other))


def _common(one: Sequence[str], other: Sequence[str]) -> int:
    """Length of the longest common subsequence, a bit for each word (Hyyrö 2004)."""
    places: dict[str, int] = {}
    for place, word in enumerate(one):
        places[word] = places.get(word, 0) | 1 << place
    everything = (1 << len(one)) - 1
    left = everything
    for word in other:
        hit = left & places.get(word, 0)
        left = (left + hit | left - hit) & everything
    return len(one) - left.bit_count()
