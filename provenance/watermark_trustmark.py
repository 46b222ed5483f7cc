"""TrustMark (https://arxiv.org/abs/2311.18297) as a watermark, where it and its weights are at hand.

The package `trustmark` is MIT-licensed and needs torch; its weights are files of their own that it would
fetch by itself. Here they come from a folder that the user names, their checksums are compared with the
package's, and nothing is fetched. TrustMark has no key: anybody can read the bits, remove them and write
others. So 29 of its 61 bits (encoding BCH_5) are a keyed seal of the other 32.
"""

import hashlib
from functools import cached_property
from importlib import import_module
from pathlib import Path
from typing import Any, Literal

import numpy
from PIL import Image

from assaymark.provenance.watermark import (
    PAYLOAD_BITS,
    Mark,
    Pixels,
    check_payload,
    derived,
    seal,
)
from assaymark.reports.errors import InputError

Variant = Literal["C", "P", "Q"]
_BITS = 61  # that BCH_5 leaves of 96 (TrustMark, datalayer.py)
_SEAL = _BITS - PAYLOAD_BITS


class TrustMarkWatermark:
    """TrustMark with weights from a folder: P is the least visible, Q the usual one, C the smallest.

    Raises InputError where the package is not installed, or a file of weights is missing or another.
    """

    def __init__(self, weights: Path, *, variant: Variant = "P", largest_p: float = 1e-6) -> None:
        self._weights, self._variant, self._largest_p = weights, variant, largest_p

    @property
    def algorithm(self) -> str:
        return f"com.adobe.trustmark.{self._variant}"

    def embed(self, pixels: Pixels, payload: int, key: bytes) -> Pixels:
        """See `Watermark`."""
        check_payload(payload)
        word = payload << _SEAL | seal(payload, key, _SEAL)
        marked = self._model.encode(Image.fromarray(pixels), f"{word:0{_BITS}b}", MODE="binary")
        return numpy.asarray(marked.convert("RGB"))

    def detect(self, pixels: Pixels, key: bytes) -> Mark | None:
        """See `Watermark`; p_value is the chance that a wrong payload bears the right seal.

        score is 1: the package gives no measure of its own.
        """
        derived(key, "seal")  # a key that is too short is an error even where there is no mark
        text, present, _ = self._model.decode(Image.fromarray(pixels), MODE="binary")
        p = 2.0**-_SEAL
        if not present or len(text) != _BITS or p > self._largest_p:
            return None
        word = int(text, 2)
        payload, tag = word >> _SEAL, word & ((1 << _SEAL) - 1)
        return (
            Mark(payload=payload, score=1.0, p_value=p)
            if tag == seal(payload, key, _SEAL)
            else None
        )

    @cached_property
    def _model(self) -> Any:
        try:
            trustmark: Any = import_module("trustmark.trustmark")
        except ImportError as error:
            raise InputError(
                f"TrustMark is not installed ({error}): pip install trustmark, or use the built-in "
                "watermark"
            ) from error
        folder, checksums = self._weights, trustmark.MODEL_CHECKSUMS

        class Offline(trustmark.TrustMark):  # type: ignore[misc]
            """Loads from the folder instead of fetching."""

            def check_and_download(self, filename: str) -> None:
                _check_weights(Path(filename), checksums)

            def load_model(
                self, config_path: str, weight_path: str, *rest: Any, **named: Any
            ) -> Any:
                at = [str(folder / Path(name).name) for name in (config_path, weight_path)]
                for name in at:  # the package would print the error and go on without a model
                    _check_weights(Path(name), checksums)
                return super().load_model(*at, *rest, **named)

        return Offline(verbose=False, model_type=self._variant, encoding_type=1, loadRemover=False)


def _check_weights(path: Path, checksums: dict[str, str]) -> None:
    """The file is the one that the package's authors published (by their MD5, for want of another)."""
    try:
        with path.open("rb") as stream:
            found = hashlib.file_digest(
                stream, lambda: hashlib.md5(usedforsecurity=False)
            ).hexdigest()
    except OSError as error:
        raise InputError(
            f"cannot read TrustMark's {path}: {error.strerror or error}; put the published files into "
            "that folder, they are not fetched"
        ) from error
    if found != checksums.get(path.name):
        raise InputError(
            f"{path} has MD5 {found}, expected {checksums.get(path.name, 'another name')}: get the "
            "published file again"
        )
