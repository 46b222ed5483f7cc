"""How a work came to be, in the words that C2PA allows: IPTC's vocabulary and two terms of its own.

https://cv.iptc.org/newscodes/digitalsourcetype/ (2024-09-17) and C2PA 2.4, section 18.15.4.5. The
c2pa library writes any word at all ("aiGenerated!!") and still calls the file trusted.
"""

from dataclasses import dataclass

from assaymark.reports.errors import InputError, nearest

_IPTC = "http://cv.iptc.org/newscodes/digitalsourcetype/"
_C2PA = "http://c2pa.org/digitalsourcetype/"


@dataclass(frozen=True, kw_only=True)
class SourceType:
    """One term. edit: it says what was done to an earlier work, so it may stand beside a parent.

    trained: a model derived from sampled content made it or a part of it.
    """

    name: str
    uri: str
    meaning: str
    edit: bool = False
    trained: bool = False


def _iptc(name: str, meaning: str, *, edit: bool = False, trained: bool = False) -> SourceType:
    return SourceType(name=name, uri=_IPTC + name, meaning=meaning, edit=edit, trained=trained)


_TERMS = (
    _iptc("digitalCapture", "captured from real life"),
    _iptc("computationalCapture", "several frames from real life, merged"),
    _iptc("negativeFilm", "digitised from a negative on film"),
    _iptc("positiveFilm", "digitised from a positive on film"),
    _iptc("print", "digitised from a print"),
    _iptc("humanEdits", "edited by humans", edit=True),
    _iptc("algorithmicallyEnhanced", "altered by an algorithm", edit=True),
    _iptc("digitalCreation", "created by a human with digital tools"),
    _iptc("dataDrivenMedia", "a representation of data"),
    _iptc("trainedAlgorithmicMedia", "created by generative AI", trained=True),
    _iptc("algorithmicMedia", "created by an algorithm without training"),
    _iptc("screenCapture", "a capture of a screen"),
    _iptc("virtualRecording", "a recording of a virtual event"),
    _iptc("composite", "a composite of elements", edit=True),
    _iptc("compositeCapture", "a composite of captured elements", edit=True),
    _iptc("compositeSynthetic", "a composite with synthetic elements", edit=True),
    _iptc(
        "compositeWithTrainedAlgorithmicMedia",
        "edited with generative AI",
        edit=True,
        trained=True,
    ),
    SourceType(name="empty", uri=_C2PA + "empty", meaning="begun as an empty work"),
    SourceType(
        name="trainedAlgorithmicData",
        uri=_C2PA + "trainedAlgorithmicData",
        meaning="data created by generative AI",
        trained=True,
    ),
)
SOURCE_TYPES = {term.name: term for term in _TERMS}
SHORTHANDS = {
    "generated": "trainedAlgorithmicMedia",
    "edited-with-ai": "compositeWithTrainedAlgorithmicMedia",
    "captured": "digitalCapture",
}
# What IPTC retired, and the term that says it now.
RETIRED = {
    "minorHumanEdits": "humanEdits",
    "digitalArt": "digitalCreation",
    "softwareImage": "algorithmicMedia",
}


def source_type(text: str) -> SourceType:
    """The term that a full URI, its last word or a shorthand names; raises InputError for others.

    >>> source_type("generated").uri
    'http://cv.iptc.org/newscodes/digitalsourcetype/trainedAlgorithmicMedia'
    """
    word = _last_word(text)
    if word in RETIRED:
        raise InputError(f'digital source type "{word}" was retired by IPTC: use "{RETIRED[word]}"')
    found = SOURCE_TYPES.get(SHORTHANDS.get(word, word))
    # a URI of one vocabulary with a word of the other is in neither
    if found is None or (word != text and found.uri != text.replace("https:", "http:", 1)):
        raise InputError(
            f'unknown digital source type "{text[:200]}"'
            f"{nearest(word[:200], [*SHORTHANDS, *SOURCE_TYPES])}"
        )
    return found


def _last_word(text: str) -> str:
    return text.rsplit("/", 1)[-1] if "/" in text else text
