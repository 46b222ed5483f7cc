"""Attacks made on surrogates: exact where surrogate and model are linear, counted to the query."""

import json
from pathlib import Path
from typing import Any

import linear
import pytest
import torch
from server import serving
from torch import Tensor, nn

from assaymark.cli import resume
from assaymark.cli.run import Job
from assaymark.reports.errors import InputError, PolicyError
from assaymark.reports.model import CheckResult, Finding, Gate, Limit, Verdict
from assaymark.reports.policy_file import parse
from assaymark.robustness.answer_signs import queries_a_point
from assaymark.robustness.attacks import ATTACKS
from assaymark.robustness.black_box import BlackBox
from assaymark.robustness.budget import Budget
from assaymark.robustness.check import Threat, check_robustness
from assaymark.robustness.images import ImageData
from assaymark.robustness.losses import margin
from assaymark.robustness.masking import POINTS
from assaymark.robustness.models import Loaded
from assaymark.robustness.oracle import Oracle
from assaymark.robustness.shard import Search
from assaymark.robustness.streams import Streams
from assaymark.robustness.surrogates import gather
from assaymark.robustness.transfer import transfer

N = 40
GATE = Gate(metric="robust_accuracy", limit=Limit(minimum=0.1))


def box(
    network: Any, access: Any = "scores", *, queries: int | None = None, total: int | None = None
) -> Loaded:
    """A network of which only answers are seen."""
    budget = Budget(per_point=queries, total=total)
    module = BlackBox(network, "box", access, budget, 2)
    return Loaded(name="box", module=module, sha256=None, classes=2, access=access, budget=budget)


def open_network(network: nn.Module, name: str = "twin", classes: int = 2) -> Loaded:
    return Loaded(name=name, module=network.eval(), sha256="0" * 64, classes=classes)


def data() -> tuple[ImageData, Tensor]:
    """Points with two classes, and how far each is from the boundary."""
    x, y = linear.points(N, 2)
    distance = linear.distances(x, y, "linf", 2).amin(1)
    return ImageData(name="points", images=x, labels=y, classes=None), distance


def check(
    model: Loaded, surrogates: tuple[Loaded, ...], *attacks: str, eps: float, **more: Any
) -> CheckResult:
    threat = Threat(attacks=tuple((name, {}) for name in attacks), norm="linf", eps=eps)
    return check_robustness("t", model, data()[0], threat, surrogates=surrogates, **more)


def robust(result: CheckResult) -> Finding:
    return next(f for f in result.findings if f.measure == "robust_accuracy")


def rows(result: CheckResult, title: str) -> list[tuple[Any, ...]]:
    return next(
        list(item.rows)
        for item in robust(result).evidence
        if item.type == "table" and item.title == title
    )


@pytest.mark.parametrize(
    ("attack", "access"), [("pgd", "labels"), ("mi-fgsm", "scores"), ("quick", "labels")]
)
def test_a_perfect_surrogate_finds_the_exact_distance(attack: str, access: Any) -> None:
    """And the model is asked for each image as it is, for its signs, and to confirm; nothing else."""
    _, distance = data()
    eps = float(distance.median())
    model = box(linear.model(2), access)
    result = check(model, (open_network(linear.model(2)),), attack, eps=eps)
    value = robust(result).value
    assert value is not None
    assert float((distance > 1.02 * eps).float().mean()) <= value
    assert value <= float((distance > 0.98 * eps).float().mean())
    outcomes = rows(result, "Attacks")
    confirmed = sum(row[1] + row[2] + row[5] for row in outcomes)
    signs = POINTS * queries_a_point(model)
    assert robust(result).cost.queries == N + signs + confirmed
    assert robust(result).cost.backward == 0
    made = rows(result, "Attacks made on the surrogates")
    assert [row[0] for row in made] == [row[0] for row in outcomes]
    assert all(row[0].endswith("on surrogates") for row in made)
    assert all(row[4] > 0 for row in made if row[1] and row[0] != "random search on surrogates")


def test_two_surrogates_are_attacked_as_their_mean() -> None:
    """Neither is the model, their mean is."""
    noise = torch.randn(2, 18, generator=torch.Generator().manual_seed(3))
    twins = [linear.model(2), linear.model(2)]
    with torch.no_grad():
        twins[0][1].weight.add_(noise)  # type: ignore[index]
        twins[1][1].weight.sub_(noise)  # type: ignore[index]
    _, distance = data()
    eps = float(distance.median())
    pair = (open_network(twins[0], "one"), open_network(twins[1], "two"))
    both = robust(check(box(linear.model(2)), pair, "pgd", eps=eps)).value
    alone = robust(check(box(linear.model(2)), pair[:1], "pgd", eps=eps)).value
    assert both == float((distance > eps).float().mean())
    assert alone is not None
    assert alone > both


def test_the_report_names_the_surrogates_and_says_what_the_bound_is() -> None:
    result = check(box(linear.model(2)), (open_network(linear.model(2)),), "pgd", eps=0.01)
    assert result.digests == {"twin": "0" * 64}
    assert rows(result, "Surrogates") == [("twin", "0" * 64, N, N)]
    assert "made on twin and carried over, which bounds robustness" in robust(result).summary
    steps = " ".join(result.method.steps)
    assert "Made on the surrogates twin (SHA-256 000000000000…)" in steps
    untested = " ".join(result.method.not_tested)
    assert "see the model's gradients" in untested
    assert "led by answers of the model itself" in untested


def test_an_open_model_is_not_opened_and_its_answers_are_counted() -> None:
    model = open_network(linear.model(2), "open")
    _, distance = data()
    eps = float(distance.median())
    result = check(model, (open_network(linear.model(2)),), "pgd", eps=eps)
    assert robust(result).cost.backward == 0
    assert robust(result).cost.queries == N + POINTS * 3 + sum(
        row[1] + row[2] for row in rows(result, "Attacks")
    )
    assert "no gradient of the model is used" in " ".join(result.method.steps)


def test_attacks_by_scores_go_at_the_model_itself() -> None:
    model = box(linear.model(2), queries=30)
    result = check(model, (open_network(linear.model(2)),), "square", "pgd", eps=0.01)
    names = [row[0] for row in rows(result, "Attacks")]
    assert names == ["square", "pgd on surrogates"]
    assert [row[0] for row in rows(result, "Attacks made on the surrogates")] == names[1:]
    assert rows(result, "Attacks")[0][6] > 15 * N
    assert not any("led by answers" in item for item in result.method.not_tested)


@pytest.mark.parametrize("queries", [1, None])
@pytest.mark.parametrize("paid", [0, 7, N])
def test_confirmations_are_paid_for_and_what_is_not_is_unknown(
    queries: int | None, paid: int
) -> None:
    """Two queries a point are set apart, and a point of which none is left is no good news."""
    total = N + 2 * paid
    model = box(linear.model(2), queries=queries, total=total)
    result = check(model, (open_network(linear.model(2)),), "pgd", eps=1e-4, gates=(GATE,))
    finding = robust(result)
    spent = model.budget.spent if model.budget else 0
    assert N + paid <= spent <= total
    unknown = [item for item in result.method.not_tested if "not attacked in full" in item]
    assert bool(unknown) == (paid < N)
    assert any("did not pay for it" in item for item in result.method.not_tested)
    if paid == 0:
        assert finding.verdict is Verdict.NOT_MEASURED
    if paid == N:
        assert finding.value == 1.0


def test_a_surrogate_that_guesses_makes_no_gate_hold() -> None:
    """Attacks on it find nothing; that is not the model's merit."""
    flipped = linear.model(2)
    with torch.no_grad():
        flipped[1].weight.neg_()  # type: ignore[index]
        flipped[1].bias.neg_()  # type: ignore[index]
    result = check(
        box(linear.model(2)), (open_network(flipped, "wrong"),), "pgd", eps=0.01, gates=(GATE,)
    )
    assert robust(result).value == 1.0
    assert robust(result).judged is Verdict.INCONCLUSIVE
    assert "surrogates that may be guessing" in str(robust(result).unreliable)


def test_walks_go_on_after_they_fool_a_surrogate() -> None:
    x, y = linear.points(N, 2)
    eps = 3 * float(linear.distances(x, y, "linf", 2).amin(1).max())
    network = linear.model(2)
    for name in ("pgd", "mi-fgsm", "apgd-ce"):
        attack = ATTACKS[name].run
        rules: dict[str, Any] = {"eps": eps, "norm": "linf", "targeted": False, "streams": None}
        stops = margin(network(attack(Oracle(network), x, y, **rules)), y)
        goes = margin(network(transfer([network], attack)(Oracle(network), x, y, **rules)), y)
        assert (goes > 0).all()
        assert goes.mean() > 1.2 * stops.mean()


@pytest.mark.parametrize(
    ("member", "model", "expected"),
    [
        (open_network(linear.model(3), "three", 3), box(linear.model(2)),
         "the surrogate three answers 3 classes and box 2: expected a surrogate with the same classes"),
        (box(linear.model(2)), open_network(linear.model(2)), "the surrogate box only answers scores"),
        (open_network(linear.model(2)),
         Loaded(name="guard", module=linear.model(2), sha256=None, classes=2, rejects=True),
         "guard may reject"),
    ],
    ids=["classes", "black box", "rejects"],
)  # fmt: skip
def test_a_surrogate_that_does_not_fit(member: Loaded, model: Loaded, expected: str) -> None:
    x, y = linear.points(4, 2)
    with pytest.raises(InputError, match=expected):
        gather([member], model, x, y, search=Search(), streams=Streams.of(0, "", [0, 1, 2, 3]))


POLICY = """
[[check]]
id = "a"
kind = "robustness"
model = "http://127.0.0.1:9/predict"
data = "demo:digits"
attack = "pgd"
norm = "linf"
eps = 0.1
surrogates = SURROGATES
gate = { metric = "robust_accuracy", min = 0.5 }
"""


@pytest.mark.parametrize(
    ("written", "expected"),
    [
        ("[]", "surrogates"),
        ('"http://127.0.0.1:9/other"', "only answers, and attacks follow a surrogate's gradient"),
        (
            '{ model = "a.onnx", normalise = 1 }',
            'unknown key "normalise": did you mean "normalize"?',
        ),
        ('["demo:digits", "missing.onnx"]', 'no such surrogate: "missing.onnx" is not a file'),
        ('{ arch = "a:b" }', 'missing key "model"'),
    ],
)
def test_a_wrong_surrogate_is_placed(written: str, expected: str, tmp_path: Path) -> None:
    with pytest.raises(PolicyError) as caught:
        parse(POLICY.replace("SURROGATES", written), folder=tmp_path)
    assert expected in str(caught.value)
    assert ":10:" in str(caught.value)


def test_resuming_depends_on_surrogates(tmp_path: Path) -> None:
    def key(text: str) -> str:
        policy = parse(text, folder=tmp_path)
        job = Job(policy=policy, text="", name="p", folder=tmp_path, command="")
        return resume.key(job, 0, "cpu")

    file = tmp_path / "a.safetensors"
    file.write_bytes(b"one")
    text = POLICY.replace("http://127.0.0.1:9/predict", "demo:digits")
    named = text.replace("SURROGATES", '"a.safetensors"')
    before = key(named)
    file.write_bytes(b"another")
    assert key(named) != before
    for written, kept in [
        ('"demo:digits"', True),
        ('["demo:digits", "mine:build"]', False),
        ('{ model = "a.safetensors", arch = "mine:build" }', False),
    ]:
        policy = parse(text.replace("SURROGATES", written), folder=tmp_path)
        assert resume.resumable(policy.check[0]) is kept


@pytest.mark.long
def test_from_the_command_line(cli: Any, tmp_path: Path) -> None:
    """The demo's hardened digits over a real connection, with the plain ones as surrogate."""
    with serving() as state:
        done = cli(
            "attack", state.url, "demo:digits", "--access", "labels", "--num-classes", "10",
            "--surrogate", "demo:digits-hardened", "-a", "pgd", "--eps", "0.2",
            "--examples", "30", "-o", "r.json", "-o", "r.html",
        )  # fmt: skip
        assert done.returncode == 0, done.stderr + done.stdout
        report = json.loads((tmp_path / "r.json").read_text())["report"]
        finding = report["findings"][0]
        assert finding["cost"]["queries"] == state.images <= 4 + 30 + 60 + 60
        assert finding["value"] < report["findings"][1]["value"]
        assert "demo:digits-hardened" in report["run"]["digests"]
        assert 'surrogates = ["demo:digits-hardened"]' in report["run"]["policy_text"]
        assert "Attacks made on the surrogates" in (tmp_path / "r.html").read_text()
    (tmp_path / "mine.py").write_text(
        "import torch\n"
        "def large(): return torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(99, 10))\n"
    )
    done = cli("attack", "demo:digits", "demo:digits", "--surrogate", "mine:large")
    assert done.returncode == 3
    assert "surrogate: mine:large cannot read images of 1×8×8" in done.stdout
