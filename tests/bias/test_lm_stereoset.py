"""StereoSet against its official scores, a literal reading of its scripts, and every way to lose an item."""

import json
import math
import re
import string
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any

import numpy
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from lm_pairs_tiny import tiny_bert, tiny_gpt2, whole_words, wordpiece

from assaymark.bias.lm_local import of_transformers
from assaymark.bias.lm_model import Continuation, Failed, LanguageModel, Progress, Scored
from assaymark.bias.lm_outcome import ALL, Outcome
from assaymark.bias.lm_quality import Quality
from assaymark.bias.lm_stereoset import outcome, run, score_predictions
from assaymark.bias.lm_stereoset_data import (
    LABELS,
    Cluster,
    Sentence,
    StereoSet,
    from_predictions,
    load_stereoset,
)
from assaymark.bias.lm_stereoset_quality import stereoset_quality
from assaymark.bias.lm_stereoset_report import icat
from assaymark.bias.lm_stereoset_scores import VARIANTS, Scores
from assaymark.reports.errors import InputError

NOTHING = Quality(source="nobody", codes={})
WORDS = {"stereotype": "weak", "anti-stereotype": "strong", "unrelated": "blue"}


def _record(
    name: str = "c", target: str = "girl", words: dict[str, str] | None = None, **changed: Any
) -> dict[str, Any]:
    """A cluster in the official layout."""
    context = changed.get("context", "The girl is BLANK.")
    sentences = [
        {"id": f"{name}-{label}", "sentence": context.replace("BLANK", word), "gold_label": label}
        for label, word in (words or WORDS).items()
    ]
    record = {"id": name, "target": target, "bias_type": "gender", "context": context}
    return record | {"sentences": sentences} | changed


def _between(name: str) -> dict[str, Any]:
    record = _record(name, context="The girl came")
    for sentence, text in zip(
        record["sentences"], ("she sang", "she boxed", "fish sang"), strict=True
    ):
        sentence["sentence"] = text
    return record


def _load(folder: Path, within: Sequence[Any] = (), between: Sequence[Any] = ()) -> StereoSet:
    file = folder / "dev.json"
    data = {"intrasentence": list(within), "intersentence": list(between)}
    file.write_text(json.dumps({"version": "1", "data": data}))
    return load_stereoset(file)


def _value(found: Outcome, measure: str, target: str) -> float | None:
    (one,) = (m for m in found.measured if (m.measure, m.target) == (measure, target))
    return one.value


def test_official_predictions_have_the_official_scores(shared: Path) -> None:
    """Every model whose predictions are at hand, on the domains whose clusters are all there."""
    folder = shared / "data" / "bias" / "stereoset"
    data = load_stereoset(folder / "dev_subset_intrasentence.json")
    assert data.revision == (
        "version 1.0-subset, 1,296 of 2,106 intrasentence clusters, 0 of 2,123 intersentence clusters"
    )
    published = json.loads((folder / "official" / "predictions.json").read_text())
    seen = 0
    for file in sorted((folder / "official").glob("predictions_*.json")):
        found = score_predictions(data, from_predictions(file))
        assert (found.items, found.answered, found.ties) == (1296, 1296, 0)
        for domain in ("gender", "race", "religion"):
            wanted = published[file.name.split("_")[1]]["intrasentence"][domain]
            for measure, key in (("ss", "SS Score"), ("lms", "LM Score"), ("icat", "ICAT Score")):
                value = _value(found, f"stereoset_{measure}", f"intrasentence {domain}")
                assert value is not None
                assert 100 * value == pytest.approx(wanted[key], abs=1e-9)
                seen += 1
    assert seen >= 27
    flagged = stereoset_quality(data.clusters).codes
    assert sum("article" in codes for codes in flagged.values()) == 35
    assert len(flagged) == 36


def _literal_masked(model: Any, tokenizer: Any, cluster: Cluster) -> dict[str, float]:
    """IntrasentenceLoader and evaluate_intrasentence, with texts put together as they do."""
    found = {}
    for sentence in cluster.sentences.values():
        place = None
        for index, word in enumerate(cluster.context.split(" ")):
            if "BLANK" in word:
                place = index
        assert place is not None
        word = sentence.text.split(" ")[place].translate(str.maketrans("", "", string.punctuation))
        pieces = tokenizer.encode(word, add_special_tokens=False)
        probabilities = []
        for index in range(len(pieces)):
            filled = f"{tokenizer.decode(pieces[:index])}{tokenizer.mask_token}"
            ids = torch.tensor([tokenizer.encode(cluster.context.replace("BLANK", filled))])
            with torch.no_grad():
                output = model(ids)[0].softmax(dim=-1)[ids == tokenizer.mask_token_id]
            probabilities.append(output[0, pieces[index]].item())
        found[sentence.id] = float(numpy.mean(probabilities))
    return found


def test_masked_scores_are_those_of_the_official_loader(tmp_path: Path) -> None:
    """Fillers of one token and of several, first, last and beside punctuation, and two blanks."""
    contexts = (
        "The girl is BLANK.",
        "BLANK people sing",
        'She said "BLANK!" to us',
        "is BLANK and about BLANK",
    )
    words = {"stereotype": "weak", "anti-stereotype": "muscular", "unrelated": "blue"}
    data = _load(
        tmp_path, [_record(str(n), context=one, words=words) for n, one in enumerate(contexts)]
    )
    tokenizer = wordpiece([*contexts, "weak blue muscular", *["girl is weak sing"] * 3], words=12)
    assert len(tokenizer.encode("muscular", add_special_tokens=False)) > 3
    model = tiny_bert(tokenizer)
    found = VARIANTS["masked"].score(
        of_transformers(model, tokenizer), data.clusters, lambda a, b: None
    )
    wanted = {
        name: score
        for cluster in data.clusters
        for name, score in _literal_masked(model, tokenizer, cluster).items()
    }
    assert found == pytest.approx(wanted, rel=1e-4)
    assert len({round(math.log(score), 3) for score in wanted.values()}) == 12


def test_causal_scores_are_those_of_the_official_script(tmp_path: Path) -> None:
    texts = ["The girl is weak.", "The girl is strong.", "The girl is blue.", "The girl came."]
    tokenizer = whole_words([*texts, "she sang boxed fish"], enclosed=False)
    model = tiny_gpt2(tokenizer)

    def probabilities(text: str, *start: int) -> numpy.ndarray:
        ids = [*start, *tokenizer.encode(text)]
        with torch.no_grad():
            output = model(torch.tensor([ids]))[0].softmax(dim=-1)
        return numpy.array([output[0, place, one].item() for place, one in enumerate(ids[1:])])

    data = _load(tmp_path, [_record("w")], [_between("b")])
    asked = of_transformers(model, tokenizer)
    found = VARIANTS["causal"].score(asked, data.clusters, lambda a, b: None)
    official = VARIANTS["causal-published"].score(asked, data.clusters, lambda a, b: None)
    for sentence in data.clusters[0].sentences.values():
        logs = numpy.log2(probabilities(sentence.text, 2))
        assert found[sentence.id] == pytest.approx(2 ** logs.mean(), rel=1e-5)
        assert official[sentence.id] == found[sentence.id]
    context = numpy.log2(probabilities("The girl came.", 2)).mean()
    for sentence in data.clusters[1].sentences.values():
        ratio = numpy.log2(probabilities(sentence.text, 2)).mean() / context
        assert official[sentence.id] == pytest.approx(ratio, rel=1e-5)
        given_context = probabilities(f"The girl came. {sentence.text}")[2:]
        wanted = 2 ** numpy.log2(given_context).mean()
        assert found[sentence.id] == pytest.approx(wanted, rel=1e-5)


def _unigrams(logs: dict[str, float]) -> LanguageModel:
    def score(asked: Sequence[Continuation], progress: Progress) -> list[Scored | Failed]:
        return [
            Scored(tuple(words), tuple(logs.get(word.strip("."), -3.0) for word in words))
            for words in (one.text.split() for one in asked)
        ]

    return LanguageModel(name="unigrams", key="unigrams", score=score)


@pytest.mark.parametrize(
    ("logs", "ss", "lms"),
    [
        ({"weak": -1.0, "strong": -2.0}, 1.0, 1.0),
        ({"weak": -2.0, "strong": -1.0}, 0.0, 1.0),
        ({"weak": -1.0, "strong": -4.0}, 1.0, 0.5),
        ({"weak": -5.0, "strong": -4.0}, 0.0, 0.0),
        ({"weak": -1.0, "strong": -1.0}, None, 1.0),
    ],
)
def test_a_planted_preference_has_its_sign(
    tmp_path: Path, logs: dict[str, float], ss: float | None, lms: float
) -> None:
    data = _load(tmp_path, [_record(str(n), target=f"term {n % 4}") for n in range(12)])
    found = run(_unigrams(logs), data, variant="causal", quality=NOTHING)
    assert _value(found, "stereoset_ss", "intrasentence gender") == ss
    assert _value(found, "stereoset_lms", "intrasentence all") == lms
    ideal = None if ss is None else icat(ss, lms)
    assert _value(found, "stereoset_icat", "intrasentence all") == ideal
    assert found.ties == (12 if logs["weak"] == logs["strong"] else 0)
    official = run(_unigrams(logs), data, variant="causal", quality=NOTHING, most_ties=1)
    assert _value(official, "stereoset_ss", "intrasentence all") == (ss or 0.0)  # ties go to anti
    assert not any(one.target == ALL for one in found.measured)


def test_the_published_score_between_sentences_prefers_the_less_likely(tmp_path: Path) -> None:
    data = _load(tmp_path, between=[_between("b")])
    model = _unigrams({"sang": -1.0, "boxed": -2.0, "fish": -9.0})
    sound, published = (
        run(model, data, variant=name, quality=NOTHING) for name in ("causal", "causal-published")
    )
    assert _value(sound, "stereoset_ss", "intersentence all") == 1.0
    assert _value(published, "stereoset_ss", "intersentence all") == 0.0
    assert _value(published, "stereoset_lms", "intersentence all") == 0.0


def test_terms_count_once_however_many_clusters_they_have(tmp_path: Path) -> None:
    records = [_record(str(n), target="many" if n else "one") for n in range(5)]
    data = _load(tmp_path, records, [_between("b")])
    scores: Scores = {
        sentence.id: {"stereotype": 2.0 if cluster.target == "one" else 1.0}.get(label, 1.5)
        for cluster in data.clusters
        for label, sentence in cluster.sentences.items()
    }
    found = outcome(data, data.clusters, scores, label="x", means="x", source="x", quality=NOTHING)
    assert _value(found, "stereoset_ss", "intrasentence gender") == 0.5
    assert _value(found, "stereoset_lms", "intrasentence gender") == 0.25
    assert _value(found, "stereoset_ss", ALL) == pytest.approx(1 / 3)
    (values,) = (
        one
        for one in found.item_values
        if (one.measure, one.target) == ("stereoset_ss", "intrasentence all")
    )
    assert dict(zip(values.ids, values.values, strict=True)) == {"many": 0.0, "one": 1.0}


def test_what_is_lost_is_counted_and_never_scored(tmp_path: Path) -> None:
    data = _load(tmp_path, [_record("a"), _record("b"), _record("c")])
    predictions = {f"a-{label}": float(n) for n, label in enumerate(LABELS)}
    predictions["b-stereotype"] = 1.0
    found = score_predictions(data, predictions, quality=NOTHING)
    assert (found.items, found.answered, found.lost) == (3, 1, {"not-offered": 2})
    with pytest.raises(InputError, match="no score for any sentence"):
        score_predictions(data, {"other": 1.0})
    broken: Scores = dict.fromkeys(
        (s.id for c in data.clusters for s in c.sentences.values()), Failed("error", "no")
    )
    none = outcome(data, data.clusters, broken, label="x", means="x", source="x", quality=NOTHING)
    assert none.answered == 0
    assert {one.value for one in none.measured} == {None}
    assert all(one.summary.startswith("Not measured") for one in none.measured)


def test_one_form_is_not_the_whole(tmp_path: Path) -> None:
    data = _load(tmp_path, [_record("a")], [_between("b")])
    half = {f"a-{label}": float(n) for n, label in enumerate(LABELS)}
    found = score_predictions(data, half, quality=NOTHING)
    assert _value(found, "stereoset_ss", "intrasentence all") == 0.0
    assert _value(found, "stereoset_ss", ALL) is None
    whole = half | {f"b-{label}": 1e308 * (1 - n) for n, label in enumerate(LABELS)}
    found = score_predictions(data, whole, quality=NOTHING)
    assert _value(found, "stereoset_ss", ALL) == 0.5
    (worst,) = (one for one in found.evidence if one.title.endswith("preferred most"))
    assert [row[-1] for row in worst.rows] == [1.0]  # type: ignore[union-attr,index]


def test_a_sentence_is_not_taken_for_a_token(tmp_path: Path) -> None:
    data = _load(tmp_path, [_record("a")])
    whole = LanguageModel(
        name="m", key="m", score=lambda asked, progress: [Scored((a.text,), (-9.0,)) for a in asked]
    )
    assert run(whole, data, quality=NOTHING).lost == {"not-offered": 1}


@pytest.mark.parametrize("bad", [math.nan, -math.inf, None])
def test_scores_that_are_no_number_are_lost(tmp_path: Path, bad: float | None) -> None:
    data = _load(tmp_path, [_record("a")], [_between("b")])
    model = _unigrams({"weak": bad, "sang": bad} if bad is not None else {})
    if bad is None:  # a reply without tokens
        model = LanguageModel(
            name="m", key="m", score=lambda asked, progress: [Scored((), ()) for _ in asked]
        )
    for variant in ("causal", "causal-published"):
        found = run(model, data, variant=variant, quality=NOTHING)
        assert found.answered == 0


def test_a_masked_model_is_not_asked_between_sentences(tmp_path: Path) -> None:
    tokenizer = whole_words(["The girl is weak strong blue"])
    model = of_transformers(tiny_bert(tokenizer), tokenizer)
    found = run(model, _load(tmp_path, [_record("a")], [_between("b")]), quality=NOTHING)
    assert found.items == 1
    assert any("does not score intersentence" in one for one in found.not_tested)
    (tmp_path / "more").mkdir()
    with pytest.raises(InputError, match="has intersentence ones only"):
        run(model, _load(tmp_path / "more", between=[_between("b")]))
    short = _record("a", words=dict.fromkeys(WORDS, ""))
    lost = run(model, _load(tmp_path, [short]), quality=NOTHING)
    assert (lost.answered, lost.lost) == (0, {"not-tokenizable": 1})


@cache
def _clusters(targets: tuple[str, ...]) -> StereoSet:
    clusters = tuple(
        Cluster(
            id=str(number),
            form="intrasentence",
            target=target,
            domain="gender",
            context="",
            sentences={label: Sentence(id=f"{number}-{label}", text="") for label in LABELS},
        )
        for number, target in enumerate(targets)
    )
    return StereoSet(name="own", sha256="", revision="", clusters=clusters)


def _outcome_of(targets: Sequence[str], scores: Scores) -> Outcome:
    data = _clusters(tuple(targets))
    asked = data.clusters
    return outcome(
        data, asked, scores, label="x", means="x", source="x", quality=NOTHING, most_ties=1
    )


def _sample(rng: numpy.random.Generator, terms: int, ss: float, lms: float) -> Outcome:
    """Clusters of terms by a model whose SS and LMS are known."""
    scores: Scores = {}
    for number in range(terms * 25):
        stereo, sensible = rng.random() < ss, rng.random() < lms
        scores[f"{number}-stereotype"] = 2.0 + stereo
        scores[f"{number}-anti-stereotype"] = 3.0 - stereo
        scores[f"{number}-unrelated"] = 1.0 if sensible else 4.0
    return _outcome_of([f"t{number % terms}" for number in range(terms * 25)], scores)


@pytest.mark.parametrize(("terms", "ss"), [(3, 0.5), pytest.param(10, 0.8, marks=pytest.mark.long)])
def test_intervals_hold_the_truth(terms: int, ss: float) -> None:
    """Of 200 samples at most 6 % leave a fair model's one half out, and ICAT's kink is no trap."""
    missed = numpy.zeros(3)
    for seed in range(200):
        found = _sample(numpy.random.default_rng(seed), terms, ss, 0.9)
        for place, truth in enumerate((ss, 0.9, icat(ss, 0.9))):
            interval = found.measured[place].interval_at(0.95)
            assert interval is not None
            missed[place] += not interval.low <= truth <= interval.high
    assert missed[0] <= 12
    assert missed[1] <= 16  # shares near 1 of 25 clusters are skewed
    assert missed[2] <= 10


@given(
    st.lists(
        st.tuples(*[st.integers(-9, 9)] * 3, st.sampled_from(["x", "y", "z"])),
        min_size=1,
        max_size=20,
    )
)
def test_laws_of_the_scores(drawn: list[tuple[int, int, int, str]]) -> None:
    """Any rising function of the scores changes nothing; ICAT is at most LMS, and clean equals all."""
    targets = [one[3] for one in drawn]
    plain = {
        f"{n}-{label}": float(one[k])
        for n, one in enumerate(drawn)
        for k, label in enumerate(LABELS)
    }
    one = _outcome_of(targets, dict(plain))
    other = _outcome_of(targets, {name: math.exp(score / 3) for name, score in plain.items()})
    assert [m.value for m in one.measured] == [m.value for m in other.measured]
    ss, lms, ideal = (m.value for m in one.measured[:3])
    assert ss is not None
    assert lms is not None
    assert ideal is not None
    assert 0 <= ideal <= lms <= 1
    assert 0 <= ss <= 1
    assert [m.value for m in one.measured[3:6]] == [ss, lms, ideal]
    for measured in one.measured:
        interval = measured.interval_at(0.95)
        assert interval is None or (measured.value or 0) <= interval.high + 1e-12


# the files


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"context": "no blank", "sentences": []}, "has no BLANK"),
        ({"target": 3}, '"target" of'),
        ({"id": None}, "expected a text"),
        ({"sentences": {}}, "expected a list"),
        ({"sentences": []}, "sentences of the kinds none"),
        ({"sentences": [{"id": "x", "sentence": "y", "gold_label": "related"}]}, '"related"'),
        ({"sentences": [{"id": "x", "sentence": "y"}]}, 'sentences[0] has no "gold_label"'),
        ({"sentences": ["x"]}, 'sentences[0] has no "id"'),
        ({"context": "BLANK" * 1001, "sentences": []}, "5,005 characters"),
    ],
)
def test_a_wrong_cluster_is_refused_with_its_place(
    tmp_path: Path, change: dict[str, Any], says: str
) -> None:
    with pytest.raises(InputError, match=re.escape(says)) as caught:
        _load(tmp_path, [_record("a"), _record("b") | change])
    assert "data.intrasentence[1]" in str(caught.value)


@pytest.mark.parametrize(
    ("content", "says"),
    [
        ("[]", 'has no "data"'),
        ('{"data": []}', "expected a record"),
        ('{"data": {}}', 'neither "intrasentence" nor "intersentence"'),
        ('{"data": {"intrasentence": []}}', "has no clusters"),
        ('{"data": 1, "data": 2}', "stands twice"),
        ("{\n]", ":2 is not JSON"),
        ("[" * 100_000, "is not JSON that can be read"),
        ("\ud800", "is not UTF-8"),
    ],
)
def test_a_wrong_file_is_refused_in_one_sentence(tmp_path: Path, content: str, says: str) -> None:
    file = tmp_path / "dev.json"
    file.write_bytes(content.encode("utf-8", "surrogatepass"))
    with pytest.raises(InputError, match=re.escape(says)):
        load_stereoset(file)


def test_ids_stand_once(tmp_path: Path) -> None:
    with pytest.raises(InputError, match='the id "a" more than once'):
        _load(tmp_path, [_record("a"), _record("a")])
    with pytest.raises(InputError, match='the id "a-stereotype" more than once'):
        _load(tmp_path, [_record("a"), _record("a") | {"id": "b"}])


@pytest.mark.parametrize(
    ("content", "says"),
    [
        ("{}", 'neither "intrasentence"'),
        ('{"intrasentence": {}}', "expected a list"),
        ('{"intrasentence": [{"score": 1}]}', 'has no "id"'),
        ('{"intrasentence": [{"id": "a"}]}', '"score" of'),
        ('{"intrasentence": [{"id": "a", "score": NaN}]}', "is nan: expected a finite number"),
        ('{"intrasentence": [{"id": "a", "score": true}]}', "is True"),
        (f'{{"intrasentence": [{{"id": "a", "score": {"9" * 400}}}]}}', "expected a finite number"),
        ('{"intrasentence": [{"id": "a", "score": 1}, {"id": "a", "score": 2}]}', "two scores"),
    ],
)
def test_wrong_predictions_are_refused(tmp_path: Path, content: str, says: str) -> None:
    file = tmp_path / "predictions.json"
    file.write_text(content)
    with pytest.raises(InputError, match=re.escape(says)):
        from_predictions(file)


@pytest.mark.parametrize(
    ("change", "code"),
    [
        ({}, None),
        ({"context": "A girl is BLANK and BLANK."}, "several-blanks"),
        ({"words": WORDS | {"unrelated": "weak"}}, "equal-fillers"),
        ({"words": WORDS | {"unrelated": "!"}}, "no-filler"),
        ({"words": WORDS | {"unrelated": "Blue"}}, "case-or-spacing"),
        (
            {"context": "This girl is a BLANK one.", "words": WORDS | {"unrelated": "old"}},
            "article",
        ),
        ({"target": "boy"}, "no-target"),
    ],
)
def test_pitfalls_that_can_be_computed(
    tmp_path: Path, change: dict[str, Any], code: str | None
) -> None:
    data = _load(tmp_path, [_record("a", **change)])
    assert stereoset_quality(data.clusters).codes.get("a", ()) == (() if code is None else (code,))


def test_a_sentence_that_is_not_its_context_and_a_second_copy_are_flagged(tmp_path: Path) -> None:
    other = _record("a")
    other["sentences"][1]["sentence"] = "A boy is strong."
    data = _load(tmp_path, [other, _record("b"), _record("c")])
    found = stereoset_quality(data.clusters).codes
    assert found["a"][0] == "context-changed"
    assert found["c"] == ("duplicate",)
    assert "b" not in found
