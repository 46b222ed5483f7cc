"""`assaymark doctor`: what works on this machine, and what mends the rest."""

import sys
from collections.abc import Callable

import typer

from assaymark.cli.exit import ExitCode
from assaymark.cli.terminal import say

Probe = Callable[[], str]


def doctor() -> None:
    """Say what works here, what is missing, and the command that mends it."""
    broken = False
    for name, probe, needed, mend in PROBES:
        try:
            say(f"✔ {name:<12} {probe()}")
        except Exception as error:  # a probe finds out how things are broken
            if isinstance(error.__context__, KeyboardInterrupt):
                raise KeyboardInterrupt from error
            broken |= needed
            first = str(error).strip().splitlines()
            reason = first[0] if first else type(error).__name__
            say(f"{'✘' if needed else '–'} {name:<12} {reason}; mend it with: {mend}")
    if broken:
        raise typer.Exit(int(ExitCode.INCOMPLETE))


def version(package: str) -> str:
    from importlib import metadata

    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        raise RuntimeError(f"{package} is not installed") from None


def _python() -> str:
    return f"{sys.version.split()[0]} ({sys.executable})"


def _torch() -> str:
    import torch

    loss = torch.ones(2, requires_grad=True).square().sum()
    loss.backward()
    return f"{torch.__version__}, {torch.get_num_threads()} threads"


def _cuda() -> str:
    import torch

    if not torch.cuda.is_available():
        raise RuntimeError("no CUDA device; checks run on the CPU")
    return f"{torch.cuda.get_device_name(0)}, {torch.cuda.device_count()} device(s)"


def _foolbox() -> str:
    from assaymark.robustness.borrowed import foolbox_names

    return f"{version('foolbox')}, {len(foolbox_names())} attacks"


def _cleverhans() -> str:
    from assaymark.robustness.borrowed import cleverhans_names

    import_name = "cleverhans.torch.attacks.projected_gradient_descent"
    __import__(import_name)
    return f"{version('cleverhans')}, {len(cleverhans_names())} attacks"


def _c2pa() -> str:
    """Sign and verify a picture in memory: the library is there, and it works."""
    import tempfile
    from pathlib import Path

    from PIL import Image

    from assaymark.provenance.keys import new_chain
    from assaymark.provenance.sign import sign
    from assaymark.provenance.trust import Trust
    from assaymark.provenance.verify import State, examine

    chain = new_chain("assaymark doctor")
    with tempfile.TemporaryDirectory() as folder:
        source, signed = Path(folder, "a.png"), Path(folder, "b.png")
        Image.new("RGB", (8, 8)).save(source)
        sign(source, signed, chain.credentials)
        if examine(signed, Trust(signers=chain.trust_anchor_pem)).state is not State.TRUSTED:
            raise RuntimeError("a fresh signature does not verify")
    return f"{version('c2pa-python')}, signed and verified a picture"


def _encypher() -> str:
    """The second engine; loading it sends nothing."""
    return f"{version('encypher-c2pa')} (a second engine for Content Credentials)"


def _pkcs11() -> str:
    import pkcs11  # noqa: F401

    return f"{version('python-pkcs11')} (keys in hardware tokens)"


def _fairlearn() -> str:
    from fairlearn.metrics import selection_rate

    selection_rate([0, 1], [0, 1])
    return version("fairlearn")


def _skops() -> str:
    return f"{version('skops')} (scikit-learn models in .skops files)"


def _media() -> str:
    import av  # noqa: F401

    return f"PyAV {version('av')} (sound and video in detection)"


def _faces() -> str:
    import cv2

    if not hasattr(cv2, "CascadeClassifier"):
        raise RuntimeError(f"OpenCV {cv2.__version__} carries no cascades, 4 does")
    return f"OpenCV {cv2.__version__} (faces in detection)"


def _onnx() -> str:
    return f"onnx {version('onnx')}, onnxruntime {version('onnxruntime')}"


def _vision() -> str:
    return f"transformers {version('transformers')}"


def _parquet() -> str:
    return f"pyarrow {version('pyarrow')}"


# name, probe, needed for the core?, the command that mends it
PROBES: tuple[tuple[str, Probe, bool, str], ...] = (
    ("python", _python, True, "install Python 3.11 or newer"),
    ("torch", _torch, True, "pip install torch"),
    ("cuda", _cuda, False, "install the torch build for your GPU (see README)"),
    ("foolbox", _foolbox, True, "pip install foolbox"),
    ("cleverhans", _cleverhans, True, "pip install cleverhans"),
    ("fairlearn", _fairlearn, True, "pip install fairlearn"),
    ("parquet", _parquet, True, "pip install pyarrow"),
    ("c2pa", _c2pa, True, "pip install c2pa-python cryptography"),
    ("encypher", _encypher, False, "pip install 'assaymark[encypher]'"),
    ("pkcs11", _pkcs11, False, "pip install 'assaymark[pkcs11]'"),
    ("media", _media, False, "pip install 'assaymark[media]'"),
    ("faces", _faces, False, "pip install 'assaymark[faces]'"),
    ("onnx", _onnx, False, "pip install 'assaymark[onnx]'"),
    ("skops", _skops, False, "pip install 'assaymark[skops]'"),
    ("vision", _vision, False, "pip install 'assaymark[vision]'"),
)
