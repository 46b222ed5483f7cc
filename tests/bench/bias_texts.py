"""Words and their company beside LangFair: `python tests/bench/bias_texts.py [REPLIES] [WORDS]`.

Random texts of 200 replies with 120 words each by default, and LangFair's own lists of gender and
occupations, in small letters and without repetitions, for both tools. Times are user + system time of this
process after imports. LangFair needs files that nltk downloads: here it gets nltk's tokenizer without them,
which does the same to words with spaces between, and our stop words. Without LangFair only ours is timed.
"""

import sys
import time
import types
from collections.abc import Callable
from typing import Any

import numpy

from assaymark.bias.lm_chance import DRAWS
from assaymark.bias.lm_cooccurrence import association, cobs, company, word_scores
from assaymark.bias.lm_words import Words, own_words, tokens, words

SEED = 7
STOP = sorted(own_words("en").stop)


def main(replies: int = 200, length: int = 120) -> None:
    peer = langfair()
    lists = cleaned(peer) if peer else own_words("en")
    texts = random_texts(lists, replies, length)
    names = [str(place) for place in range(replies)]
    print(f"{replies} replies of {length} words, {len(lists.targets)} target words\n")
    print("| number | LangFair | CPU s | ours | CPU s | times | with p and interval, CPU s |")
    print("|---|---|---|---|---|---|---|")
    found = company(texts, names, lists)
    groups = {name: list(each) for name, each in lists.groups.items()}
    given = {
        "demographic_group_word_lists": groups,
        "stereotype_word_list": list(lists.targets),
    }
    for name, theirs, point, whole in (
        (
            "stereotypical association",
            peer and peer.StereotypicalAssociations,
            lambda: float(numpy.nanmean(word_scores(company(texts, names, lists)))),
            lambda: association(company(texts, names, lists), seed=SEED, draws=DRAWS),
        ),
        (
            "COBS",
            peer and peer.CooccurrenceBiasMetric,
            lambda: _value(cobs(company(texts, names, lists), seed=SEED, draws=1)),
            lambda: cobs(company(texts, names, lists), seed=SEED, draws=DRAWS),
        ),
    ):
        value, seconds = timed(point)
        _, interval = timed(whole)
        said = ["–", "–", "–"]
        if theirs:
            metric = theirs(**given)

            def call(metric: Any = metric) -> Any:
                return metric.evaluate(texts, show_progress_bars=False)

            other, cost = timed(call)
            said = [f"{other:.12f}", f"{cost:.2f}", f"{cost / seconds:.0f}"]
        print(
            f"| {name} | {said[0]} | {said[1]} | {value:.12f} | {seconds:.3f} | {said[2]} | {interval:.3f} |"
        )
    print(f"\nTarget words seen: {len(found.words)}; {DRAWS} draws for p and interval.")


def timed(call: Callable[[], Any]) -> tuple[Any, float]:
    begun = time.process_time()
    value = call()
    return value, time.process_time() - begun


def random_texts(lists: Words, replies: int, length: int) -> list[str]:
    """Words of groups 6 %, targets 4 %, stop words 40 %, and others."""
    rng = numpy.random.default_rng(SEED)
    named = [word for each in lists.groups.values() for word in each]
    letters = "abcdefghijklmnopqrstuvwxyz"
    other = [f"zz{one}{two}" for one in letters for two in letters]
    pools: tuple[list[str], ...] = (named, list(lists.targets), STOP, other)
    kinds = rng.choice(4, size=(replies, length), p=[0.06, 0.04, 0.4, 0.5])
    return [" ".join(str(rng.choice(pools[kind])) for kind in row) for row in kinds]


def langfair() -> Any:
    """The module of LangFair's metrics, None where it is not installed."""
    try:
        import nltk.corpus
        import nltk.tokenize

        tokenize = nltk.tokenize.word_tokenize
        nltk.tokenize.word_tokenize = lambda text: tokenize(text, preserve_line=True)
        nltk.corpus.stopwords = types.SimpleNamespace(words=lambda language: STOP)
        from langfair.metrics.stereotype import metrics
    except ImportError as error:
        print(f"LangFair is left out: {error}\n")
        return None
    return metrics


def cleaned(peer: Any) -> Words:
    """LangFair's lists, of what is one word and stands in one list only."""
    lists = sys.modules["langfair.constants.word_lists"]
    groups = {name: lists.GENDER_TO_WORD_LISTS[name] for name in ("female", "male")}
    taken = {word.lower() for each in groups.values() for word in each} | set(STOP)

    def kept(given: list[str]) -> list[str]:
        return [word for word in dict.fromkeys(map(str.lower, given)) if tokens(word) == [word]]

    targets = [
        word for word in kept(lists.PROFESSION_LIST) if word not in taken and "-" not in word
    ]
    return words({name: kept(each) for name, each in groups.items()}, targets, STOP)


def _value(found: Any) -> float:
    return float("nan") if found is None else float(found.value)


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
