"""Code of the user's as a language model: every form it may take, and every way it may answer wrongly."""

import math
import sys
from pathlib import Path

import numpy
import pytest

from assaymark.bias.lm_functions import of_function
from assaymark.bias.lm_model import Continuation, Failed, Prompt, Reply, Sampling, Scored, quiet
from assaymark.reports.errors import InputError

CODE = """
import numpy
from assaymark.bias.lm_model import LanguageModel, Reply

def generate(prompts): return [p.upper() for p in prompts]
def warm_generate(prompts, sampling): return [f"{p} {sampling.temperature}" for p in prompts]
def loglikelihood(pairs): return [-float(len(text)) for _, text in pairs]
def per_token_loglikelihood(pairs): return [numpy.array([-0.25, -0.5])] * len(pairs)
def embed(texts): return [[len(t), 1.0] if t else [float("nan")] * 2 for t in texts]

class Model:
    generate = staticmethod(generate)
    loglikelihood = staticmethod(loglikelihood)

def make(): return Model()
def whole(): return LanguageModel(name="x", key="mine", embed=lambda t, p: None, chat=True)
model = Model()
number = 7
def broken(): raise RuntimeError("no weights")
def needs(weights): return 1

def picky_loglikelihood(pairs):
    if any("bad" in text for _, text in pairs):
        raise ValueError("cannot read bad")
    return [-1.0] * len(pairs)
def picky_generate(prompts):
    if any("bad" in p for p in prompts):
        raise SystemExit(3)
    return ["ok"] * len(prompts)
def picky_embed(texts):
    if "bad" in texts:
        raise ValueError("bad")
    return [[1.0, 2.0]] * len(texts)
"""
PAIRS = [Continuation("a", " b"), Continuation("", "cde")]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "lm_code_of_mine.py").write_text(CODE)
    sys.modules.pop("lm_code_of_mine", None)
    return tmp_path


@pytest.mark.parametrize(
    ("name", "capabilities"),
    [
        ("generate", ("generate",)),
        ("warm_generate", ("generate",)),
        ("loglikelihood", ("score",)),
        ("embed", ("embed",)),
        ("Model", ("score", "generate")),
        ("model", ("score", "generate")),
        ("make", ("score", "generate")),
        ("whole", ("embed",)),
    ],
)
def test_what_a_name_can_be(name: str, capabilities: tuple[str, ...], folder: Path) -> None:
    spec = f"lm_code_of_mine:{name}"
    model = of_function(spec, folder)
    assert model.capabilities == capabilities
    assert model.name == spec
    assert len(model.facts["sha256 of its file"]) == 64


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("number", "of type int, has no generate, loglikelihood, embed"),
        ("broken", "failed, RuntimeError: no weights"),
        ("needs", "needs the arguments weights"),
        ("missing", "has no missing"),
        ("numpy.pi", "of type float, has no"),
    ],
)
def test_what_it_cannot_be(name: str, message: str, folder: Path) -> None:
    with pytest.raises(InputError, match=message):
        of_function(f"lm_code_of_mine:{name}", folder)


def test_answers(folder: Path) -> None:
    model = of_function("lm_code_of_mine:model", folder, batch=1)
    assert model.generate is not None
    assert model.score is not None
    assert model.generate([Prompt("a", "be brief"), Prompt("b")], Sampling(), quiet) == [
        Reply("BE BRIEF\n\nA"),
        Reply("B"),
    ]
    assert model.score(PAIRS, quiet) == [Scored((" b",), (-2.0,)), Scored(("cde",), (-3.0,))]
    per_token = of_function("lm_code_of_mine:per_token_loglikelihood", folder)
    assert per_token.score is not None
    assert per_token.score(PAIRS[:1], quiet) == [Scored((" b", ""), (-0.25, -0.5))]
    warm = of_function("lm_code_of_mine:warm_generate", folder)
    assert warm.generate is not None
    assert warm.generate([Prompt("a")], Sampling(temperature=0.7), quiet) == [Reply("a 0.7")]
    embedding = of_function("lm_code_of_mine:embed", folder)
    assert embedding.embed is not None
    vectors, known = embedding.embed(["abc", "", "d"], quiet)
    assert known == (True, False, True)
    assert numpy.isnan(vectors[1]).all()
    assert vectors[[0, 2]].tolist() == [[3.0, 1.0], [1.0, 1.0]]


@pytest.mark.parametrize(
    ("returned", "message"),
    [
        ("[float('nan'), -1.0]", "nan"),
        ("[None, -1.0]", "NoneType"),
        ("[True, -1.0]", "bool"),
        ("['-1', -1.0]", "str"),
        ("[0.5, -1.0]", "0.5"),
        ("[float('-inf'), -1.0]", "inf"),
        ("[[], -1.0]", "list"),
        ("[[-1.0, None], -1.0]", "None"),
        ("[{1: 2}, -1.0]", "dict"),
        ("None", "NoneType"),
        ("'ab'", "str"),
        ("5", "returned no list, TypeError"),
        ("[-1.0] * 3", "3 answers for 1"),
    ],
)
def test_wrong_answers_are_no_scores(returned: str, message: str, tmp_path: Path) -> None:
    name = f"lm_wrong_{abs(hash(returned))}"
    (tmp_path / f"{name}.py").write_text(f"def loglikelihood(pairs):\n    return {returned}\n")
    model = of_function(f"{name}:loglikelihood", tmp_path)
    assert model.score is not None
    first, *_ = model.score(PAIRS, quiet)
    assert isinstance(first, Failed)
    assert first.kind == "unparsable"
    assert message in first.reason


def test_one_bad_request_takes_no_others_with_it(folder: Path) -> None:
    asked = [Continuation("a", text) for text in ("good", "bad", "fine")]
    model = of_function("lm_code_of_mine:picky_loglikelihood", folder)
    assert model.score is not None
    found = model.score(asked, quiet)
    assert [isinstance(answer, Scored) for answer in found] == [True, False, True]
    assert found[1] == Failed("error", "the code failed, ValueError: cannot read bad")
    writing = of_function("lm_code_of_mine:picky_generate", folder)
    assert writing.generate is not None
    replies = writing.generate([Prompt("good"), Prompt("bad")], Sampling(), quiet)
    assert replies[0] == Reply("ok")
    assert isinstance(replies[1], Failed)
    embedding = of_function("lm_code_of_mine:picky_embed", folder)
    assert embedding.embed is not None
    vectors, known = embedding.embed(["good", "bad"], quiet)
    assert known == (True, False)
    assert math.isnan(vectors[1, 0])
    with pytest.raises(InputError, match="no vector at all: the code failed, ValueError: bad"):
        embedding.embed(["bad"], quiet)


def test_the_key_follows_the_file_and_the_revision(folder: Path, tmp_path: Path) -> None:
    spec = "lm_code_of_mine:generate"
    keys = {of_function(spec, folder, revision=revision).key for revision in ("", "v1", "v2")}
    assert len(keys) == 3
    assert of_function(spec, folder, revision="v1").key in keys
    del sys.modules["lm_code_of_mine"]
    (tmp_path / "lm_code_of_mine.py").write_text(CODE + "\n# changed\n")
    assert of_function(spec, folder, revision="v1").key not in keys
    assert "mine" in of_function("lm_code_of_mine:whole", folder, revision="v1").key
