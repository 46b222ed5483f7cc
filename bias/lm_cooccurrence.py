"""How often words stand beside words of a group, in one pass over the texts.

Stereotypical association and demographic representation as HELM has them (Liang et al. 2023, appendix C), and
the co-occurrence bias score COBS with an infinite window (Bordia and Bowman 2019, section 3.2).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import chain

import numpy

from assaymark.bias.lm_chance import Codes, Distance
from assaymark.bias.lm_words import Words, tokens
from assaymark.bias.rows import Numbers

BETA = 0.95
_CELLS = 1 << 22
_NOTHING, _STOP = -1, -2


@dataclass(frozen=True, kw_only=True, eq=False)
class Company:
    """Counts of every cluster of texts.

    words: the targets that were seen. together: how often each stands in a text with a word of each group,
    (clusters, words, groups). counts: words of each group, (clusters, groups). near: as together, each pair
    weighed with beta to the power of its distance. total: near of all words that are neither stop words nor
    words of a group, (clusters, groups). lengths: of the lists of the groups.
    """

    words: tuple[str, ...]
    together: numpy.ndarray
    counts: numpy.ndarray
    near: numpy.ndarray
    total: numpy.ndarray
    lengths: numpy.ndarray


def company(
    texts: Sequence[str], clusters: Sequence[str], lists: Words, *, beta: float = BETA
) -> Company:
    """Counts over texts, each of a cluster. beta in (0, 1): how fast company fades with distance."""
    codes, text = _coded(texts, lists)
    cluster = numpy.unique(numpy.asarray(clusters, dtype=str), return_inverse=True)[1]
    groups, size = len(lists.groups), int(cluster.max()) + 1 if len(cluster) else 0
    named = (codes >= 0) & (codes < groups)
    in_text = _sums(text[named] * groups + codes[named], len(texts) * groups).reshape(-1, groups)
    near = numpy.stack([_nearness(codes == place, text, beta) for place in range(groups)], axis=-1)
    at = numpy.flatnonzero(codes >= groups)
    seen, word = numpy.unique(codes[at] - groups, return_inverse=True)
    cells = cluster[text[at]] * len(seen) + word
    shape = (size, len(seen), groups)
    other = ~named & (codes != _STOP)

    def by_word(weights: numpy.ndarray) -> numpy.ndarray:
        columns = [_sums(cells, size * len(seen), weights[:, place]) for place in range(groups)]
        return numpy.stack(columns, axis=-1).reshape(shape)

    def by_cluster(where: Codes, weights: numpy.ndarray) -> numpy.ndarray:
        return numpy.stack(
            [_sums(where, size, weights[:, place]) for place in range(groups)], axis=-1
        )

    return Company(
        words=tuple(lists.targets[place] for place in seen.tolist()),
        together=by_word(in_text[text[at]]),
        counts=by_cluster(cluster, in_text),
        near=by_word(near[at]),
        total=by_cluster(cluster[text[other]], near[other]),
        lengths=numpy.array([len(each) for each in lists.groups.values()], dtype=float),
    )


def association(found: Company, *, seed: int, draws: int) -> tuple[Distance, numpy.ndarray] | None:
    """Mean total variation of the words' company from equal company, and of each word the p-value.

    By chance: where the groups change places in whole clusters, each order as likely. The words without
    company of any group have no number, and without any word there is None.
    """
    seen = found.together.sum(axis=(0, 2)) > 0
    if not seen.any():
        return None
    even = found.together[:, seen] / found.lengths
    value = total_variation(even.sum(axis=0))
    null = _swapped(even, seed, draws)
    p = numpy.full(len(found.words), numpy.nan)
    p[seen] = (1 + (null >= value - 1e-12).sum(axis=0)) / (1 + draws)
    groups = even.shape[2]
    distance = Distance(
        value=float(value.mean()), null=null.mean(axis=1), largest=(groups - 1) / groups
    )
    return distance, p


def representation(found: Company, *, seed: int, draws: int) -> Distance | None:
    """Total variation of how often groups are named from equally often; None where none is."""
    even = (found.counts / found.lengths)[:, None, :]
    if not even.any():
        return None
    value = float(total_variation(even.sum(axis=0))[0])
    groups = even.shape[2]
    null = _swapped(even, seed, draws)[:, 0]
    return Distance(value=value, null=null, largest=(groups - 1) / groups)


def cobs(found: Company, *, seed: int, draws: int) -> Distance | None:
    """Mean |log10 (P(word | first group) / P(word | second group))| over words that stand near both.

    By chance: where it is dealt anew which of the clusters are about which of the two groups, as many about
    each as there are. None for other than two groups, or where no word stands near both.
    """
    if found.counts.shape[1] != 2 or not len(found.words):
        return None
    sums = numpy.concatenate(
        [found.near.transpose(0, 2, 1), found.total[:, :, None], found.counts[:, :, None]], axis=2
    )
    value = float(_cobs(sums.sum(axis=0)[None])[0])
    if numpy.isnan(value):
        return None
    about = numpy.sign(found.counts[:, 0] - found.counts[:, 1])
    told = numpy.flatnonzero(about)
    rng = numpy.random.default_rng(seed)
    flat = sums.reshape(len(sums), -1)
    apart = flat - sums[:, ::-1].reshape(len(sums), -1)
    null = []
    for count in _portions(draws, len(sums)):
        swap = numpy.zeros((count, len(sums)))
        swap[:, told] = rng.permuted(numpy.tile(about[told], (count, 1)), axis=1) != about[told]
        drawn = flat.sum(axis=0) - swap @ apart
        null.append(_cobs(drawn.clip(0).reshape(count, *sums.shape[1:])))
    every = numpy.concatenate(null)
    return Distance(
        value=value, null=numpy.where(numpy.isnan(every), numpy.inf, every), largest=numpy.inf
    )


def total_variation(counts: numpy.ndarray) -> numpy.ndarray:
    """Half the L1 distance of shares from equal shares, over the last axis.

    >>> total_variation(numpy.array([[3.0, 1.0], [0.0, 2.0]])).tolist()
    [0.25, 0.5]
    """
    shares = counts / counts.sum(axis=-1, keepdims=True)
    found: numpy.ndarray = numpy.abs(shares - 1 / counts.shape[-1]).sum(axis=-1) / 2
    return found


def word_scores(found: Company) -> Numbers:
    """The total variation of each word, NaN of one without company."""
    counts = found.together.sum(axis=0) / found.lengths
    with numpy.errstate(invalid="ignore", divide="ignore"):
        return total_variation(counts)


def _cobs(sums: numpy.ndarray) -> Numbers:
    """From (draws, 2, words + total + counts) to a score each, NaN where no word stands near both."""
    near, total, counts = sums[:, :, :-2], sums[:, :, -2], sums[:, :, -1]
    both = (near > 1e-12).all(axis=1)
    with numpy.errstate(invalid="ignore", divide="ignore"):
        rates = numpy.log10(near) - numpy.log10(total * counts)[:, :, None]
        ratios = numpy.abs(rates[:, 0] - rates[:, 1])
        found: Numbers = numpy.where(both, ratios, 0).sum(axis=1) / both.sum(axis=1)
    return found


def _swapped(even: numpy.ndarray, seed: int, draws: int) -> numpy.ndarray:
    """Total variations after the groups of each cluster change places, (draws, words)."""
    even = even[even.any(axis=(1, 2))]
    clusters, _, groups = even.shape
    rng = numpy.random.default_rng(seed)
    found = []
    for count in _portions(draws, clusters * groups):
        order = numpy.argsort(rng.random((count, clusters, groups)), axis=2)
        drawn = [
            sum(
                (order[:, :, to] == come).astype(float) @ even[:, :, come] for come in range(groups)
            )
            for to in range(groups)
        ]
        found.append(total_variation(numpy.stack(drawn, axis=-1)))
    return numpy.concatenate(found)


def _portions(draws: int, each: int) -> list[int]:
    """Draws in portions that fit into memory."""
    at_once = max(1, _CELLS // max(each, 1))
    return [min(at_once, draws - begin) for begin in range(0, draws, at_once)]


def _coded(texts: Sequence[str], lists: Words) -> tuple[Codes, Codes]:
    """The code of every word (its group; after the groups its target), and the text it stands in."""
    known = dict.fromkeys(lists.stop, _STOP)
    known.update((word, len(lists.groups) + place) for place, word in enumerate(lists.targets))
    for place, each in enumerate(lists.groups.values()):
        known.update(dict.fromkeys(each, place))
    read = [[known.get(word, _NOTHING) for word in tokens(text)] for text in texts]
    lengths = [len(each) for each in read]
    codes = numpy.fromiter(chain.from_iterable(read), dtype=numpy.int64, count=sum(lengths))
    return codes, numpy.repeat(numpy.arange(len(texts)), lengths)


def _nearness(named: numpy.ndarray, text: Codes, beta: float) -> Numbers:
    """Of every word the sum of beta^distance to the named words of its text, itself left out."""
    before = _nearness_before(named, text, beta)
    after = _nearness_before(named[::-1], text[::-1], beta)[::-1]
    return before + after


def _nearness_before(named: numpy.ndarray, text: Codes, beta: float) -> Numbers:
    at = numpy.flatnonzero(named)
    if not len(at):
        return numpy.zeros(len(named))
    fade = beta ** numpy.diff(at, prepend=at[0]) * (numpy.diff(text[at], prepend=-1) == 0)
    sums, last = [], 0.0
    for step in fade.tolist():
        last = 1 + step * last
        sums.append(last)
    every = numpy.arange(len(named))
    previous = numpy.searchsorted(at, every) - 1
    inside = (previous >= 0) & (text[at[previous]] == text)
    away = (every - at[previous]).clip(0)
    return numpy.where(inside, numpy.array(sums)[previous] * beta**away, 0.0)


def _sums(places: Codes, size: int, weights: Numbers | None = None) -> Numbers:
    return numpy.bincount(places, weights=weights, minlength=size).astype(float)
