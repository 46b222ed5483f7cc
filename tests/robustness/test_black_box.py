"""Models that only answer: over a real connection, from a function, and with a hidden gradient."""

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import server
import torch
from server import serving

from assaymark.reports.errors import InputError
from assaymark.robustness import endpoint, images, models
from assaymark.robustness.endpoint import Endpoint
from assaymark.robustness.models import Answers, Preprocessing

pytestmark = pytest.mark.filterwarnings("ignore:Please import:DeprecationWarning")

SOURCE = """
import numpy, torch, server
network = server.digits()
seen = []

def scores(x):
    seen.append(x)
    with torch.no_grad():
        return network(torch.from_numpy(x)).numpy()

def probabilities(x):
    with torch.no_grad():
        return network(torch.from_numpy(x)).softmax(1).numpy()

def labels(x):
    return scores(x).argmax(1)

def listed(x):
    return scores(x).tolist()

def build():
    return server.digits()

def text(x): return "a digit"
def ragged(x): return [[1.0, 2.0], [1.0]] * 2
def single(x): return scores(x)[:, :1]
def fewer(x): return scores(x)[1:]
def cube(x): return x
def nan(x): return scores(x) * numpy.nan
def halves(x): return scores(x).argmax(1) + 0.5
def eleventh(x): return scores(x).argmax(1) + 10
def fails(x): raise RuntimeError("out of order")
"""


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[Path]:
    (tmp_path / "service.py").write_text(SOURCE)
    yield tmp_path
    sys.modules.pop("service", None)


@pytest.fixture(scope="module")
def data() -> images.ImageData:
    return images.load("demo:digits")


@pytest.fixture(autouse=True)
def no_pause(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(endpoint, "_FIRST_PAUSE", 0.01)


def truth(x: torch.Tensor) -> torch.Tensor:
    with torch.no_grad():
        logits: torch.Tensor = server.digits()(x)
    return logits


def softmax(logits: torch.Tensor) -> Any:
    return {"probabilities": logits.softmax(1).tolist()}


SERVERS: list[tuple[str, dict[str, Any], dict[str, Any], float]] = [
    ("numbers", {}, {}, 1e-5),
    ("png", {}, {"images": "png"}, 1e-5),  # 8 bits hold these scans up to rounding, tested below
    ("layout", {}, {"layout": "channels-last"}, 1e-5),
    ("request", {"request": "instances"}, {"request": "instances"}, 1e-5),
    ("list", {"answer": lambda z: z.tolist()}, {}, 1e-5),
    ("path", {"answer": lambda z: {"out": [{"data": z.tolist()}]}}, {"answer": "out.0.data"}, 1e-5),
]


@pytest.mark.parametrize(
    ("serve", "asked", "tolerance"), [s[1:] for s in SERVERS], ids=[s[0] for s in SERVERS]
)
def test_a_server_answers_as_its_model_does(
    serve: dict[str, Any], asked: dict[str, Any], tolerance: float, data: images.ImageData
) -> None:
    with serving(**serve) as state:
        answers = Answers(endpoint=Endpoint(**asked))
        model = models.load(state.url, data.images[:4], answers=answers)
        x = data.images[:20]
        seen = (x * 255).round() / 255 if asked.get("images") == "png" else x
        assert torch.allclose(model.module(x), truth(seen), atol=tolerance)
        assert model.classes == 10
        assert model.access == "scores"
        assert model.budget is not None
        assert model.budget.spent == state.images == 24
        assert ("8 bits" in model.note) == (asked.get("images") == "png")


def test_probabilities_become_logits_of_the_same_order(data: images.ImageData) -> None:
    x = data.images[:50]
    with serving(answer=softmax) as state:
        logits = models.load(state.url, x[:4]).module(x)
    assert torch.allclose(logits, truth(x).log_softmax(1), atol=1e-4)


@pytest.mark.parametrize(
    ("answer", "names"),
    [
        (lambda z: {"labels": z.argmax(1).tolist()}, None),
        (lambda z: {"labels": [f"d{i}" for i in z.argmax(1).tolist()]}, "d"),
        (lambda z: {"scores": z.tolist()}, None),
    ],
    ids=["numbers", "names", "scores that are not to be seen"],
)
def test_labels_become_one_hot_class(
    answer: Any, names: str | None, data: images.ImageData
) -> None:
    called = tuple(f"{names}{i}" for i in range(10)) if names else None
    with serving(answer=answer) as state:
        answers = Answers(access="labels", classes=10, names=called)
        model = models.load(state.url, data.images[:4], answers=answers)
        logits = model.module(data.images[:30])
    assert torch.equal(logits.argmax(1), truth(data.images[:30]).argmax(1))
    assert torch.equal(logits.sort(1).values[:, -2], torch.zeros(30))


def test_preprocessing_comes_before_the_server(data: images.ImageData) -> None:
    steps = Preprocessing(input_range=(0.0, 255.0))
    with serving(answer=lambda z: {"scores": z.tolist()}) as state:
        model = models.load(state.url, data.images[:4], preprocessing=steps)
        assert torch.allclose(
            model.module(data.images[:9]), truth(255 * data.images[:9]), rtol=1e-4
        )


Z = b'{"scores": [[0, 1], [0, 1], [0, 1], [0, 1]]}'
BROKEN: list[tuple[str, server.Script, dict[str, Any], str]] = [
    ("no JSON", server.says(200, b"<html>It works!</html>"), {}, "answered no JSON: <html>It works!"),
    ("wrong key", server.says(200, b'{"result": []}'), {}, 'answered {"result": []}: expected the key'),
    ("typo", server.says(200, Z), {"answer": "score"}, 'answered no score: did you mean "scores"?'),
    ("deep", server.says(200, b"[" * 100_000), {}, "answered no JSON"),
    ("rows", server.says(200, b'{"scores": [[0, 1]]}'), {}, "answered 4 images with an array of shape (1"),
    ("ragged", server.says(200, b'{"scores": [[0, 1], [0]]}'), {}, "no array of numbers"),
    ("text", server.says(200, b'{"scores": "none"}'), {}, "answered 4 images|no array of numbers"),
    ("NaN", server.says(200, Z.replace(b"[0, 1]]", b"[0, NaN]]")), {}, "NaN or infinity for 1 of 4"),
    ("labels", server.says(200, b'{"labels": [0, 1, 2, 3]}'), {}, 'set access = "labels"'),
    ("400", server.says(400, b"field \x1b[31mimage\n missing"), {}, "status 400: field ?[31mimage missing"),
    ("413", server.says(413), {}, "give smaller batches (batch_size)"),
    ("500", server.says(500, b"oops"), {"retries": 2}, "answered status 500: oops; asked 3 times"),
    ("redirect", server.says(307, Location="http://198.51.100.7/x"), {}, "sends to http://198.51.100.7/x"),
    ("to a file", server.says(302, Location="file:///etc/passwd"), {}, "which is not followed"),
    ("closed", server.hangs_up, {"retries": 1}, "cannot be reached"),
    ("cut off", server.cut_off, {"retries": 1}, "cannot be reached"),
    ("slow", server.sleeps, {"retries": 0, "time_limit": 0.1}, "no answer within 0.1 s (time_limit)"),
    ("drips", server.drips, {"retries": 0, "time_limit": 0.2}, "no answer within 0.2 s (time_limit)"),
]  # fmt: skip


@pytest.mark.parametrize(
    ("script", "asked", "expected"), [b[1:] for b in BROKEN], ids=[b[0] for b in BROKEN]
)
def test_a_broken_server_is_one_clear_sentence(
    script: server.Script, asked: dict[str, Any], expected: str, data: images.ImageData
) -> None:
    with serving(script=script) as state, pytest.raises(InputError) as caught:
        models.load(state.url, data.images[:4], answers=Answers(endpoint=Endpoint(**asked)))
    assert any(part in str(caught.value) for part in expected.split("|"))
    assert "\n" not in str(caught.value)
    assert "\x1b" not in str(caught.value)


@pytest.mark.parametrize("status", [429, 500, 503])
def test_a_busy_server_is_asked_again(status: int, data: images.ImageData) -> None:
    with serving(script=server.recovers(status, 3, Retry_After="0")) as state:
        model = models.load(state.url, data.images[:4])
        assert torch.allclose(model.module(data.images[:4]), truth(data.images[:4]), atol=1e-5)
        assert state.requests == 5
        assert model.budget is not None
        assert model.budget.spent == 8  # what was answered


def test_a_token_goes_to_its_server_and_into_no_message(
    monkeypatch: pytest.MonkeyPatch, data: images.ImageData
) -> None:
    monkeypatch.setenv("SERVICE_TOKEN", "s3cret")
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:9")  # nobody there, and not used
    asked = Answers(endpoint=Endpoint(token_env="SERVICE_TOKEN"))
    with serving() as state:
        model = models.load(state.url, data.images[:4], answers=asked)
        assert state.headers["Authorization"] == "Bearer s3cret"
        assert "s3cret" not in repr(model)
    with pytest.raises(InputError, match=r"not sent to example.org in the clear"):
        models.load("http://example.org/predict", data.images[:4], answers=asked)
    monkeypatch.delenv("SERVICE_TOKEN")
    with pytest.raises(InputError, match=r"SERVICE_TOKEN .* is not set"):
        models.load("https://example.org/predict", data.images[:4], answers=asked)
    for url in ("http://user:pass@127.0.0.1/x", "http://", "http://[", "http://127.0.0.1:99999/"):
        with pytest.raises(InputError, match=r"is no (usable )?address") as caught:
            models.load(url, data.images[:4])
        assert "pass@" not in str(caught.value)
    with pytest.raises(InputError, match="only answers, so it is no white box"):
        models.load("http://127.0.0.1/x", data.images[:4], answers=Answers(access="white-box"))


FUNCTIONS = [
    ("scores", "scores"), ("listed", "scores"), ("probabilities", "scores"), ("build", "scores"),
    ("network", "scores"), ("labels", "labels"), ("scores", "labels"), ("build", "labels"),
]  # fmt: skip


@pytest.mark.parametrize(("name", "access"), FUNCTIONS)
def test_a_function_or_a_hidden_network_answers(
    name: str, access: Any, folder: Path, data: images.ImageData
) -> None:
    x = data.images[:12].clone().requires_grad_()
    answers = Answers(access=access, classes=10)
    model = models.load(f"service:{name}", data.images[:4], folder=folder, answers=answers)
    logits = model.module(x)
    assert not logits.requires_grad
    assert torch.equal(logits.argmax(1), truth(x.detach()).argmax(1))
    if access == "scores" and name != "probabilities":
        assert torch.allclose(logits, truth(x.detach()), atol=1e-5)
    assert (model.access, model.classes) == (access, 10)
    assert model.budget is not None
    assert model.budget.spent == 16


WRONG: list[tuple[str, Any, str]] = [
    ("scores", None, 'expected a factory that is called with none (a function of images'),
    ("labels", "scores", 'answers one label an image and no scores: set access = "labels"'),
    ("text", "scores", "no array of numbers"),
    ("ragged", "scores", "no array of numbers"),
    ("single", "scores", "answers 1 score an image"),
    ("fewer", "scores", "answered 4 images with an array of shape (3, 10)"),
    ("cube", "scores", "array of shape (4, 1, 8, 8)"),
    ("nan", "scores", "NaN or infinity for 4 of 4"),
    ("halves", "labels", "expected whole class numbers"),
    ("eleventh", "labels", "expected 0 to 9; give num_classes"),
    ("fails", "scores", "service:fails failed, RuntimeError: out of order"),
]  # fmt: skip


@pytest.mark.parametrize(("name", "access", "expected"), WRONG)
def test_a_wrong_function_is_one_clear_sentence(
    name: str, access: Any, expected: str, folder: Path, data: images.ImageData
) -> None:
    answers = Answers(access=access, classes=10)
    with pytest.raises(InputError) as caught:
        models.load(f"service:{name}", data.images[:4], folder=folder, answers=answers)
    assert expected in str(caught.value)
