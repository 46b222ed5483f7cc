"""Classifiers of texts: what they say, and that a failure is never a score."""

import json
import math
import socket
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

from assaymark.bias.lm_classifiers import LONGEST, Classifier, Labeller, Scorer, labeller, scorer
from assaymark.bias.lm_model import Failed
from assaymark.reports.errors import InputError

HOSTILE = ["x" * 50_000, "?!… ☂ 😀", "שלום עולם", "a\0b", "\u202egnp.exe", "<script>", "%s{}" * 99]


def plain(answer: Callable[[Sequence[str]], Any], **settings: Any) -> Scorer:
    return Scorer(classifier=Classifier(name="m:f", answer=answer), **settings)


@pytest.mark.parametrize(
    ("text", "polarity"),
    [("great", 0.8), ("not good", -0.35), ("He works at an office.", 0.0), ("terrible", -1.0)],
)
def test_polarities_of_the_lexicon(text: str, polarity: float) -> None:
    """Those of pattern.en: great 0.8; good 0.7, and negation times -½."""
    assert scorer("textblob")([text]) == [pytest.approx(polarity)]


def test_the_lexicon_opens_no_connection(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*args: object) -> None:
        raise AssertionError("a connection was opened")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    assert scorer("textblob")(["a lovely day"]) == [pytest.approx(0.5)]


def test_the_lexicon_reads_english_and_says_which_texts_it_knows() -> None:
    found = scorer("textblob").classifier
    assert found.languages == ("en",)
    assert found.knows is not None
    assert found.knows("a great day")
    assert not found.knows("ein großartiger Tag")


@pytest.mark.parametrize("text", HOSTILE, ids=range(len(HOSTILE)))
def test_hostile_texts_have_a_polarity(text: str) -> None:
    (found,) = scorer("textblob")([text])
    assert isinstance(found, float)
    assert -1 <= found <= 1


@pytest.mark.parametrize(
    ("text", "kind"),
    [("", "unparsable"), (" \n\0\t", "unparsable"), ("x" * (LONGEST + 1), "too-long")],
)
def test_nothing_and_too_much_have_no_score(text: str, kind: str) -> None:
    first, second = plain(lambda texts: [0.0] * len(texts))([text, "fine"])
    assert isinstance(first, Failed)
    assert first.kind == kind
    assert second == 0.0


@pytest.mark.parametrize(
    "answer", [math.nan, math.inf, 1.01, -0.01, None, "toxic", "0.2", [0.1], 1j]
)
def test_what_is_no_score_is_lost(answer: object) -> None:
    first, second = plain(lambda texts: [answer if one == "a" else 0.25 for one in texts])(
        ["a", "b"]
    )
    assert isinstance(first, Failed)
    assert "expected a number in [0, 1]" in first.reason
    assert second == 0.25


def test_a_failure_costs_its_own_text_only() -> None:
    def fails(texts: Sequence[str]) -> list[float]:
        if "bad" in texts:
            raise ConnectionError("the service is down")
        return [0.5] * len(texts)

    found = plain(fails)(["bad", *(f"text {place}" for place in range(70))])
    assert isinstance(found[0], Failed)
    assert found[0].kind == "error"
    assert "the service is down" in found[0].reason
    assert found[1:] == [0.5] * 70


@pytest.mark.parametrize("answers", [[], [0.1, 0.2, 0.3]])
def test_answers_of_another_number_are_not_spread_over_the_texts(answers: list[float]) -> None:
    found = plain(lambda texts: answers)(["a", "b"])
    assert all(isinstance(one, Failed) for one in found)


def test_equal_texts_are_asked_once_and_keep_their_order() -> None:
    asked: list[str] = []

    def answer(texts: Sequence[str]) -> list[float]:
        asked.extend(texts)
        return [len(text) / 10 for text in texts]

    assert plain(answer)(["aaa", "b", "aaa", "cc"]) == [0.3, 0.1, 0.3, 0.2]
    assert sorted(asked) == ["aaa", "b", "cc"]


def test_a_function_of_the_user(tmp_path: Path) -> None:
    (tmp_path / "mine_of_texts.py").write_text(
        "def toxic(texts):\n    return [float('bad' in one) for one in texts]\nconstant = 3\n"
        "def regard(texts):\n    return ['Good' if 'kind' in one else 'Bad' for one in texts]\n"
    )
    try:
        assert scorer("mine_of_texts:toxic", folder=tmp_path)(["bad", "good"]) == [1.0, 0.0]
        said = labeller("mine_of_texts:regard", labels={"good": "positive"}, folder=tmp_path)(
            ["kind", "rude"]
        )
        assert said[0] == "positive"
        assert isinstance(said[1], Failed)
        with pytest.raises(InputError, match="expected a function"):
            scorer("mine_of_texts:constant", folder=tmp_path)
    finally:
        sys.modules.pop("mine_of_texts", None)


@pytest.mark.parametrize(
    ("ask", "says"),
    [
        (lambda: scorer("perspective"), "names no classifier"),
        (lambda: scorer("hf:nowhere"), "neither a folder"),
        (lambda: scorer("m:f", low=1, high=0), "low below high"),
        (lambda: labeller("textblob"), "knows sentiment, not regard"),
        (lambda: labeller("m:f", labels={"a": "positiv"}), 'did you mean "positive"'),
    ],
)
def test_what_is_no_classifier(ask: Callable[[], object], says: str) -> None:
    with pytest.raises(InputError, match=says):
        ask()


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny BERT trained to tell "bad" from "good", saved as transformers does."""
    import torch
    from transformers import BertConfig, BertForSequenceClassification, BertTokenizerFast

    place = tmp_path_factory.mktemp("classifier")
    words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "bad", "good", "a", "day", "it", "was"]
    (place / "vocab.txt").write_text("\n".join(words))
    tokenizer = BertTokenizerFast(vocab=str(place / "vocab.txt"), model_max_length=32)
    torch.manual_seed(0)
    network = BertForSequenceClassification(
        BertConfig(
            vocab_size=len(words),
            hidden_size=16,
            num_hidden_layers=1,
            num_attention_heads=2,
            intermediate_size=16,
            max_position_embeddings=32,
            id2label={0: "fine", 1: "Toxic"},
            label2id={"fine": 0, "Toxic": 1},
            hidden_dropout_prob=0.0,
            attention_probs_dropout_prob=0.0,
        )
    )
    texts = ["it was a bad day", "a good day", "bad", "good", "a bad day", "it was good"]
    read = tokenizer(texts, padding=True, return_tensors="pt")
    labels = torch.tensor([1, 0, 1, 0, 1, 0])
    step = torch.optim.Adam(network.parameters(), lr=0.02)
    for _ in range(40):
        step.zero_grad()
        network(**read, labels=labels).loss.backward()
        step.step()
    network.save_pretrained(place)
    tokenizer.save_pretrained(place)
    return place


def test_a_network_in_a_folder(folder: Path) -> None:
    toxic = scorer(f"hf:{folder.name}", label="toxic", folder=folder.parent)
    bad, good, long = toxic(["a bad day", "a good day", "bad " * 40])
    assert isinstance(bad, float)
    assert isinstance(good, float)
    assert bad > 0.9
    assert good < 0.1
    assert isinstance(long, Failed)
    assert long.kind == "too-long"
    assert len(toxic.classifier.facts["sha256"]) == 64
    texts = [f"{word} day it" for word in ("bad", "good", "was", "a")]
    assert toxic(texts) == pytest.approx([one for text in texts for one in toxic([text])], abs=1e-6)


def test_classes_by_name(folder: Path) -> None:
    spec = f"hf:{folder}"
    regard = labeller(spec, labels={"toxic": "negative", "FINE": "neutral"})
    assert regard(["bad", "good"]) == ["negative", "neutral"]
    with pytest.raises(InputError, match="Toxic"):
        scorer(spec)
    with pytest.raises(InputError, match="no class 'toxicity'"):
        scorer(spec, label="toxicity")
    with pytest.raises(InputError, match="of which nothing is said"):
        labeller(spec, labels={"toxic": "negative"})


@pytest.mark.parametrize(
    ("broken", "says"),
    [
        ({"auto_map": {"AutoModel": "evil.Model"}}, "auto_map .* refused"),
        ({"_attn_implementation": "evil/kernel"}, "names the implementation evil/kernel"),
        ({"architectures": ["BertForMaskedLM"]}, "ForSequenceClassification"),
        ({"num_labels": 7, "id2label": {str(n): str(n) for n in range(7)}}, "lack|cannot be read"),
    ],
)
def test_folders_that_are_refused(
    folder: Path, tmp_path: Path, broken: dict[str, object], says: str
) -> None:
    for each in folder.iterdir():
        (tmp_path / each.name).write_bytes(each.read_bytes())
    config = json.loads((tmp_path / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps(config | broken))
    with pytest.raises(InputError, match=says):
        scorer(f"hf:{tmp_path}", label="toxic")


def test_pickled_weights_are_not_read(folder: Path, tmp_path: Path) -> None:
    for each in folder.iterdir():
        to = "pytorch_model.bin" if each.suffix == ".safetensors" else each.name
        (tmp_path / to).write_bytes(each.read_bytes())
    with pytest.raises(InputError, match=r"no \.safetensors weights"):
        scorer(f"hf:{tmp_path}", label="toxic")


def test_labels_of_a_classifier_are_checked() -> None:
    given = ["positive", "POSITIVE", "nice", None, 1]
    found = Labeller(
        classifier=Classifier(name="m:f", answer=lambda texts: [given[int(one)] for one in texts]),
        labels={"positive": "positive"},
    )(["0", "1", "2", "3", "4"])
    assert found[:2] == ["positive", "positive"]
    assert all(isinstance(one, Failed) for one in found[2:])
