"""Image classifiers of transformers and timm: `hf:…` and `timm:…`, from a folder or a local cache.

`hf:FOLDER`, `timm:FOLDER` and names that were downloaded before need no network; `hf://OWNER/NAME` and
`timm://NAME`, with @REVISION to pin one, name the hub and may download. Weights are safetensors, code
of a repository is never run, and the preprocessing that was saved with a model becomes part of it.
"""

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from torch import nn

from assaymark.reports.errors import InputError, nearest
from assaymark.reports.model_configs import foreign_code
from assaymark.reports.named_code import first_line
from assaymark.robustness import formats
from assaymark.robustness.saved_preprocessing import Piped, Pipeline, of_processor, of_timm

_FILES = ["config.json", "preprocessor_config.json", "*.safetensors", "*.safetensors.index.json"]
# What would run code of a repository, fetch something else, or need other libraries.
_REFUSED = ("auto_map", "quantization_config", "use_pretrained_backbone", "use_timm_backbone")
_LARGEST_CONFIG = 1 << 22


@dataclass(frozen=True, kw_only=True)
class Found:
    """A network with its preprocessing, and the files that both were read from."""

    network: nn.Module
    files: tuple[Path, ...]
    note: str


@dataclass(frozen=True)
class _Named:
    """A spec taken apart."""

    family: Literal["hf", "timm"]
    name: str
    online: bool
    revision: str | None = field(default=None)


def is_hub(spec: str) -> bool:
    """Whether a spec names a model of transformers or timm."""
    return spec.startswith(("hf:", "timm:"))


def read(spec: str, folder: Path, *, normalized: bool) -> Found:
    """The classifier a spec names, with its preprocessing.

    normalized: the policy says itself how pixels are mapped, so the saved mean and std are not used.
    Raises InputError when the library is not there, when nothing is found, or when the model needs
    code, pickles or a download that was not asked for.
    """
    named = _named(spec)
    if named.family == "timm":
        return _timm(named, spec, folder, normalized)
    return _transformers(named, spec, folder, normalized)


def _named(spec: str) -> _Named:
    family, _, rest = spec.partition(":")
    online = rest.startswith("//")
    name, _, revision = rest.removeprefix("//").partition("@") if online else (rest, "", "")
    if not name:
        raise InputError(
            f"{spec} names no model: expected {family}:FOLDER or {family}://OWNER/NAME"
        )
    return _Named("timm" if family == "timm" else "hf", name, online, revision or None)


def _transformers(named: _Named, spec: str, folder: Path, normalized: bool) -> Found:
    try:
        from transformers import AutoModelForImageClassification
        from transformers.utils import logging
    except ImportError as error:
        raise InputError(
            f"{spec} needs transformers: pip install 'assaymark[vision]' ({first_line(error)})"
        ) from error
    place = _place(named, named.name, spec, folder)
    config = _json(place / "config.json", spec)
    kinds = config.get("architectures") or ["nothing"]
    if not any("ForImageClassification" in str(kind) for kind in kinds):
        raise InputError(f"{spec} is {kinds[0]}: expected an architecture …ForImageClassification")
    for key in _REFUSED:
        if config.get(key):
            raise InputError(
                f"{spec} asks for {key} in its config.json, which runs code or fetches more: refused; "
                "export the model with torch.export.save"
            )
    fetched = foreign_code(config)
    if fetched:
        raise InputError(
            f"{spec} names the implementation {fetched[:80]} in its config.json, which may be code of a hub: "
            "take the key out"
        )
    weights = _weights(place, spec)
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    try:
        network, loaded = AutoModelForImageClassification.from_pretrained(
            str(place),
            local_files_only=True,
            use_safetensors=True,
            trust_remote_code=False,
            attn_implementation="eager",  # the others may come from a hub, or lack second derivatives
            output_loading_info=True,
        )
    except Exception as error:
        raise InputError(f"{spec} cannot be read by transformers: {first_line(error)}") from error
    lacking = [*loaded["missing_keys"], *(loaded.get("mismatched_keys") or [])]
    if lacking:
        raise InputError(
            f"the weights of {spec} lack {len(lacking)} tensors of the architecture, such as "
            f"{lacking[0]}: they would be random"
        )
    saved = place / "preprocessor_config.json"
    channels = int(config.get("num_channels", 3))
    if saved.is_file():
        steps = of_processor(_json(saved, spec), spec, channels, normalized=normalized)
    else:
        steps = Pipeline(channels=channels)
    files = (place / "config.json", *([saved] if saved.is_file() else []), *weights)
    said = (
        f"preprocessing of {saved.name}" if saved.is_file() else f"no {saved.name}, preprocessing"
    )
    return Found(
        network=Piped(network.float(), steps), files=files, note=f"{spec}: {said}: {steps}"
    )


def _timm(named: _Named, spec: str, folder: Path, normalized: bool) -> Found:
    try:
        import timm
    except Exception as error:  # a torchvision that does not fit torch fails in its own ways
        raise InputError(
            f"{spec} needs timm, which cannot be imported here ({first_line(error)}): pip install timm "
            "with the torchvision of your torch, or export the model with torch.export.save"
        ) from error
    repository = named.name
    if not (folder / named.name).is_dir() and "/" not in repository:
        known = timm.models.get_pretrained_cfg(repository, allow_unregistered=False)
        if known is None or not known.hf_hub_id:
            raise InputError(
                f"timm has no pretrained {repository}{nearest(repository, timm.list_models())}"
            )
        repository = str(known.hf_hub_id)
    place = _place(named, repository, spec, folder)
    config = _json(place / "config.json", spec)
    card = config.get("pretrained_cfg") or {}
    classes = config.get("num_classes") or card.get("num_classes")
    weights = _weights(place, spec)
    try:
        network = timm.create_model(
            str(config["architecture"]), pretrained=False, num_classes=classes
        )
    except Exception as error:
        raise InputError(f"{spec} cannot be made by timm: {first_line(error)}") from error
    formats.fill(network, formats.safetensors(weights[0]), spec)
    steps = of_timm(card, spec, normalized=normalized)
    files = (place / "config.json", *weights)
    return Found(network=Piped(network, steps), files=files, note=f"{spec}: preprocessing: {steps}")


def _place(named: _Named, repository: str, spec: str, folder: Path) -> Path:
    """The folder with the model: one of the user's, or a snapshot in the cache of the hub."""
    if not named.online and (folder / named.name).is_dir():
        return folder / named.name
    try:
        from huggingface_hub import snapshot_download

        return Path(
            snapshot_download(
                repository,
                revision=named.revision,
                allow_patterns=_FILES,
                local_files_only=not named.online,
            )
        )
    except Exception as error:
        if named.online:
            raise InputError(f"{spec} cannot be downloaded: {first_line(error)}") from error
        raise InputError(
            f"{spec} is neither a folder nor in the local cache: name a folder with config.json and "
            f"model.safetensors, or allow the download with {named.family}://{named.name}"
        ) from error


def _json(path: Path, spec: str) -> dict[str, Any]:
    try:
        if path.stat().st_size > _LARGEST_CONFIG:
            raise ValueError("larger than 4 MiB")
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise InputError(f"{spec} has no readable {path.name}: {first_line(error)}") from error
    if not isinstance(content, dict):
        raise InputError(
            f"{path.name} of {spec} holds a {type(content).__name__}: expected a table"
        )
    return content


def _weights(place: Path, spec: str) -> list[Path]:
    found = sorted(place.glob("*.safetensors"))
    if not found:
        raise InputError(
            f"{spec} holds no .safetensors weights: save them with save_pretrained(…); a pickle such as "
            "pytorch_model.bin is code and is not read"
        )
    return found
