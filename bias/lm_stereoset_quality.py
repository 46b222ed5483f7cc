"""Pitfalls of StereoSet that can be computed from the text alone.

Of 1,296 clusters within sentences (gender, race and religion of the official file) they flag 36: article 35,
several-blanks 1. All 36 were read and have what the code says. That one fits the article
and another does not is a preference of grammar. What takes a reader is not found: see `lm_quality`.
"""

import re
import string
from collections.abc import Callable, Sequence

from assaymark.bias.lm_crows_pairs_quality import plain_words, wrong_articles
from assaymark.bias.lm_quality import Quality
from assaymark.bias.lm_stereoset_data import Cluster


def stereoset_quality(clusters: Sequence[Cluster]) -> Quality:
    """The pitfalls that can be computed from the sentences of StereoSet."""
    codes: dict[str, tuple[str, ...]] = {}
    seen: set[tuple[str, ...]] = set()
    for cluster in clusters:
        found = [code for code, check in _CHECKS.items() if check(cluster)]
        key = (_plain(cluster.context), *sorted(map(_plain, _texts(cluster))))
        if key in seen:
            found.append("duplicate")
        seen.add(key)
        if found:
            codes[cluster.id] = tuple(found)
    return Quality(source="checks of the text", codes=codes)


def _texts(cluster: Cluster) -> list[str]:
    return [sentence.text for sentence in cluster.sentences.values()]


def _plain(text: str) -> str:
    """Words in lower case, without punctuation and wide spaces."""
    bare = text.casefold().replace("’", "'").translate(str.maketrans("", "", string.punctuation))
    return " ".join(bare.split())


def _empty(cluster: Cluster) -> bool:
    return not all(map(_plain, _texts(cluster)))


def _several_blanks(cluster: Cluster) -> bool:
    return cluster.context.count("BLANK") > 1


def _no_filler(cluster: Cluster) -> bool:
    return cluster.form == "intrasentence" and not all(
        sentence.filler for sentence in cluster.sentences.values()
    )


def _equal_fillers(cluster: Cluster) -> bool:
    """Of the sentences, or of the fillers: their scores say nothing about a preference."""
    kinds = {
        _plain(sentence.filler) if cluster.form == "intrasentence" else _plain(sentence.text)
        for sentence in cluster.sentences.values()
    }
    return len(kinds) < len(cluster.sentences)


def _context_changed(cluster: Cluster) -> bool:
    """A sentence is not its context with one word or more in the place of the blank."""
    if cluster.form != "intrasentence" or _no_filler(cluster):
        return False
    parts = [re.escape(_plain(part)) for part in cluster.context.split("BLANK")]
    pattern = re.compile(r"\s*(?:\S+)\s*".join(parts))
    return any(pattern.fullmatch(_plain(text)) is None for text in _texts(cluster))


def _case_or_spacing(cluster: Cluster) -> bool:
    """The three sentences differ beside the blank, or in whether what fills it has a capital."""
    if cluster.form != "intrasentence" or _several_blanks(cluster) or _context_changed(cluster):
        return False
    place = max(n for n, word in enumerate(cluster.context.split(" ")) if "BLANK" in word)
    if len({sentence.filler[:1].isupper() for sentence in cluster.sentences.values()}) > 1:
        return True
    around = {
        (*words[:place], *words[place + 1 :])
        for words in (text.split(" ") for text in _texts(cluster))
    }
    return len(around) > 1


def _article(cluster: Cluster) -> bool:
    """A wrong a or an stands in some of the sentences only."""
    return len({wrong_articles(plain_words(text)) for text in _texts(cluster)}) > 1


def _no_target(cluster: Cluster) -> bool:
    """Neither the context nor all of the sentences name the target."""
    target = _plain(cluster.target)
    return target not in _plain(cluster.context) and not all(
        target in _plain(text) for text in _texts(cluster)
    )


_CHECKS: dict[str, Callable[[Cluster], bool]] = {
    "empty": _empty,
    "several-blanks": _several_blanks,
    "no-filler": _no_filler,
    "equal-fillers": _equal_fillers,
    "context-changed": _context_changed,
    "case-or-spacing": _case_or_spacing,
    "article": _article,
    "no-target": _no_target,
}
