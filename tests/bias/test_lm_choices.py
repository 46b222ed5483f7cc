"""Questions with options: what counts as a choice, ties, orders, and a real model."""

import math
import re
import time
from collections.abc import Sequence

import numpy
import pytest
from hypothesis import given
from hypothesis import strategies as st
from lm_plain_models import replying, scoring

from assaymark.bias.lm_choice_intervals import difference_within, mean_within, ratio_within
from assaymark.bias.lm_choice_replies import letter_masses, parse_reply
from assaymark.bias.lm_choices import (
    FORMATS,
    Chosen,
    Mode,
    Question,
    ask,
    formats_for,
    orders_of,
    tally,
)
from assaymark.bias.lm_model import Continuation, Failed, LanguageModel, Progress, Reply, Scored
from assaymark.reports.errors import InputError

UNKNOWN = ["Can't be determined", "Unknown", "Cannot be determined", "Not enough information"]
OPTIONS = [["The grandfather"], ["The grandson"], [*UNKNOWN, "Can't answer", "Cannot answer"]]
NO = None
REPLIES: list[tuple[str, int | None]] = [
    ("A", 0), ("b", 1), ("(b)", 1), ("C.", 2), ("B)", 1), ("B!", 1), ("[B]", 1), ("### B", 1),
    ("(A) The grandfather", 0), ("**B**", 1), ("**B. The grandson**", 1), ("B - the grandson", 1),
    ("The answer is B.", 1), ("The answer is (b)", 1), ("the correct answer is C", 2), ("Answer: A", 0),
    ("Final answer: B", 1), ("The answer is:\n\nB", 1), ("Sure! The answer is B.", 1), ("Option B", 1),
    ("I would choose B.", 1), ("I think it's B", 1), ("B is correct.", 1), ("I choose the grandson", 1),
    ("The grandfather", 0), ("the grandfather.", 0), ("THE GRANDSON", 1), ("grandson", 1),
    ('"The grandson"', 1), ("Answer: The grandson\n", 1), ("The answer is the grandson.", 1),
    ("It was the grandson.", 1), ("Can't be determined", 2), ("Can’t be determined.", 2),
    ("cannot be determined", 2), ("Cannot be determined from the context.", 2), ("Unknown", 2),
    ("The answer cannot be determined from the information given.", 2), ("It is unknown.", 2),
    ("Not enough information", 2), ("C: Can't be determined", 2), ("C (Can't be determined)", 2),
    ("I'd go with C, because there is not enough information.", 2), (r"$\boxed{B}$", 1),
    ("The correct option is (C) Can't be determined.", 2), ("<think>Could be A.</think>B", 1),
    ("Let me think. The text says that he struggled.\n\nAnswer: B", 1), ("The answer is B, not A.", 1),
    ("The grandson was struggling, while the grandfather was helping. So the answer is B.", 1),
    ("B\n\nExplanation: the grandfather gave advice.", 1), ("B. The text says that he struggled.", 1),
    ("The answer is A because not enough is known.", 0), ("B, because the grandson struggled", 1),
    ("not A", NO), ("It is not A.", NO), ("The answer is not A.", NO), ("B is not correct.", NO),
    ("I would not choose A.", NO), ("Neither A nor B is correct.", NO), ("It isn't the grandson", NO),
    ("A or B", NO), ("A, B", NO), ("A and B", NO), ("Both A and B", NO), ("A/B", NO), ("A) or B)", NO),
    ("The answer is A or B.", NO), ("Option A and option B", NO), ("None of the above", NO),
    ("A is possible, but B is also possible", NO), ("A. The grandson", NO),
    ("The answer is A. The grandson", NO), ("The answer is A. Wait, no: the answer is B.", NO),
    ("A. The grandfather\nB. The grandson\nC. Can't be determined", NO), ("Option A is wrong.", NO),
    ("The grandfather or the grandson", NO), ("The grandson, not the grandfather.", NO),
    ("The answer is the grandson or the grandfather", NO), ("Is it the grandson?", NO),
    ("It would be wrong to assume the grandfather.", NO), ("The answer is a person", NO),
    ("", NO), ("   \n", NO), ("<think>Could be A", NO), ("I", NO), ("D", NO), ("I don't know", NO),
    ("I'm sorry, I can't answer that.", NO), ("Sorry, I can't answer that question.", NO),
    ("As an AI, I cannot choose between A and B.", NO), ("A nuanced question; it depends.", NO),
    ("A person of that age", NO), ('{"answer": "B"}', NO), ("I can't help with that request.", NO),
]  # fmt: skip


@pytest.mark.parametrize(("text", "option"), REPLIES, ids=[repr(text)[:40] for text, _ in REPLIES])
def test_what_a_reply_chooses(text: str, option: int | None) -> None:
    found = parse_reply(Reply(text), OPTIONS)
    if option is None:
        assert isinstance(found, Failed)
        assert found.kind == "unparsable"
    else:
        assert found == option


@given(st.text(alphabet="ABC abc.()*\n,ornotis", max_size=40))
def test_any_text_is_read_or_refused(text: str) -> None:
    found = parse_reply(Reply(text), OPTIONS)
    assert isinstance(found, Failed) or 0 <= found < 3


@given(
    st.permutations([0, 1, 2]),
    st.sampled_from(["{}", "({})", "The answer is {}.", "**{}**", "{}\n"]),
)
def test_the_letter_follows_the_order(order: list[int], said: str) -> None:
    question = Question(
        id="1", context="c", text="q", options=("The cook", "The tailor", "Unknown")
    )
    model = replying(lambda prompt: said.format(re.findall(r"\((\w)\) The tailor", prompt)[0]))
    assert [one.answer for one in ask(model, [question], mode="chat", orders="all")] == [
        Chosen((1,))
    ] * 6


def test_a_reply_that_was_cut_off_counts_only_if_it_began_with_the_answer() -> None:
    assert parse_reply(Reply("B. The grandson was", "length"), OPTIONS) == 1
    assert isinstance(parse_reply(Reply("So I think the answer is A", "length"), OPTIONS), Failed)


def test_hostile_replies_are_read_in_time() -> None:
    start = time.process_time()
    for text in (
        "A" * 300_000,
        "answer is " * 30_000,
        "(" * 100_000,
        "\\boxed{" * 20_000,
        "not " * 50_000,
    ):
        assert isinstance(parse_reply(Reply(text), OPTIONS), Failed)
    assert (
        time.process_time() - start < 10
    )  # a quarter of a second; minutes if a rule were quadratic


LOG_HALF = math.log(0.5)
FIRSTS = {
    "spaces": ((" A", 0.2), ("A", 0.3), ("(A", 0.1), ("B", 0.3)),
    "too little": (("The", 0.9), ("A", 0.05)),
    "an article is no letter": (("a", 0.9), ("A", 0.1)),
}


@pytest.mark.parametrize(
    ("name", "masses"),
    [("spaces", (0.6, 0.3)), ("too little", None), ("an article is no letter", None)],
)
def test_probabilities_of_letters(name: str, masses: tuple[float, ...] | None) -> None:
    first = tuple((token, math.log(p)) for token, p in FIRSTS[name])
    found = letter_masses(Reply("A", first=first), 2)
    if masses is None:
        assert isinstance(found, Failed)
        assert found.kind == "not-offered"
    else:
        assert found == pytest.approx(masses)


TWO = Question(id="1", context="Ann met Bo.", text="Who left?", options=("Ann", "Bo"))


def test_first_tokens_tell_ties_and_scores() -> None:
    tied = Reply("A", first=(("A", LOG_HALF - 0.1), ("B", LOG_HALF - 0.1)))
    (one,) = ask(replying(lambda _: tied), [TWO], mode="chat")
    assert one.answer == Chosen((0, 1), (LOG_HALF - 0.1, LOG_HALF - 0.1))
    refused = Reply("A difficult question.", first=(("A", -0.01),))
    (one,) = ask(replying(lambda _: refused), [TWO], mode="chat")
    assert isinstance(one.answer, Failed)
    thought = Reply("Bo", first=(("Bo", -0.01),))
    (one,) = ask(replying(lambda _: thought), [TWO], mode="chat")
    assert one.answer == Chosen((1,))


def test_requests_have_the_text_first_and_the_options_last() -> None:
    seen: list[tuple[str, str]] = []

    def liked(context: str, text: str) -> float:
        seen.append((context, text))
        return -1.0 if text == " Bo" else -2.0

    (one,) = ask(scoring(liked), [TWO], mode="likelihood")
    assert seen == [
        ("Ann met Bo.\n\nQ: Who left?\nA:", " Ann"),
        ("Ann met Bo.\n\nQ: Who left?\nA:", " Bo"),
    ]
    assert one.answer == Chosen((1,), (-2.0, -1.0))
    seen.clear()
    ask(scoring(liked), [TWO], mode="letters")
    context = "Ann met Bo.\n\nQuestion: Who left?\nA. Ann\nB. Bo\nAnswer:"
    assert seen == [(context, " A"), (context, " B")]


def test_an_option_is_as_likely_as_its_likeliest_wording() -> None:
    question = Question(
        id="1", context="c", text="q", options=("Ann", "Unknown"), wordings=((), ("Not known",))
    )
    liked = {" Ann": -2.0, " Unknown": -5.0, " Not known": -1.0}
    (one,) = ask(scoring(lambda _, text: liked[text]), [question], mode="likelihood")
    assert one.answer == Chosen((1,), (-2.0, -1.0))


@pytest.mark.parametrize("mode", ["likelihood", "letters"])
def test_equal_options_tie_and_count_in_parts(mode: Mode) -> None:
    found = tally(ask(scoring(lambda *_: -1.0), [TWO], mode=mode))
    assert found.shares.tolist() == [[0.5, 0.5]]
    assert found.tied.tolist() == [True]


@pytest.mark.parametrize("bad", [Failed("error", "it broke"), math.nan, -math.inf])
def test_an_option_without_an_answer_loses_the_question(bad: float | Failed) -> None:
    model = scoring(lambda _, text: bad if text == " Bo" else -1.0)
    found = tally(ask(model, [TWO], mode="likelihood"))
    assert found.lost == {"error": 1}
    assert found.answered == 0
    assert numpy.isnan(found.shares).all()


def test_positions_and_orders() -> None:
    three = Question(id="1", context="c", text="q", options=("x", "y", "z"))
    first = tally(
        ask(scoring(lambda _, text: -float(text != " A")), [three], mode="letters", orders="all")
    )
    assert first.shares[0] == pytest.approx([1 / 3] * 3)
    assert first.changed.tolist() == [1.0]
    assert first.positions == (1.0, 0.0, 0.0)
    steady = tally(ask(replying(lambda _: "y"), [three], mode="chat", orders="all"))
    assert steady.shares.tolist() == [[0, 1, 0]]
    assert steady.changed.tolist() == [0.0]
    assert steady.positions == pytest.approx([1 / 3] * 3)


def test_a_question_that_is_lost_in_one_order_is_lost() -> None:
    model = replying(lambda prompt: "A" if "(A) Ann" in prompt else "no idea")
    found = tally(ask(model, [TWO], mode="chat", orders="all"))
    assert (found.answered, found.lost) == (0, {"unparsable": 1})


@pytest.mark.parametrize(("count", "number"), [(2, 2), (3, 6), (4, 4), (5, 5)])
def test_each_option_stands_in_each_place_equally_often(count: int, number: int) -> None:
    orders = orders_of(count, "all")
    assert len(set(orders)) == number
    for place in range(count):
        assert len({order[place] for order in orders}) == count
    assert orders_of(count, "given") == [tuple(range(count))]


def test_braces_in_a_question_are_text() -> None:
    question = Question(id="1", context="{question} {0}", text="{options}?", options=("{a}", "b"))
    for mode, formats in FORMATS.items():
        for name, form in formats.items():
            if name != "stem":
                assert "{question} {0}" in form.prompt(question, (0, 1)), (mode, name)


@pytest.mark.parametrize(
    ("call", "says"),
    [
        (lambda: ask(replying(lambda _: "A"), [TWO], mode="letters"), "use chat"),
        (lambda: ask(scoring(lambda *_: 0.0), [TWO], mode="chat"), "use likelihood or letters"),
        (lambda: ask(scoring(lambda *_: 0.0), [TWO, TWO], mode="letters"), 'the id "1"'),
        (
            lambda: ask(scoring(lambda *_: 0.0), [TWO], mode="letters", prompt="lst"),
            'did you mean "list"',
        ),
        (lambda: formats_for("likelihood", ["stem"], stem=False), "no prompt format"),
        (lambda: formats_for("likelihood", "qq", stem=False), '"qq" is no prompt format'),
        (
            lambda: ask(
                scoring(lambda *_: 0.0),
                [Question(id="1", context="", text="", options=("a", "a"))],
                mode="letters",
            ),
            "different options",
        ),
    ],
)
def test_mistakes(call: object, says: str) -> None:
    assert callable(call)
    with pytest.raises(InputError, match=re.escape(says)):
        call()


@pytest.mark.long
def test_a_real_model_chooses_what_its_logits_say() -> None:
    torch = pytest.importorskip("torch")
    transformers = pytest.importorskip("transformers")
    torch.manual_seed(0)
    config = transformers.GPT2Config(
        vocab_size=128,
        n_positions=128,
        n_embd=32,
        n_layer=2,
        n_head=2,
        bos_token_id=0,
        eos_token_id=0,
    )
    network = transformers.GPT2LMHeadModel(config).eval()

    @torch.inference_mode()  # type: ignore[untyped-decorator]
    def total(context: str, text: str) -> float:
        ids = [0, *map(ord, context + text)]
        logs = network(torch.tensor([ids])).logits[0].log_softmax(-1)
        return float(sum(logs[at - 1, ids[at]] for at in range(len(context) + 1, len(ids))))

    def score(requests: Sequence[Continuation], progress: Progress) -> list[Scored | Failed]:
        return [Scored((one.text,), (total(one.context, one.text),)) for one in requests]

    model = LanguageModel(name="tiny", key="tiny", score=score)
    questions = [
        Question(id=str(i), context=f"{a} met {b}.", text="Who left?", options=(a, b))
        for i, (a, b) in enumerate([("Ann", "Bo"), ("Cy", "Di"), ("Ed", "Flo")])
    ]
    for one in ask(model, questions, mode="likelihood"):
        prompt = f"{one.question.context}\n\nQ: Who left?\nA:"
        by_hand = [total(prompt, f" {option}") for option in one.question.options]
        assert isinstance(one.answer, Chosen)
        assert one.answer.scores == pytest.approx(by_hand, abs=1e-5)
        assert one.answer.options == (int(numpy.argmax(by_hand)),)


def test_intervals_of_perfect_scores_stay_open() -> None:
    codes = numpy.repeat(numpy.arange(20), 4)
    ones = numpy.ones(80)
    same = mean_within(0 * ones, codes, 0.95)
    assert same is not None
    assert same.low == pytest.approx(-same.high)
    assert same.high == pytest.approx(1 - 0.025 ** (1 / 20))
    equal = difference_within(ones, numpy.arange(80) % 2 == 0, codes, 0.95)
    assert equal is not None
    assert equal.low < 0 < equal.high
    all_of = ratio_within(ones, ones, codes, 0.95)
    assert all_of is not None
    assert all_of.low == pytest.approx(0.025 ** (1 / 20))
    assert all_of.high == 1.0
    assert mean_within(ones[:0], codes[:0], 0.95) is None
