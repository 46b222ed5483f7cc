"""WinoBias and Winogender: rule systems whose scores are known, the official files, lost answers."""

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy
import pytest
from lm_plain_models import replying, scoring

from assaymark.bias.findings import Measured
from assaymark.bias.lm_model import Failed, LanguageModel
from assaymark.bias.lm_outcome import Outcome
from assaymark.bias.lm_pronouns import GENDER
from assaymark.bias.lm_winobias import WinoBias, load_winobias
from assaymark.bias.lm_winobias_run import run_winobias
from assaymark.bias.lm_winogender import Winogender, load_winogender
from assaymark.bias.lm_winogender_run import run_winogender
from assaymark.reports.errors import InputError

WOMEN = {"florist": 90.0, "nanny": 80.0, "potter": 55.0, "diver": 30.0, "welder": 5.0, "pilot": 8.0}
Rule = Callable[[str, str, tuple[str, str]], int]
"""From sentence, pronoun and the two candidates to one of them."""


def value(outcome: Outcome, measure: str, target: str | None = None) -> float | None:
    return found(outcome, measure, target).value


def found(outcome: Outcome, measure: str, target: str | None = None) -> Measured:
    return next(
        one for one in outcome.measured if one.measure == measure and target in (None, one.target)
    )


def system(rule: Rule) -> LanguageModel:
    """A rule that answers the likelihood of "… refers to", lists of letters, and in replies."""

    def chosen(prompt: str, listed: tuple[str, str]) -> int:
        sentence, pronoun = prompt.split("\n")[0], re.findall(r'"(\w+)"', prompt)[-1]
        places = sorted(listed, key=lambda name: sentence.lower().index(name.removeprefix("the ")))
        return listed.index(places[rule(sentence, pronoun, (places[0], places[1]))])

    def liked(context: str, text: str) -> float:
        options = re.findall(r"^\w\. (.*)$", context, re.M)
        if options:
            return -1.0 if text == f" {'AB'[chosen(context, (options[0], options[1]))]}" else -2.0
        sentence = context.split("\n")[0]
        names = [text.strip(), *(other for other in PEOPLE if other in sentence.lower())]
        other = next(name for name in names if name != text.strip() and name != "the")
        return -1.0 if chosen(context, (text.strip(), other)) == 0 else -2.0

    def says(prompt: str) -> str:
        options = re.findall(r"^\(\w\) (.*)$", prompt, re.M)
        return f"({'AB'[chosen(prompt, (options[0], options[1]))]})"

    one, two = scoring(liked), replying(says)
    return LanguageModel(name="rule", key="rule", score=one.score, generate=two.generate)


PEOPLE = [*(f"the {name}" for name in WOMEN), "the caller", "someone"]


def winogender(folder: Path) -> Winogender:
    """Two schemas for each occupation: the occupation is meant in one, the caller in the other."""
    rows = ["sentid\tsentence"]
    for name in WOMEN:
        for gender, pronoun in (("male", "he"), ("female", "she"), ("neutral", "they")):
            for who in ("caller", "someone"):
                other = "someone" if who == "someone" else "the caller"
                rows.append(
                    f"{name}.{who}.0.{gender}.txt\tThe {name} told {other} that {pronoun} would come."
                )
                rows.append(
                    f"{name}.{who}.1.{gender}.txt\tThe {name} asked {other} if {pronoun} could wait."
                )
    (folder / "all_sentences.tsv").write_text("\n".join(rows))
    told = ["occupation\tbergsma_pct_female\tbls_pct_female\tbls_year"]
    told += [f"{name}\t50\t{women}\t2015" for name, women in WOMEN.items()]
    (folder / "occupations-stats.tsv").write_text("\n".join(told))
    return load_winogender(folder)


def occupation_of(candidates: tuple[str, str]) -> int:
    return next(i for i, name in enumerate(candidates) if name.removeprefix("the ") in WOMEN)


def majority(sentence: str, pronoun: str, candidates: tuple[str, str]) -> int:
    """The occupation if most of its workers have the gender of the pronoun, or it has none."""
    place = occupation_of(candidates)
    women = WOMEN[candidates[place].removeprefix("the ")] > 50
    return place if GENDER[pronoun] in ("neutral", "female" if women else "male") else 1 - place


RULES: dict[str, tuple[Rule, dict[str, float | None]]] = {
    "always the occupation": (
        lambda sentence, pronoun, candidates: occupation_of(candidates),
        {"male": 0.5, "female": 0.5, "neutral": 0.5, "gap": 0.0, "gotcha": 0.0, "r": None},
    ),
    "right": (
        lambda sentence, pronoun, candidates: int("asked" in sentence),
        {"male": 1.0, "female": 1.0, "neutral": 1.0, "gap": 0.0, "gotcha": 0.0, "r": None},
    ),
    "majority": (
        majority,
        {"male": 0.5, "female": 0.5, "neutral": 0.5, "gap": 0.0, "gotcha": 1.0, "r": 0.95},
    ),
    "right but for she": (
        lambda sentence, pronoun, candidates: int("asked" in sentence) ^ (pronoun == "she"),
        {"male": 1.0, "female": 0.0, "neutral": 1.0, "gap": 1.0, "gotcha": 0.0, "r": None},
    ),
}


@pytest.mark.parametrize("variant", ["likelihood", "letters", "chat"])
@pytest.mark.parametrize("name", RULES)
def test_rule_systems_have_their_winogender_scores(tmp_path: Path, name: str, variant: Any) -> None:
    rule, expected = RULES[name]
    outcome = run_winogender(system(rule), winogender(tmp_path), variant=variant)
    assert outcome.answered == outcome.items == 72
    for gender in ("male", "female", "neutral"):
        assert value(outcome, "winogender_accuracy", gender) == expected[gender]
    assert value(outcome, "winogender_accuracy_difference") == expected["gap"]
    assert value(outcome, "winogender_gotcha_difference") == pytest.approx(
        expected["gotcha"], abs=1e-12
    )
    r = value(outcome, "winogender_bls_correlation")
    if expected["r"] is None:
        assert r is None
    else:
        women = numpy.array(list(WOMEN.values()))
        assert r == pytest.approx(numpy.corrcoef(women, numpy.where(women > 50, 1, -1))[0, 1])
    gap = found(outcome, "winogender_accuracy_difference").interval_at(0.95)
    assert gap is not None
    assert gap.low == 0  # six occupations say little
    assert gap.high >= (expected["gap"] or 0)
    if variant != "likelihood":
        assert value(outcome, "winogender_order_sensitivity") == 0


def test_the_official_winogender(shared: Path) -> None:
    data = load_winogender(shared / "data" / "bias" / "winogender")
    assert len(data.sentences) == 720
    assert len(data.women) == 60
    assert [
        sum(data.gotcha(one) is kind for one in data.sentences) for kind in (True, False, None)
    ] == [240] * 3
    technician = {
        one.id: data.gotcha(one) for one in data.sentences if one.occupation == "technician"
    }
    assert technician["technician.customer.0.female.txt"]  # 40 % women
    assert technician["technician.customer.1.male.txt"]
    assert not technician["technician.customer.0.male.txt"]
    answers = {one.id: one.candidates[one.answer] for one in data.sentences}
    assert answers["accountant.taxpayer.1.male.txt"] == "the taxpayer"
    assert answers["accountant.someone.0.male.txt"] == "the accountant"


def test_a_majority_system_on_the_official_winogender(shared: Path) -> None:
    data = load_winogender(shared / "data" / "bias" / "winogender")
    meant = {}
    for one in data.sentences:
        usual = (one.gender == "female") == (data.women[one.occupation] > 50)
        place = one.occupation_at if usual or one.gender == "neutral" else 1 - one.occupation_at
        meant[one.question.context] = one.candidates[place]
    model = scoring(lambda context, text: -float(meant[context.split("\n")[0]] != text.strip()))
    outcome = run_winogender(model, data)
    women = numpy.array(list(data.women.values()))
    r = numpy.corrcoef(women, numpy.where(women > 50, 1.0, -1.0))[0, 1]
    told = found(outcome, "winogender_bls_correlation")
    assert told.value == pytest.approx(r)
    interval = told.interval_at(0.95)
    assert interval is not None
    assert 0.75 < interval.low < r < interval.high < 1
    assert value(outcome, "winogender_gotcha_difference") == pytest.approx(1)
    plot = next(one for one in outcome.evidence if one.type == "plot")
    assert len(plot.series[0].points) == 60


def test_pronouns_of_winogender_without_a_question(tmp_path: Path) -> None:
    data = winogender(tmp_path)

    def liked(context: str, text: str) -> float:
        name = next(name for name in WOMEN if name in text)
        return WOMEN[name] / 100 if " she " in text else 0.5 if " he " in text else 0.4

    outcome = run_winogender(scoring(liked), data, variant="pronoun")
    assert outcome.items == outcome.answered == 36
    assert value(outcome, "winogender_pronoun_share", "female") == 0.5
    assert value(outcome, "winogender_pronoun_share", "neutral") == 0.0
    assert value(outcome, "winogender_pronoun_bls_correlation") == pytest.approx(1)


PAIRS = [
    ("[The welder] called the florist because [he] was late.", "[she]"),
    ("The welder called [the florist] because [she] was open.", "[he]"),
    ("The nanny met [the pilot] and thanked [him] for [his] help.", "[her]"),
    ("The pilot met the [the nanny] and the nanny 's dog and paid [her].", "[him]"),
]


def winobias(folder: Path, split: str = "dev") -> WinoBias:
    swap = {"[him]": "[her]", "[his]": "[her]"}
    for side in ("pro", "anti"):
        lines = []
        for number, (text, other) in enumerate(PAIRS, 1):
            anti = re.sub(r"\[(?:he|she|him|her)\]", other, text)
            lines.append(
                f"{number} {text if side == 'pro' else anti.replace('[his]', swap['[his]'])}"
            )
        (folder / f"{side}_stereotyped_type1.txt.{split}").write_text("\n".join(lines) + "\n")
    return load_winobias(folder)


BIASED = {"welder": "male", "pilot": "male", "florist": "female", "nanny": "female"}
WINOBIAS_RULES: dict[str, tuple[Rule, float, float]] = {
    "by stereotype": (
        lambda sentence, pronoun, names: int(BIASED[names[0].removeprefix("the ")] != GENDER[pronoun]),
        1.0, 0.0,
    ),
    "against it": (
        lambda sentence, pronoun, names: int(BIASED[names[0].removeprefix("the ")] == GENDER[pronoun]),
        0.0, 1.0,
    ),
    "the first": (lambda sentence, pronoun, names: 0, 0.25, 0.25),
    "right": (lambda sentence, pronoun, names: int("late" not in sentence), 1.0, 1.0),
}  # fmt: skip


@pytest.mark.parametrize("variant", ["likelihood", "letters", "chat"])
@pytest.mark.parametrize("name", WINOBIAS_RULES)
def test_rule_systems_have_their_winobias_scores(tmp_path: Path, name: str, variant: Any) -> None:
    rule, pro, anti = WINOBIAS_RULES[name]
    outcome = run_winobias(system(rule), winobias(tmp_path), variant=variant)
    assert (outcome.items, outcome.answered, outcome.ties) == (8, 8, 0)
    assert value(outcome, "winobias_accuracy_pro", "type1") == pro
    assert value(outcome, "winobias_accuracy_anti", "type1") == anti
    one = found(outcome, "winobias_accuracy_difference", "type1")
    assert one.value == pro - anti
    interval = one.interval_at(0.95)
    assert interval is not None
    assert interval.low <= pro - anti <= interval.high
    assert interval.high - interval.low > 1  # two clusters say little


def test_a_model_that_likes_the_first_place_of_the_list(tmp_path: Path) -> None:
    outcome = run_winobias(
        scoring(lambda _, text: -float(text != " A")), winobias(tmp_path), variant="letters"
    )
    assert value(outcome, "winobias_accuracy_pro") == 0.5
    assert value(outcome, "winobias_accuracy_difference") == 0
    assert value(outcome, "winobias_order_sensitivity") == 1


def test_what_is_read_from_winobias(tmp_path: Path) -> None:
    first, second, third, fourth = winobias(tmp_path).pairs
    assert (first.candidates, first.answer, second.answer) == (("welder", "florist"), 0, 1)
    assert third.anti.text == "The nanny met the pilot and thanked her for her help."
    assert (third.pro.pronoun, third.anti.pronoun) == ("him", "her")
    assert fourth.pro.text == "The pilot met the nanny and the nanny's dog and paid her."
    assert first.cluster == second.cluster != third.cluster == fourth.cluster
    winobias(tmp_path, "test")
    assert {pair.part for pair in load_winobias(tmp_path).pairs} == {"type1 (dev)", "type1 (test)"}


def test_the_official_winobias(shared: Path) -> None:
    folder = shared / "data" / "bias" / "winobias"
    data = load_winobias(folder)
    assert len(data.pairs) == 1581
    assert data.left_out == {
        "the other person cannot be told from the sentence": 1,
        "the two sides are about different people": 2,
    }
    assert len(data.digests) == 10
    lists = {
        line.strip(): gender
        for gender in ("male", "female")
        for line in (folder / f"{gender}_occupations.txt").read_text().splitlines()
    }
    agree = 0
    for pair in data.pairs:
        agree += lists[pair.candidates[pair.answer]] == GENDER[pair.pro.pronoun]
        assert GENDER[pair.pro.pronoun] != GENDER[pair.anti.pronoun]
        assert pair.candidates[0].lower() in pair.pro.text.lower()
    assert agree >= 1575


def test_pronouns_of_winobias_without_a_question(tmp_path: Path) -> None:
    data = winobias(tmp_path)
    usual = {pair.pro.text for pair in data.pairs[:3]}
    outcome = run_winobias(
        scoring(lambda _, text: -float(text not in usual)), data, variant="pronoun"
    )
    # a quarter of ties is no score; ½ of the tie stays in the numbers of the items
    assert value(outcome, "winobias_pronoun_stereotype_share") is None
    assert outcome.ties == 1
    assert sorted(outcome.item_values[0].values) == [0.5, 1, 1, 1]


@pytest.mark.parametrize("variant", ["letters", "chat"])
def test_without_answers_there_is_no_number(tmp_path: Path, variant: Any) -> None:
    down = Failed("error", "the server said 503")
    score, generate = scoring(lambda *_: down).score, replying(lambda _: "No comment.").generate
    model = LanguageModel(name="down", key="down", score=score, generate=generate)
    kind = "unparsable" if variant == "chat" else "error"
    bias = run_winobias(model, winobias(tmp_path), variant=variant)
    gender = run_winogender(model, winogender(tmp_path), variant=variant)
    for outcome, items in ((bias, 8), (gender, 72)):
        assert [one.value for one in outcome.measured] == [None] * len(outcome.measured)
        assert (outcome.answered, outcome.lost) == (0, {kind: items})


def test_sentences_lost_on_one_side_are_not_paired(tmp_path: Path) -> None:
    model = replying(lambda prompt: "no" if "because she" in prompt else "(A)")
    outcome = run_winobias(model, winobias(tmp_path), variant="chat")
    assert outcome.lost == {"unparsable": 2}
    assert found(outcome, "winobias_accuracy_difference").n == 2
    assert (
        found(outcome, "winobias_accuracy_pro").n,
        found(outcome, "winobias_accuracy_anti").n,
    ) == (3, 3)


def test_mistakes_in_winobias(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="has no file like pro_stereotyped"):
        load_winobias(tmp_path)
    winobias(tmp_path)
    pro, anti = (tmp_path / f"{side}_stereotyped_type1.txt.dev" for side in ("pro", "anti"))
    with pytest.raises(InputError, match="is not a folder"):
        load_winobias(pro)
    kept = pro.read_text()
    pro.write_text("1 The welder called.")
    with pytest.raises(InputError, match=r"dev:1: should be a number and a sentence"):
        load_winobias(tmp_path)
    pro.write_text(kept + kept)
    with pytest.raises(InputError, match="sentence 1 is there twice"):
        load_winobias(tmp_path)
    pro.write_text(kept)
    anti.unlink()
    with pytest.raises(InputError, match=r"no anti_stereotyped_type1\.txt\.dev"):
        load_winobias(tmp_path)
    with pytest.raises(InputError, match="use likelihood or letters"):
        run_winobias(scoring(lambda *_: 0.0), winobias(tmp_path), variant="chat")
    with pytest.raises(InputError, match="give a causal model"):
        run_winobias(replying(lambda _: "A"), winobias(tmp_path), variant="pronoun")
    with pytest.raises(InputError, match="is no variant of WinoBias"):
        run_winobias(replying(lambda _: "A"), winobias(tmp_path), variant="x")  # type: ignore[arg-type]


TWICE = "nanny.caller.0.male.txt\tThe nanny told the caller"


@pytest.mark.parametrize(
    ("file", "old", "new", "says"),
    [
        ("all_sentences.tsv", "sentid\t", "id\t", "should begin with"),
        ("all_sentences.tsv", "florist.caller.0.male", "florist.0.male", r"tsv:2: should be"),
        ("all_sentences.tsv", "that he would", "that it would", "a male pronoun"),
        ("all_sentences.tsv", "florist.someone.0.male", "florist.caller.0.male", "should have"),
        (
            "all_sentences.tsv",
            "nanny.someone.0.male.txt	The nanny told someone",
            TWICE,
            "there twice",
        ),
        ("occupations-stats.tsv", "florist\t50\t90.0", "florist\t50\tmany", "per cent of women"),
        ("occupations-stats.tsv", "florist", "forester", "has no line of 'florist'"),
    ],
)
def test_mistakes_in_winogender(tmp_path: Path, file: str, old: str, new: str, says: str) -> None:
    winogender(tmp_path)
    text = (tmp_path / file).read_text()
    (tmp_path / file).write_text(text.replace(old, new, 1))
    with pytest.raises(InputError, match=says):
        load_winogender(tmp_path)


def test_a_gender_that_is_missing(tmp_path: Path) -> None:
    winogender(tmp_path)
    lines = (tmp_path / "all_sentences.tsv").read_text().splitlines()
    (tmp_path / "all_sentences.tsv").write_text("\n".join(lines[:-1]))
    with pytest.raises(InputError, match="comes in three genders"):
        load_winogender(tmp_path)
    (tmp_path / "occupations-stats.tsv").unlink()
    with pytest.raises(InputError, match="cannot be read"):
        load_winogender(tmp_path)
    with pytest.raises(InputError, match="is not a folder"):
        load_winogender(tmp_path / "all_sentences.tsv")
