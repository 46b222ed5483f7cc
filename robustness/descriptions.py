"""A defended model as a small file: x.defended.json names a network and what stands before it.

Data only: it names no code, so it is safe to open as far as the network's own format is. Where the
network is a file of weights, the user still names the architecture, as for the weights themselves.
"""

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import nn

from assaymark.reports.errors import InputError, nearest
from assaymark.robustness.defended import Defended, Smoothed
from assaymark.robustness.detectors import Guarded, detector
from assaymark.robustness.transforms import defense, fitting_options

SUFFIX = ".defended.json"
_FORMAT = "assaymark defended model"
_KEYS = (
    "format", "version", "network", "sha256", "input_range", "mean", "std", "defenses", "smoothing",
    "detector",
)  # fmt: skip
Options = Mapping[str, Any]


@dataclass(frozen=True, kw_only=True)
class Description:
    """What x.defended.json says.

    network: a model spec of data only, relative to the file. sha256: of the network, None for the
    demo's. mean, std and input_range stand between the defenses and the network.
    """

    network: str
    sha256: str | None = None
    input_range: tuple[float, float] | None = None
    mean: tuple[float, ...] | None = None
    std: tuple[float, ...] | None = None
    defenses: tuple[tuple[str, Options], ...] = ()
    smoothing: Options | None = None
    detector: tuple[str, Options] | None = None
    threshold: float | None = None

    def around(self, network: nn.Module) -> nn.Module:
        """The network behind its defenses; raises InputError when one is unknown or has wrong options."""
        transforms = [defense(name, options) for name, options in self.defenses]
        model = Defended(network, transforms) if transforms else network
        if self.smoothing is not None:
            model = _smoothed(model, self.smoothing)
        if self.detector is not None:
            assert self.threshold is not None
            model = Guarded(model, detector(*self.detector), self.threshold)
        return model

    def json(self) -> str:
        content: dict[str, object] = {"format": _FORMAT, "version": 1, "network": self.network}
        content |= {
            key: value
            for key, value in (
                ("sha256", self.sha256),
                ("input_range", self.input_range),
                ("mean", self.mean),
                ("std", self.std),
                ("smoothing", None if self.smoothing is None else dict(self.smoothing)),
            )
            if value is not None
        }
        content["defenses"] = [{"name": name, **options} for name, options in self.defenses]
        if self.detector is not None:
            name, options = self.detector
            content["detector"] = {"name": name, "threshold": self.threshold, **options}
        return json.dumps(content, indent=2) + "\n"


def _smoothed(model: nn.Module, options: Options) -> Smoothed:
    def make(sigma: float, samples: int = 32) -> Smoothed:
        if not 0 < sigma <= 10 or not 1 <= samples <= 100_000:
            raise InputError(
                f"sigma is above 0 and at most 10, samples from 1 to 100000, got {sigma:g} and "
                f"{samples}"
            )
        return Smoothed(model, sigma, samples)

    try:
        if "sigma" not in options:
            raise InputError("it needs sigma, the size of the noise in pixel units")
        return make(**fitting_options(make, options))
    except InputError as error:
        raise InputError(f"smoothing: {error}") from error


def read(path: Path) -> Description:
    """The description in a file; raises InputError for anything that is none."""
    name = path.name
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise InputError(f"{name} is not a description of a defended model: {error}") from error
    if not isinstance(content, dict) or content.get("format") != _FORMAT:
        raise InputError(f'{name} is not a description of a defended model: no "format"')
    if content.get("version") != 1:
        raise InputError(
            f"{name} has version {content.get('version')!r}, expected 1: a newer assaymark wrote it"
        )
    for key in content:
        if key not in _KEYS:
            raise InputError(f'{name} has the unknown key "{key}"{nearest(key, _KEYS)}')
    network = content.get("network")
    if not isinstance(network, str) or not network:
        raise InputError(f"{name} names no network")
    demo = network.startswith("demo:")
    if network.endswith(SUFFIX) or (":" in network and not demo):
        raise InputError(
            f"{name} names the network {network}: expected a model file or demo:NAME, not code and "
            "not another description"
        )
    sha256 = content.get("sha256")
    if not isinstance(sha256, str) and not (demo and sha256 is None):
        raise InputError(f"{name} does not say the SHA-256 of its network")
    watcher, threshold = _named(name, content["detector"]) if "detector" in content else None, None
    if watcher is not None:
        options = dict(watcher[1])
        threshold = options.pop("threshold", None)
        if isinstance(threshold, bool) or not isinstance(threshold, int | float):
            raise InputError(f"{name} has a detector without a threshold")
        if not math.isfinite(threshold):
            raise InputError(f"{name} has a detector whose threshold is {threshold}")
        watcher, threshold = (watcher[0], options), float(threshold)
    defenses = content.get("defenses", [])
    if not isinstance(defenses, list):
        raise InputError(f"{name} has defenses that are no list")
    smoothing = content.get("smoothing")
    if smoothing is not None and not isinstance(smoothing, dict):
        raise InputError(f"{name} has a smoothing that is no table")
    mean, std = _numbers(name, content, "mean"), _numbers(name, content, "std")
    if len(mean or ()) != len(std or ()) or min(std or (1.0,)) <= 0:
        raise InputError(f"{name} has mean {mean} and std {std}: expected one of each a channel")
    return Description(
        network=network,
        sha256=sha256,
        input_range=_numbers(name, content, "input_range", 2),
        mean=mean,
        std=std,
        defenses=tuple(_named(name, entry) for entry in defenses),
        smoothing=smoothing,
        detector=watcher,
        threshold=threshold,
    )


def _named(name: str, entry: object) -> tuple[str, Options]:
    if not isinstance(entry, dict) or not isinstance(entry.get("name"), str):
        raise InputError(f"{name} has a defense without a name")
    return entry["name"], {key: value for key, value in entry.items() if key != "name"}


def _numbers(
    name: str, content: dict[str, Any], key: str, count: int | None = None
) -> tuple[Any, ...] | None:
    values = content.get(key)
    if values is None:
        return None
    good = isinstance(values, list) and all(
        isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
        for value in values
    )
    if not good or not values or (count is not None and len(values) != count):
        raise InputError(f"{name} has {key} = {values!r}: expected {count or 'some'} numbers")
    return tuple(float(value) for value in values)
