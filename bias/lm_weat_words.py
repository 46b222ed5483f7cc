"""Which word a template sentence is about, so that sentences about one word are not taken for several.

The sentences of May et al. 2019 (SEAT) put each word into a few bleached frames: "This is a home.",
"The homes are here." The frames are known, and a plural belongs to a singular of the same set.
"""

import re
from collections.abc import Sequence

_FRAMES = tuple(
    re.compile(frame, re.IGNORECASE)
    for frame in (
        r"the person's name is (.+)",
        r"(?:this|that|there|here|it) is (?:an? )?(.+)",
        r"(?:these|those|they|there|here) are (.+)",
        r"(?:an? )?(.+) (?:is|are) (?:a person|people|a thing|things)",
        r"(?:the )?(.+) (?:is|are) (?:here|there)",
        r"(?:this|that) (?:can|did|may|will) (.+)",
        r"(?:here|there) (he|she|it) is",
        r"(?:this|that) (?:can|did|may|will) (.+)",
        r"(?:here|there) (he|she|it) is",
    )
)
_IRREGULAR = {
    "men": "man",
    "women": "woman",
    "children": "child",
    "feet": "foot",
    "teeth": "tooth",
    "mice": "mouse",
    "lice": "louse",
}
_ENDINGS = (("s", ""), ("es", ""), ("ies", "y"), ("ves", "f"), ("ves", "fe"))


def words_of(sentences: Sequence[str]) -> tuple[str, ...]:
    """For each sentence of one set the word it is about, in lower case; the whole sentence where its frame
    is not known.

    >>> words_of(["This is an illness.", "Those are illnesses.", "Amy is here.", "Something else."])
    ('illness', 'illness', 'amy', 'something else.')
    """
    bare = [_in_frame(sentence) for sentence in sentences]
    known = set(bare)
    return tuple(next((one for one in _singulars(word) if one in known), word) for word in bare)


def _in_frame(sentence: str) -> str:
    text = sentence.strip()
    for frame in _FRAMES:
        if found := frame.fullmatch(text.removesuffix(".")):
            return found[1].lower()
    return text.lower()


def _singulars(plural: str) -> list[str]:
    """What the word could be the plural of: illnesses, ladies, wives, women, women of color; not hers."""
    head, of, rest = plural.partition(" of ")
    *before, last = head.split(" ")
    ends = () if last in ("hers", "his") else (*_ENDINGS, *_IRREGULAR.items())
    found = [last.removesuffix(end) + new for end, new in ends if last.endswith(end)]
    return [" ".join((*before, one)) + of + rest for one in found]
