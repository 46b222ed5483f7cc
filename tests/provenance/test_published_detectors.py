"""Checkpoints of others as evidence: files that fit and files that do not, calibration, attacks."""

import io
import json
import math
import os
import pickle
import warnings
import wave
import zipfile
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy
import onnx
import pytest
import torch
from PIL import Image
from published_networks import drawn, pixels
from safetensors.torch import save_file
from torch import nn

from assaymark.provenance.aasist import KINDS, Aasist
from assaymark.provenance.cnn_detection import CnnDetection, load_cnn_detection
from assaymark.provenance.detector_model import DetectorModel, detector_model
from assaymark.provenance.evidence import HeatMap, OperatingPoint, Says
from assaymark.provenance.image_tensors import as_images
from assaymark.provenance.material import Material, open_material
from assaymark.provenance.npr_detector import Npr, load_npr
from assaymark.provenance.own_network import NetworkInput, load_onnx, log_odds, network_input
from assaymark.provenance.published_calibration import Calibrated, read_calibrated, write_calibrated
from assaymark.provenance.published_detectors import (
    ADAPTERS,
    NAMES,
    check_published,
    heat,
    look_published,
)
from assaymark.provenance.tiny_ladeda import TinyLaDeDa, load_tiny_ladeda
from assaymark.provenance.trufor import load_trufor
from assaymark.provenance.univfd import load_univfd
from assaymark.provenance.weight_files import read_weights
from assaymark.reports.errors import InputError

POINT = OperatingPoint(
    threshold=0.25,
    false_positive_rate=0.05,
    false_positive_rate_high=0.09,
    true_positive_rate=0.4,
    true_positive_rate_low=0.2,
    reals=240,
    fakes=284,
    sources=4,
    generators=8,
    measured_on="a test",
)
CALIBRATED = Calibrated(
    detector="published:npr", slope=0.5, offset=-1.0, lowest=-2.0, highest=1.5, point=POINT
)


@pytest.fixture(scope="module")
def npr() -> Npr:
    network = Npr()
    drawn(network)
    return network


@pytest.fixture
def weights(npr: Npr, tmp_path: Path) -> Path:
    path = tmp_path / "NPR.pth"
    torch.save(npr.network.state_dict(), path)
    return path


@pytest.fixture
def picture(tmp_path: Path) -> Path:
    path = tmp_path / "picture.png"
    Image.fromarray(pixels(48, 64)).save(path)
    return path


def opened(path: Path, **options: object) -> Material:
    return open_material(path, options)


def _flat(state: dict[str, Any], path: Path) -> None:
    torch.save(state, path)


def _nested(state: dict[str, Any], path: Path) -> None:
    torch.save({"model": state, "total_steps": 7, "optimizer": {"lr": 1e-4}}, path)


def _parallel(state: dict[str, Any], path: Path) -> None:
    torch.save({"state_dict": {f"module.{key}": value for key, value in state.items()}}, path)


def _old(state: dict[str, Any], path: Path) -> None:
    torch.save(state, path, _use_new_zipfile_serialization=False)


def _safe(state: dict[str, Any], path: Path) -> None:
    save_file(state, path)


@pytest.mark.parametrize("save", [_flat, _nested, _parallel, _old, _safe])
def test_weights_are_read_in_every_published_form(
    save: Callable[[dict[str, Any], Path], None], npr: Npr, tmp_path: Path
) -> None:
    path = tmp_path / ("NPR.safetensors" if save is _safe else "NPR.pth")
    save(npr.network.state_dict(), path)
    levels = as_images(pixels(16, 18))
    assert torch.equal(load_npr(path)(levels), npr(levels))


def test_cnndetection_and_tiny_ladeda_load(tmp_path: Path) -> None:
    large, tiny = CnnDetection(), TinyLaDeDa("right_diag")
    drawn(large)
    drawn(tiny)
    torch.save({"model": large.network.state_dict()}, tmp_path / "blur_jpg_prob0.5.pth")
    torch.save(tiny.state_dict(), tmp_path / "WildRF_Tiny_LaDeDa.pth")
    levels = as_images(pixels(33, 40))
    assert torch.equal(load_cnn_detection(tmp_path / "blur_jpg_prob0.5.pth")(levels), large(levels))
    assert torch.equal(load_tiny_ladeda(tmp_path / "WildRF_Tiny_LaDeDa.pth")(levels), tiny(levels))


class Touch:
    """A pickle that makes a file when it is read by one who trusts it."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Callable[..., object], tuple[object, ...]]:
        return os.system, (f"touch {self.path}",)


def test_a_pickle_is_not_run(tmp_path: Path) -> None:
    path, touched = tmp_path / "NPR.pth", tmp_path / "touched"
    path.write_bytes(pickle.dumps(Touch(touched)))
    with pytest.raises(InputError, match="without running code"):
        load_npr(path)
    torch.save({"state_dict": Touch(touched)}, path)
    with pytest.raises(InputError, match="without running code"):
        load_npr(path)
    assert not touched.exists()


def test_numbers_of_numpy_are_read_only_where_a_checkpoint_has_them(tmp_path: Path) -> None:
    path = tmp_path / "trufor.pth.tar"
    tensors = {"a": torch.ones(2)}
    torch.save({"epoch": 81, "best_value": numpy.float64(0.7), "state_dict": tensors}, path)
    assert torch.equal(read_weights(path, numpy_scalars=True)["a"], tensors["a"])
    with pytest.raises(InputError, match="without running code"):
        read_weights(path)
    with pytest.raises(InputError, match=r"does not hold weights of TruFor: 9\d\d of 952 tensors"):
        load_trufor(path)


def test_a_file_that_unpacks_to_too_much_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "NPR.pth"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("archive/data.pkl", bytes(3_000_000))
    assert path.stat().st_size < 10_000
    monkeypatch.setattr("assaymark.provenance.weight_files.MAX_WEIGHTS", 1_000_000)
    with pytest.raises(InputError, match="unpacks to 3,000,000 bytes"):
        load_npr(path)


def _without(state: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in state.items() if key != "fc1.bias"}


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (_without, r"1 of \d+ tensors are missing \('fc1.bias'\) and 0 are unknown"),
        (
            lambda s: s | {"fc1.weight": torch.zeros(2, 512)},
            r"shape \(2, 512\), expected \(1, 512\)",
        ),
        (
            lambda s: s | {"fc1.bias": torch.tensor([math.nan])},
            "fc1.bias holds numbers that are not",
        ),
        (lambda s: s | {"more": torch.zeros(1)}, r"1 are unknown \('more'\)"),
        (lambda s: {}, "expected a state dict"),
        (lambda s: s | {"epoch": 3}, "'epoch', which is no tensor"),
    ],
    ids=["missing", "shape", "nan", "unknown", "empty", "number"],
)
def test_another_file_is_told_in_one_sentence(
    change: Callable[[dict[str, Any]], dict[str, Any]], said: str, npr: Npr, tmp_path: Path
) -> None:
    torch.save(change(dict(npr.network.state_dict())), tmp_path / "NPR.pth")
    with pytest.raises(InputError, match=said):
        load_npr(tmp_path / "NPR.pth")


def test_a_file_that_is_cut_off_is_told(weights: Path, tmp_path: Path) -> None:
    cut = tmp_path / "cut.pth"
    cut.write_bytes(weights.read_bytes()[:1000])
    with pytest.raises(InputError, match="cut off"):
        load_npr(cut)
    with pytest.raises(InputError, match="no weights at"):
        load_npr(tmp_path / "none.pth")


def test_univfd_needs_both_its_files(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"holds none of fc_weights\.pth"):
        load_univfd(tmp_path)


@pytest.mark.parametrize("name", sorted(ADAPTERS))
def test_every_adapter_names_its_terms(name: str) -> None:
    adapter = ADAPTERS[name]
    assert adapter.licence
    assert adapter.source.startswith("github.com/")
    assert adapter.says in (Says.GENERATED, Says.MANIPULATED)


def test_without_calibration_a_score_decides_nothing(
    picture: Path, weights: Path, npr: Npr
) -> None:
    (found,) = look_published(opened(picture, checkpoints={"npr": str(weights)}))
    assert found.detector == "published:npr"
    assert found.says is Says.ABSTAINS
    assert found.llr is None
    assert found.point is None
    assert "not calibrated" in found.summary
    assert found.score == pytest.approx(float(npr(as_images(pixels(48, 64)))[0]), abs=1e-5)
    json.dumps(dict(found.details))


@pytest.mark.parametrize(("threshold", "says"), [(-50.0, Says.GENERATED), (50.0, Says.NOTHING)])
def test_a_calibration_makes_it_evidence(
    threshold: float, says: Says, picture: Path, weights: Path, tmp_path: Path
) -> None:
    file = tmp_path / "npr.json"
    point = replace(POINT, threshold=threshold)
    write_calibrated(file, replace(CALIBRATED, point=point))
    options = {"checkpoints": {"npr": str(weights)}, "calibrations": {"npr": str(file)}}
    check_published(options)
    (found,) = look_published(opened(picture, **options))
    assert found.says is says
    assert found.point == point
    assert found.score is not None
    assert found.llr == min(max(0.5 * found.score - 1.0, -2.0), 1.5)


@pytest.mark.parametrize(("score", "llr"), [(0.0, -1.0), (2.0, 0.0), (90.0, 1.5), (-90.0, -2.0)])
def test_a_ratio_stays_within_what_files_support(score: float, llr: float) -> None:
    assert CALIBRATED.llr(score) == llr


def _changed(path: tuple[str, ...], value: object) -> Callable[[Any], None]:
    def change(document: Any) -> None:
        for key in path[:-1]:
            document = document[key]
        document[path[-1]] = value

    return change


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (_changed(("detector",), "published:trufor"), "calibrates 'published:trufor'"),
        (_changed(("calibration", "lowest"), 0.5), "limits must enclose 0"),
        (
            _changed(("calibration", "curve", "parameters"), [-1.0, 0.0]),
            "slope must not be negative",
        ),
        (_changed(("calibration", "curve", "parameters"), [float("nan"), 0.0]), "no finite number"),
        (_changed(("calibration", "curve", "kind"), "beta"), "expected 'platt'"),
        (_changed(("point", "false_positive_rate"), 1.5), "rates must lie"),
        (_changed(("point",), {}), "KeyError"),
    ],
    ids=["other", "limits", "falling", "nan", "kind", "rate", "empty"],
)
def test_a_wrong_calibration_is_told(
    change: Callable[[Any], None], said: str, tmp_path: Path
) -> None:
    file = tmp_path / "npr.json"
    write_calibrated(file, CALIBRATED)
    assert read_calibrated(file, "published:npr") == CALIBRATED
    document = json.loads(file.read_text())
    change(document)
    file.write_text(json.dumps(document))
    with pytest.raises(InputError, match=said):
        read_calibrated(file, "published:npr")


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"checkpoints": {"nrp": "x"}}, "no detector 'nrp': did you mean \"npr\""),
        ({"checkpoints": ["npr"]}, "expected a table"),
        ({"checkpoints": {"npr": 3}}, "checkpoints.npr is 3"),
        ({"checkpoints": {"npr": "nowhere.pth"}}, "no weights at"),
        ({"checkpoints": {"onnx": "x.onnx"}, "network": {"sides": 3}}, 'did you mean "side"'),
    ],
    ids=["name", "list", "number", "missing", "option"],
)
def test_wrong_options_are_told(options: Mapping[str, object], said: str) -> None:
    with pytest.raises(InputError, match=said):
        check_published(options)


def test_nothing_named_and_another_medium_abstain(picture: Path, tmp_path: Path) -> None:
    (found,) = look_published(opened(picture))
    assert found.says is Says.ABSTAINS
    assert "no checkpoint" in found.summary
    sound = io.BytesIO()
    with wave.open(sound, "wb") as out:
        out.setparams((1, 2, 16000, 0, "NONE", ""))
        out.writeframes(bytes(3200))
    (tmp_path / "x.wav").write_bytes(sound.getvalue())
    (found,) = look_published(opened(tmp_path / "x.wav", checkpoints={"npr": "unread.pth"}))
    assert "(npr) do not look at such a file" in found.summary


def test_speech_is_heard_as_published(tmp_path: Path) -> None:
    network = Aasist(KINDS["AASIST-L"])
    drawn(network)
    torch.save(network.state_dict(), tmp_path / "AASIST-L.pth")
    levels = numpy.random.default_rng(0).integers(-3000, 3000, 20_000, dtype=numpy.int16)
    with wave.open(str(tmp_path / "x.wav"), "wb") as out:
        out.setparams((1, 2, 16000, 0, "NONE", ""))
        out.writeframes(levels.tobytes())
    checkpoint = {"aasist": str(tmp_path / "AASIST-L.pth")}
    (found,) = look_published(opened(tmp_path / "x.wav", checkpoints=checkpoint))
    heard = numpy.tile(levels / 32768, 4)[:64_600].astype(numpy.float32)
    assert found.score == pytest.approx(float(network(torch.from_numpy(heard)[None])[0]), abs=1e-4)


def test_the_shipped_network_is_attacked_at_the_threshold_of_its_card() -> None:
    from assaymark.provenance.image_weights import load_network, model_card

    x = torch.rand(2, 3, 64, 64, generator=torch.Generator().manual_seed(2), requires_grad=True)
    logits = detector_model("residual")(x)
    threshold = model_card()["detectors"]["residual"]["point"]["threshold"]
    assert torch.allclose(logits[:, 1] - logits[:, 0], load_network()(x) - threshold, atol=1e-5)
    (gradient,) = torch.autograd.grad(logits[:, 1].sum(), x)
    assert float(gradient.abs().max()) > 0


def test_a_picture_that_is_too_large_is_not_looked_at(
    picture: Path, weights: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    small = {"npr": replace(ADAPTERS["npr"], most_pixels=1000)}
    monkeypatch.setattr("assaymark.provenance.published_detectors.ADAPTERS", small)
    (found,) = look_published(opened(picture, checkpoints={"npr": str(weights)}))
    assert found.says is Says.ABSTAINS
    assert "64 x 48 pixels" in found.summary


def test_a_heat_map_holds_the_mean_of_each_cell() -> None:
    values = torch.zeros(192, 384)
    values[0:2, 0:4] = 1.0
    values[2:4, 0:2] = 1.0
    found = heat("x", values)
    assert isinstance(found, HeatMap)
    assert (len(found.values), len(found.values[0])) == (96, 96)
    assert found.values[0][0] == 1.0
    assert found.values[1][0] == 0.5
    assert sum(map(sum, found.values)) == 1.5
    assert len(heat("x", torch.rand(5, 7)).values) == 5


class Mean(nn.Module):
    """A network that answers the mean of the red channel."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x[:, 0].mean((1, 2))


def _mean_as_onnx(path: Path) -> None:
    reduce = onnx.helper.make_node("ReduceMean", ["x"], ["y"], axes=[1, 2, 3], keepdims=0)
    graph = onnx.helper.make_graph(
        [reduce],
        "mean",
        [onnx.helper.make_tensor_value_info("x", onnx.TensorProto.FLOAT, ["n", 3, 8, 8])],
        [onnx.helper.make_tensor_value_info("y", onnx.TensorProto.FLOAT, ["n"])],
    )
    model = onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 13)])
    model.ir_version = 8
    onnx.save(model, path)


@pytest.mark.parametrize("fit", ["crop", "stretch"])
def test_a_network_of_the_user_is_given_what_he_says(fit: str, tmp_path: Path) -> None:
    _mean_as_onnx(tmp_path / "mean.onnx")
    Image.fromarray(pixels(20, 31)).save(tmp_path / "p.png")
    takes = {"side": 8, "fit": fit, "mean": [0.5, 0.25, 0.0], "std": [0.5, 0.5, 2.0]}
    (found,) = look_published(
        opened(tmp_path / "p.png", checkpoints={"onnx": str(tmp_path / "mean.onnx")}, network=takes)
    )
    levels = pixels(20, 31) / 255
    if fit == "crop":
        seen = levels[6:14, 12:20].mean((0, 1))  # (31 - 8) / 2 = 11.5 rounds to even
    else:
        x = torch.from_numpy(levels).permute(2, 0, 1)[None]
        small = torch.nn.functional.interpolate(x, (8, 8), mode="bilinear", antialias=True)
        seen = small[0].mean((1, 2)).numpy()
    wanted = ((seen - [0.5, 0.25, 0.0]) / [0.5, 0.5, 2.0]).mean()
    assert found.score == pytest.approx(wanted, abs=1e-5)


def test_an_onnx_file_that_names_other_files_or_inputs_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "x.onnx"
    path.write_bytes(b"\x00garbage")
    with pytest.raises(InputError, match="not an ONNX model"):
        load_onnx(path, NetworkInput())
    _mean_as_onnx(path)
    model = onnx.load(path)
    model.graph.initializer.append(onnx.numpy_helper.from_array(numpy.zeros(4, numpy.float32), "w"))
    onnx.external_data_helper.set_external_data(model.graph.initializer[0], "/etc/passwd")
    path.write_bytes(model.SerializeToString())
    with pytest.raises(InputError, match="keeps weights in other files"):
        load_onnx(path, NetworkInput())
    _mean_as_onnx(path)
    with pytest.raises(InputError, match=r"does not take pictures of 1x3x9x9: set network.side"):
        load_onnx(path, NetworkInput())(torch.zeros(1, 3, 9, 9))


@pytest.mark.parametrize(
    ("answer", "values", "wanted"),
    [
        ("logit", [[1.5], [-2.0]], [1.5, -2.0]),
        ("probability", [0.75, 0.5], [math.log(3), 0.0]),
        ("logits", [[1.0, 4.0], [2.0, 0.0]], [3.0, -2.0]),
        ("probabilities", [[0.2, 0.8], [0.5, 0.5]], [math.log(4), 0.0]),
    ],
)
def test_answers_become_log_odds(answer: Any, values: object, wanted: list[float]) -> None:
    takes = NetworkInput(answer=answer)
    found = log_odds(torch.tensor(values), 2, takes)
    assert found.tolist() == pytest.approx(wanted, abs=1e-6)
    with pytest.raises(InputError, match=r"expected [12] each"):
        log_odds(torch.zeros(2, 3), 2, takes)
    if answer == "logits":
        other = log_odds(torch.tensor(values), 2, replace(takes, generated=0))
        assert other.tolist() == pytest.approx([-value for value in wanted])


@pytest.mark.parametrize(
    ("said", "why"),
    [
        (3, "expected a table"),
        ({"side": 4}, "expected 8 to 4096"),
        ({"std": [1, 1, 0]}, "three positive"),
        ({"mean": [1, 1]}, "three numbers"),
        ({"fit": "pad"}, "expected crop, stretch"),
        ({"answer": "class"}, "expected logit"),
        ({"generated": 2}, "expected 0 or 1"),
    ],
    ids=["number", "side", "std", "mean", "fit", "answer", "generated"],
)
def test_a_wrong_input_is_told(said: object, why: str) -> None:
    with pytest.raises(InputError, match=why):
        network_input(said)


def test_a_detector_is_a_classifier_whose_gradient_is_right(weights: Path, npr: Npr) -> None:
    model = detector_model(f"npr:{weights}")
    x = torch.rand(3, 3, 16, 20, generator=torch.Generator().manual_seed(0), requires_grad=True)
    logits = model(x)
    assert logits.shape == (3, 2)
    assert torch.allclose(logits[:, 1] - logits[:, 0], npr(x))
    (gradient,) = torch.autograd.grad(logits[:, 1].sum(), x)
    double = DetectorModel(npr).double()  # central differences need the precision
    step = torch.zeros_like(x, dtype=torch.float64)
    step[0, 1, 5, 7] = 1e-6
    with torch.no_grad():
        slope = (double(x.double() + step) - double(x.double() - step))[0, 1] / 2e-6
    npr.float()
    assert float(gradient[0, 1, 5, 7]) == pytest.approx(float(slope), rel=1e-3, abs=1e-6)


def test_the_decision_is_that_of_the_threshold(weights: Path, npr: Npr, tmp_path: Path) -> None:
    file = tmp_path / "npr.json"
    x = torch.rand(8, 3, 16, 16, generator=torch.Generator().manual_seed(1))
    scores = npr(x)
    threshold = float(scores.sort().values[3:5].mean())
    write_calibrated(file, replace(CALIBRATED, point=replace(POINT, threshold=threshold)))
    chosen = detector_model(f"npr:{weights}", calibration=file)(x).argmax(1)
    assert torch.equal(chosen.bool(), scores >= threshold)
    assert int(chosen.sum()) == 4


def test_torchscript_of_the_user_is_attacked_too(tmp_path: Path) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        torch.jit.trace(Mean(), torch.zeros(1, 3, 4, 4)).save(str(tmp_path / "mean.ts"))
    x = torch.rand(2, 3, 6, 6, requires_grad=True)
    logits = detector_model(f"torchscript:{tmp_path / 'mean.ts'}")(x)
    assert torch.allclose(logits[:, 1], x[:, 0].mean((1, 2)))
    (gradient,) = torch.autograd.grad(logits[:, 1].sum(), x)
    assert torch.allclose(gradient[:, 0], torch.full((2, 6, 6), 1 / 36))


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("nrp:x", 'did you mean "npr"'),
        ("npr", "write npr:FILE"),
        ("onnx:x.onnx", "--model x.onnx"),
        ("aasist:x.pth", "hears sound"),
    ],
)
def test_what_cannot_be_attacked_is_told(name: str, said: str) -> None:
    with pytest.raises(InputError, match=said):
        detector_model(name)


def test_names_are_told_apart() -> None:
    assert len(set(NAMES)) == len(NAMES)
