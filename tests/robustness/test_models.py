"""Every way to name a model, and every way in which a model file can be wrong or hostile."""

import json
import pickle
import sys
import warnings
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from assaymark.reports.errors import InputError, IntegrityError
from assaymark.robustness import factories, models
from assaymark.robustness.models import Preprocessing

SOURCE = """
import torch
from torch import nn

def build():
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(3, 4, 3, padding=1), nn.BatchNorm2d(4), nn.ReLU(), nn.MaxPool2d(2),
        nn.Flatten(), nn.Linear(64, 5),
    ).eval()

def needs(width):
    return build()

def text():
    return "not a model"

def single():
    return nn.Sequential(nn.Flatten(), nn.Linear(192, 1))

def wrong():
    return nn.Linear(7, 3)

number = 3
"""


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[Path]:
    (tmp_path / "zoo.py").write_text(SOURCE)
    yield tmp_path
    sys.modules.pop("zoo", None)


@pytest.fixture
def network(folder: Path) -> nn.Module:
    made = factories.resolve("zoo:build", folder)()
    assert isinstance(made, nn.Module)
    return made


@pytest.fixture
def x() -> torch.Tensor:
    return torch.rand(4, 3, 8, 8, generator=torch.Generator().manual_seed(1))


def export(network: nn.Module, path: Path, x: torch.Tensor) -> None:
    suffix = path.name.split(".", 1)[1]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        if suffix == "pt2":
            shapes = ({0: torch.export.Dim.DYNAMIC},)
            torch.export.save(torch.export.export(network, (x,), dynamic_shapes=shapes), path)
        elif suffix in ("ts", "jit.pt"):
            torch.jit.save(torch.jit.trace(network, x), path)
        elif suffix == "onnx":
            torch.onnx.export(
                network,
                (x,),
                path,
                dynamic_shapes=({0: "batch"},),
                verbose=False,
                external_data=False,
            )
        elif suffix == "fixed.onnx":
            torch.onnx.export(network, (x[:1],), path, verbose=False, external_data=False)
        elif suffix == "safetensors":
            save_file(network.state_dict(), path)
        else:
            torch.save(network.state_dict(), path)


@pytest.mark.parametrize(
    "suffix", ["pt2", "ts", "jit.pt", "onnx", "fixed.onnx", "safetensors", "pt", "pth"]
)
def test_every_format_gives_the_same_logits_and_gradients(
    suffix: str, folder: Path, network: nn.Module, x: torch.Tensor
) -> None:
    export(network, folder / f"m.{suffix}", x)
    arch = "zoo:build" if suffix in ("safetensors", "pt", "pth") else None
    loaded = models.load(f"m.{suffix}", x, arch=arch, folder=folder)
    assert loaded.classes == 5
    assert loaded.sha256 is not None
    for batch in (x, x[:1], x[:3]):
        assert torch.allclose(loaded.module(batch), network(batch), atol=1e-5)
    gradients = []
    for module in (loaded.module, network):
        image = x.clone().requires_grad_()
        gradients.append(torch.autograd.grad(module(image).logsumexp(1).sum(), image)[0])
    assert torch.allclose(gradients[0], gradients[1], atol=1e-5)


@pytest.mark.parametrize("spec", ["zoo:build", "demo:digits"])
def test_named_models(spec: str, folder: Path, x: torch.Tensor) -> None:
    sample = x[:, :1] if spec.startswith("demo") else x
    assert models.load(spec, sample, folder=folder).classes in (5, 10)
    assert str(folder) not in sys.path


def test_preprocessing_is_part_of_the_model(
    folder: Path, x: torch.Tensor, network: nn.Module
) -> None:
    mean, std = (0.4, 0.5, 0.6), (0.2, 0.25, 0.3)
    steps = Preprocessing(input_range=(-1.0, 1.0), mean=mean, std=std)
    loaded = models.load("zoo:build", x, folder=folder, preprocessing=steps)
    mapped = (2 * x - 1 - torch.tensor(mean).view(1, 3, 1, 1)) / torch.tensor(std).view(1, 3, 1, 1)
    assert torch.allclose(loaded.module(x), network(mapped), atol=1e-5)


def test_onnx_is_checked_behind_the_preprocessing(
    folder: Path, x: torch.Tensor, network: nn.Module
) -> None:
    export(network, folder / "m.onnx", x)
    loaded = models.load(
        "m.onnx", x, folder=folder, preprocessing=Preprocessing(input_range=(0.0, 255.0))
    )
    assert torch.allclose(loaded.module(x), network(255 * x), rtol=1e-4, atol=1e-3)
    assert "agrees" in loaded.note


WRONG = [
    ("missing.onnx", None, "no model at missing.onnx: expected a file ending in .onnx"),
    ("weights.safetensors", None, 'name the architecture that takes them, arch = "package.module'),
    ("weights.safetensors", "zoo:wrong", "do not fit the architecture"),
    ("weights.safetensors", "zoo:biuld", 'zoo has no biuld: did you mean "build"?'),
    ("weights.safetensors", "zooo:build", "cannot import zooo"),
    ("weights.safetensors", "zoo:needs", "expected a factory that is called with none"),
    ("weights.safetensors", "zoo:text", "made a str, expected a torch.nn.Module"),
    ("weights.safetensors", "zoo:number", "is a int, expected a function or a class"),
    ("zoo:wrong", None, "cannot read images of 3×8×8 (channels×height×width)"),
    ("zoo:single", None, "expected logits of at least 2 classes"),
    ("demo:digit", None, 'no demo model "digit": did you mean "digits"?'),
    ("zoo.py", None, "is not a model format that is read here"),
    ("code.pkl", None, "(a pickle is code)"),
    ("garbage.onnx", None, "garbage.onnx is not a valid ONNX model"),
    ("garbage.pt2", None, "garbage.pt2 is not a torch.export archive"),
    ("garbage.ts", None, "garbage.ts is not TorchScript"),
    ("garbage.safetensors", "zoo:build", "garbage.safetensors is not a safetensors file"),
    ("garbage.pt", "zoo:build", "garbage.pt is a pickle that needs code to be read"),
    ("list.pt", "zoo:build", "list.pt holds a list, expected a state dict"),
]


@pytest.mark.parametrize(("spec", "arch", "expected"), WRONG)
def test_a_wrong_model_is_one_clear_sentence(
    spec: str, arch: str | None, expected: str, folder: Path, x: torch.Tensor, network: nn.Module
) -> None:
    save_file(network.state_dict(), folder / "weights.safetensors")
    torch.save([torch.zeros(1)], folder / "list.pt")
    for name in ("garbage.onnx", "garbage.pt2", "garbage.ts", "garbage.safetensors", "garbage.pt"):
        (folder / name).write_bytes(b"PK\x03\x04 not what it says")
    (folder / "code.pkl").write_bytes(pickle.dumps([1]))
    with pytest.raises(InputError) as caught:
        models.load(spec, x, arch=arch, folder=folder)
    assert expected in str(caught.value)
    assert "\n" not in str(caught.value)


class Payload:
    """Unpickling this writes a file."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return (Path.write_text, (self.path, "owned"))


@pytest.mark.parametrize("name", ["evil.pt", "evil.pth", "evil.pkl", "evil.ts", "evil.safetensors"])
def test_a_pickle_that_needs_code_never_runs(name: str, folder: Path, x: torch.Tensor) -> None:
    torch.save({"a": Payload(folder / "owned")}, folder / name)
    with pytest.raises(InputError):
        models.load(name, x, arch="zoo:build", folder=folder)
    assert not (folder / "owned").exists()


def rewrite(source: Path, target: Path, edit: Any) -> None:
    """Copy a .pt2 archive, giving each member to `edit(name, bytes) -> bytes`."""
    with zipfile.ZipFile(source) as old, zipfile.ZipFile(target, "w") as new:
        for name in old.namelist():
            new.writestr(name, edit(name, old.read(name)))


HOSTILE_PT2 = [
    "call", "pickle", "sample", "expression", "indirect", "program", "argument", "parameter", "tree",
    "file", "legacy", "opaque", "twice",
]  # fmt: skip


@pytest.mark.parametrize("attack", HOSTILE_PT2)
def test_a_hostile_exported_program_never_runs(
    attack: str, folder: Path, network: nn.Module, x: torch.Tensor
) -> None:
    export(network, folder / "good.pt2", x)
    owned = folder / "owned"

    def edit(name: str, data: bytes) -> bytes:
        if attack == "sample" and "/sample_inputs/" in name:
            return pickle.dumps(Payload(owned))
        if attack == "pickle" and name.endswith("weights_config.json"):
            return data.replace(b'"use_pickle": false', b'"use_pickle": true', 1)
        if attack == "pickle" and name.endswith("/weight_0"):
            return pickle.dumps(Payload(owned))
        if name.endswith("/models/model.json"):
            if attack == "call":
                return data.replace(b"torch.ops.aten.relu.default", b"torch.os.system", 1)
            if attack == "file":
                target = b"torch.ops.aten.from_file.default"
                return data.replace(b"torch.ops.aten.relu.default", target, 1)
            if attack == "argument":
                evil = f"y=__import__('pathlib').Path('{owned}').touch()"
                return data.replace(
                    b'"forward_arg_names": ["', f'"forward_arg_names": ["{evil}", "'.encode(), 1
                )
            if attack == "tree":
                enum = json.dumps(json.dumps({"__enum__": True, "fqn": "this:d", "name": "A"}))
                return data.replace(
                    b'\\"context\\": \\"[]\\"',
                    b'\\"context\\": ' + json.dumps(enum)[1:-1].encode(),
                    1,
                )
            if attack in ("expression", "indirect"):
                evil = f"__import__('pathlib').Path('{owned}').touch()"
                if attack == "indirect":
                    evil = "(eval)((chr)(95))"
                text = json.dumps(json.loads(data))
                start = text.index('"expr_str": "') + len('"expr_str": "')
                end = text.index('"', start)
                return (text[:start] + evil + text[end:]).encode()
        if attack == "parameter" and name.endswith(".json"):
            return data.replace(b'"0.weight"', b'"w\\") if exec(1) else getattr(self, \\"z"')
        if attack == "opaque" and name.endswith("constants_config.json"):
            entry = {"path_name": "opaque_obj_0", "use_pickle": False}
            return json.dumps({"config": {"a": entry}}).encode()
        return data

    rewrite(folder / "good.pt2", folder / "evil.pt2", edit)
    assert (
        attack == "program"
        or any(
            edit(item, zipfile.ZipFile(folder / "good.pt2").read(item))
            != zipfile.ZipFile(folder / "good.pt2").read(item)
            for item in zipfile.ZipFile(folder / "good.pt2").namelist()
        )
        or attack in ("legacy", "twice")
    )
    with zipfile.ZipFile(folder / "evil.pt2", "a") as archive:
        if attack == "program":
            archive.writestr("good/data/aotinductor/model/x.so", b"\x7fELF")
        if attack == "legacy":
            archive.writestr("good/data/weights/model.pt", pickle.dumps(Payload(owned)))
        if attack == "twice":
            archive.writestr("good/models/MODEL.json", b"{}")
    with pytest.raises(InputError, match="could run code when loaded"):
        models.load("evil.pt2", x, folder=folder)
    assert not owned.exists()
    assert models.load("good.pt2", x, folder=folder).classes == 5


SCRIPTS = {
    "alias": "f = torch.save\n  f(x, PATH)",
    "operator": "f = ops.aten.save\n  f(x, PATH)",
    "comment": "(torch.save # c\n  (x, PATH))",
    "continued": "torch.save\\\n  (x, PATH)",
    "plain": "torch.save(x, PATH)",
}


@pytest.mark.parametrize("attack", [*SCRIPTS, "case"])
def test_hostile_torchscript_writes_no_file(
    attack: str, folder: Path, network: nn.Module, x: torch.Tensor
) -> None:
    export(network, folder / "good.ts", x)
    owned = folder / "owned"
    line = SCRIPTS.get(attack, SCRIPTS["plain"]).replace("PATH", json.dumps(str(owned)))

    def edit(name: str, data: bytes) -> bytes:
        if name.endswith(".py") and b"def forward" in data:
            head, _, rest = data.partition(b"-> Tensor:\n")
            return head + b"-> Tensor:\n  " + line.encode() + b"\n" + rest
        return data

    with (
        zipfile.ZipFile(folder / "good.ts") as old,
        zipfile.ZipFile(folder / "evil.ts", "w") as new,
    ):
        changed = 0
        for name in old.namelist():
            data = edit(name, old.read(name))
            changed += data != old.read(name)
            new.writestr(name.replace("/code/", "/CODE/") if attack == "case" else name, data)
    assert changed
    with pytest.raises(InputError, match="reads or writes files"):
        models.load("evil.ts", x, folder=folder)
    assert not owned.exists()


def test_code_that_exits_is_an_error(folder: Path, x: torch.Tensor) -> None:
    (folder / "leaves.py").write_text("import sys\ndef build():\n    sys.exit(0)\n")
    (folder / "script.py").write_text("raise SystemExit(0)\n")
    for spec in ("leaves:build", "script:build"):
        with pytest.raises(InputError, match="failed, SystemExit"):
            models.load(spec, x, folder=folder)
    sys.modules.pop("leaves", None)


def test_another_model_than_the_approved_one_breaks_integrity(
    folder: Path, network: nn.Module, x: torch.Tensor
) -> None:
    export(network, folder / "m.safetensors", x)
    loaded = models.load("m.safetensors", x, arch="zoo:build", folder=folder)
    again = models.load("m.safetensors", x, arch="zoo:build", folder=folder, sha256=loaded.sha256)
    assert again.sha256 == loaded.sha256
    (folder / "other.safetensors").write_bytes(b"not even a model")  # it is not opened
    with pytest.raises(IntegrityError, match="is not the one that was approved"):
        models.load("other.safetensors", x, arch="zoo:build", folder=folder, sha256=loaded.sha256)
    with pytest.raises(IntegrityError, match="is not the one that was approved"):
        models.load("m.safetensors", x, arch="zoo:build", folder=folder, sha256="0" * 64)
