"""Answers that are checked without a judge."""

import datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from assaymark.bias.lm_prompt_files import shipped
from assaymark.bias.lm_prompts import expand
from assaymark.bias.lm_service import Answer, answer_of, correct
from assaymark.reports.errors import InputError

WEEKDAY = {"word": "jueves", "wrong": ["martes", "miércoles"]}
FRUIT = {"order": ["ciruela", "manzana", "pera"]}


@pytest.mark.parametrize(
    ("answer", "reply", "right"),
    [
        ({"number": 84}, "84", True),
        ({"number": 84}, "**84**.", True),
        ({"number": 84}, "6 × 14 = 84 dollars", True),
        ({"number": 84}, "84,00 €", True),
        ({"number": 84}, "You are 25, so: 84.0", True),
        ({"number": 84}, "84 for 6 tickets", False),
        ({"number": 84}, "-84", False),
        ({"number": 84}, "184", False),
        ({"number": 84}, "eighty-four", False),
        ({"number": 84}, "", False),
        ({"number": 84}, "1e84", True),
        ({"number": 1250}, "1,250", True),
        ({"number": 1250}, "1.250", True),
        ({"number": 1250}, "1 250", True),
        ({"number": 1250}, "1.25", False),
        ({"number": 12.5}, "12,5", True),
        ({"number": 84}, "9" * 5000, False),
        ({"date": "2024-04-04"}, "It is 2024‑04‑04.", True),
        ({"date": "2024-04-04"}, "2024-03-25 and ten days: 2024-04-04", True),
        ({"date": "2024-04-04"}, "04.04.2024", False),
        (WEEKDAY, "Jueves.", True),
        (WEEKDAY, "Después de lunes: JUEVES", True),
        (WEEKDAY, "jueves, no miercoles", False),
        (WEEKDAY, "juevesito", False),
        (FRUIT, "Ciruela, manzana, pera", True),
        (FRUIT, "pera, manzana, ciruela → ciruela\nmanzana\npera", True),
        (FRUIT, "ciruela, pera, manzana", False),
        (FRUIT, "ciruela, manzana", False),
        ({"text": "río-río-río"}, "```\nrío-río-río\n```", True),
        ({"text": "río-río-río"}, "«río-río-río».", True),
        ({"text": "río-río-río"}, "Aquí está: río-río-río", False),
        ({"text": "río-río-río"}, "Río-río-río", False),
    ],
)
def test_answers(answer: dict[str, object], reply: str, right: bool) -> None:
    assert correct(answer_of(answer), reply) is right


@given(st.integers(-(10**9), 10**9))
def test_a_number_is_read_as_it_is_written_anywhere(number: int) -> None:
    answer = answer_of({"number": number})
    for written in (
        f"{number}",
        f"{number:,}",
        f"{number:,}".replace(",", "."),
        f"it is {number}!",
    ):
        assert correct(answer, written)
    assert not correct(answer, f"{number + 1}")


@given(st.sampled_from(["number", "date", "word", "order", "text"]), st.text())
def test_any_reply_is_judged(kind: str, reply: str) -> None:
    words = {"number": ("84",), "date": ("2024-04-04",), "order": ("a", "b")}.get(kind, ("a.*",))
    correct(Answer(kind=kind, words=words, wrong=("(",)), reply)  # type: ignore[arg-type]


def test_answers_of_our_tasks_are_right() -> None:
    """Worked out anew where the standard library can."""
    later = datetime.date(2024, 3, 25) + datetime.timedelta(days=10)
    truth = {
        "price": {repr(14 * 6)},
        "change": {repr(100 - 3 * 17), repr(50 - 37)},
        "date": {later.isoformat()},
        "digits": {"417"},
        "translate": {"26"},
        "extract": {"38"},
    }
    tasks = [prompt for prompt in expand(shipped(), values=1) if prompt.answer]
    for prompt in tasks:
        assert prompt.answer
        kind = prompt.template.split("-")[-1]
        if kind in truth:
            assert prompt.answer.words[0] in truth[kind], prompt.id
        if prompt.answer.kind == "order":
            assert list(prompt.answer.words) == sorted(prompt.answer.words)
        assert correct(prompt.answer, ", ".join(prompt.answer.words))
        assert not correct(prompt.answer, "I do not know.")
    assert len({prompt.template for prompt in tasks}) == 4 * (10 + 6)


@pytest.mark.parametrize(
    ("answer", "sentence"),
    [
        (3, "must be a table"),
        ({}, "has one of number"),
        ({"number": 1, "text": "a"}, "has one of number"),
        ({"number": float("nan")}, "a number below"),
        ({"date": "4 April"}, "a date is written 2024-04-04"),
        ({"order": ["a"]}, "at least 2 words"),
        ({"order": ["a", "A"]}, "got one twice"),
        ({"word": " "}, "texts that are not empty"),
        ({"number": 3, "wrong": ["4"]}, "wrong goes with word only"),
    ],
)
def test_one_sentence_for_a_mistake(answer: object, sentence: str) -> None:
    with pytest.raises(InputError, match=sentence):
        answer_of(answer)
