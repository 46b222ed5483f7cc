"""The versions that a result depends on."""

from functools import cache
from importlib.metadata import PackageNotFoundError, version

_RECORDED = (
    "assaymark", "c2pa-python", "c2pa-text", "cleverhans", "cryptography", "encypher-c2pa",
    "fairlearn", "foolbox", "numpy", "onnx", "onnxruntime", "pandas", "pillow", "safetensors",
    "scikit-learn", "scipy", "timm", "torch", "transformers",
)  # fmt: skip


@cache
def versions() -> dict[str, str]:
    """Installed version by package; what is not installed is left out."""
    found = {}
    for package in _RECORDED:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            continue
    return found
