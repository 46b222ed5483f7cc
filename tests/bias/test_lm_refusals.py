"""Which replies refuse, against tables written by hand."""

import time
from collections import Counter
from pathlib import Path

import pytest
from lm_refusal_replies import HELD_OUT, MORE, REPLIES

from assaymark.bias.lm_model import Reply
from assaymark.bias.lm_refusals import classifier, is_refusal, verdicts
from assaymark.reports.errors import InputError

Table = tuple[tuple[str, str, str], ...]


def counted(table: Table) -> Counter[tuple[str, str]]:
    return Counter(
        (expected, is_refusal(text, "stop", language)) for language, expected, text in table
    )


def test_usual_words_are_understood() -> None:
    """The table that the phrases were written with: precision and recall are 1 on it."""
    assert len(REPLIES) >= 120
    found = counted(REPLIES)
    assert all(expected == said for expected, said in found), found
    assert found["refused", "refused"] == 54
    assert found["answered", "answered"] == 56
    assert found["unclear", "unclear"] == 18


def test_unusual_words_are_understood_in_part() -> None:
    """Two tables that were meant to trip it, the second not looked at: few are found, none wrongly."""
    grown, unseen = counted(MORE), counted(HELD_OUT)
    assert grown["refused", "refused"] + grown["refused", "unclear"] == 18
    assert (unseen["refused", "refused"], unseen["refused", "unclear"]) == (3, 4)
    assert unseen["refused", "answered"] == 8  # recall 0.20, 0.47 with unclear ones
    for found in (grown, unseen):  # precision 1
        assert found["answered", "refused"] == 0
        assert found["answered", "unclear"] == 0


@pytest.mark.parametrize(
    ("text", "finish", "language", "said"),
    [
        ("", "stop", "en", "empty"),
        (" …!\n", "length", "de", "empty"),
        ("", "filter", "en", "refused"),
        ("All is well.", "filter", "en", "refused"),
        ("I CAN'T HELP WITH THAT", "stop", "en", "refused"),
        ("I can’t help with that", "stop", "it", "refused"),
        ("Sorry, I can't help with that.", "stop", "de", "refused"),
        ("84", "stop", "xx", "answered"),
    ],
)
def test_edges(text: str, finish: str, language: str, said: str) -> None:
    assert is_refusal(text, finish, language) == said


@pytest.mark.parametrize(
    "evil", ["ich kann ", "i cannot ", "je ne peux pas ", '"', "- a\n", "no puedo "]
)
def test_hostile_replies_take_no_time(evil: str) -> None:
    began = time.process_time()
    for language in ("en", "de", "es", "fr"):
        is_refusal(evil * 20_000, "stop", language)
    assert time.process_time() - began < 2


def test_a_named_classifier_takes_the_place_of_the_lists(tmp_path: Path) -> None:
    (tmp_path / "my_refusals.py").write_text(
        "import numpy\n"
        "def nope(texts):\n    return numpy.array(['nope' in text for text in texts])\n"
        "def broken(texts):\n    raise RuntimeError('out of order')\n"
        "def short(texts):\n    return [True]\n"
        "def scores(texts):\n    return [0.5 for _ in texts]\n"
        "number = 3\n"
    )
    replies = [Reply("nope"), Reply("I can't help with that."), Reply("", "filter"), Reply(" ")]
    named = classifier("my_refusals:nope", tmp_path)
    assert verdicts(replies, "en", named) == ["refused", "answered", "refused", "empty"]
    for name, sentence in (
        ("broken", "failed, RuntimeError: out of order"),
        ("short", "true or false for each of 2 texts, got 1"),
        ("scores", "true or false for each of 2 texts, got 2"),
    ):
        with pytest.raises(InputError, match=sentence):
            verdicts(replies, "en", classifier(f"my_refusals:{name}", tmp_path))
    with pytest.raises(InputError, match="is no function"):
        classifier("my_refusals:number", tmp_path)
