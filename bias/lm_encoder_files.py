"""Folders of sentence encoders and transformers models, checked before any library reads them.

Weights are safetensors, no code of a repository is run, nothing else is fetched, and no tensor stays random.
"""

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from assaymark.reports.errors import InputError
from assaymark.reports.model_configs import foreign_code
from assaymark.reports.named_code import first_line

PARTS = ("Transformer", "Pooling", "Normalize", "Dense", "LayerNorm", "Dropout")
"""The modules of sentence-transformers that a folder may be made of."""
_FILES = ["*.json", "*.txt", "*.model", "*.safetensors", "*/config.json", "*/*.safetensors"]
_REFUSED = ("auto_map", "quantization_config")
_LARGEST_JSON = 64 << 20
_MOST_FILES = 500


@dataclass(frozen=True, kw_only=True)
class Found:
    """A folder with a model. modules: the classes that modules.json names, none where there is none.

    digest: of all files; weights: of the weights alone. revision: the commit, of a model of the hub.
    """

    folder: Path
    modules: tuple[tuple[str, Path], ...]
    digest: str
    weights: str
    revision: str | None


def find(spec: str, folder: Path, revision: str | None = None) -> Found:
    """The folder that a spec names: a path in `folder`, hf:NAME in the local cache, or hf://NAME@REVISION.

    revision: of a model of the hub, where the spec names none.
    Raises InputError for a model that is not there, that needs code, pickles or another download.
    """
    place, commit = _place(spec, folder, revision)
    files = [path for path in sorted(place.rglob("*")) if _is_read(place, path)]
    if len(files) > _MOST_FILES:
        raise InputError(f"{spec} has {len(files)} files: expected the folder of one model")
    for path in files:
        if path.suffix == ".json":
            _check_config(path, spec)
    modules = _modules(place, spec)
    for kind, part in modules or (("Transformer", place),):
        if kind in ("Transformer", "Dense") and not list(part.glob("*.safetensors")):
            raise InputError(
                f"{spec} holds no .safetensors weights in {part.name}: save them with save_pretrained(…); "
                "a pickle such as pytorch_model.bin is code and is not read"
            )
    weights = [path for path in files if path.suffix == ".safetensors"]
    return Found(
        folder=place,
        modules=modules,
        digest=_digest(files, place),
        weights=_digest(weights, place),
        revision=commit,
    )


def _place(spec: str, folder: Path, revision: str | None) -> tuple[Path, str | None]:
    hub, online = spec.startswith("hf:"), spec.startswith("hf://")
    name, pinned = spec.removeprefix("hf:"), ""
    if online:
        name, _, pinned = name.removeprefix("//").partition("@")
    if not name:
        raise InputError(f"{spec!r} names no model: expected a folder, hf:NAME or hf://OWNER/NAME")
    if not online and (folder / name).is_dir():
        return folder / name, None
    if not hub:
        raise InputError(
            f"{spec} is no folder: name one with config.json, or a model with hf:{spec}"
        )
    try:
        from huggingface_hub import snapshot_download

        place = Path(
            snapshot_download(
                name,
                revision=pinned or revision,
                allow_patterns=_FILES,
                ignore_patterns=["onnx/*", "openvino/*"],
                local_files_only=not online,
            )
        )
        return place, place.name
    except Exception as error:
        if online:
            raise InputError(f"{spec} cannot be downloaded: {first_line(error)}") from error
        raise InputError(
            f"{spec} is neither a folder nor in the local cache: name a folder, or allow the download with "
            f"hf://{name}"
        ) from error


def _is_read(place: Path, path: Path) -> bool:
    """Files of the model itself: exports of it to other formats lie deeper, or in folders of their own."""
    inside = path.relative_to(place)
    return (
        path.is_file()
        and len(inside.parts) <= 2
        and inside.parts[0] not in ("onnx", "openvino")
        and path.suffix in (".json", ".txt", ".model", ".safetensors")
    )


def _check_config(path: Path, spec: str) -> None:
    content = read_json(path, spec)
    if path.name == "adapter_config.json":
        raise InputError(
            f"{spec} is an adapter of another model: merge it and save the whole model"
        )
    if not isinstance(content, dict):
        return
    for key in _REFUSED:
        if content.get(key):
            raise InputError(
                f"{spec} asks for {key} in {path.name}, which runs code or needs other libraries: refused"
            )
    fetched = foreign_code(content)
    if fetched:
        raise InputError(
            f"{spec} names the implementation {fetched[:80]} in {path.name}, which may be code of a hub: "
            "take the key out"
        )
    activation = content.get("activation_function")
    if "in_features" in content and not str(activation).startswith("torch.nn.modules."):
        raise InputError(
            f"{spec} names the activation {str(activation)[:80]!r} in {path.parent.name}: expected one of "
            "torch.nn.modules"
        )


def read_json(path: Path, spec: str) -> Any:
    """Raises InputError for a file that is missing, too large or no JSON."""
    try:
        if path.stat().st_size > _LARGEST_JSON:
            raise ValueError(f"larger than {_LARGEST_JSON >> 20} MiB")
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise InputError(f"{spec} has no readable {path.name}: {first_line(error)}") from error


def _modules(place: Path, spec: str) -> tuple[tuple[str, Path], ...]:
    if not (place / "modules.json").is_file():
        return ()
    listed = read_json(place / "modules.json", spec)
    if (
        not isinstance(listed, list)
        or not listed
        or not all(isinstance(one, dict) for one in listed)
    ):
        raise InputError(f"modules.json of {spec} is no list of modules as expected")
    found = []
    for one in listed:
        kind, path = str(one.get("type", "")), str(one.get("path", ""))
        name = kind.rpartition(".")[2]
        if not kind.startswith("sentence_transformers.") or name not in PARTS:
            raise InputError(
                f"{spec} is made of {kind[:80] or 'nothing'}: expected modules of sentence-transformers "
                f"({', '.join(PARTS)})"
            )
        part = (place / path).resolve()
        if not part.is_relative_to(place.resolve()):
            raise InputError(
                f"modules.json of {spec} names {path[:80]!r}, outside its folder: refused"
            )
        found.append((name, part))
    return tuple(found)


def _digest(files: Sequence[Path], place: Path) -> str:
    """sha256 over the names and contents of files."""
    whole = hashlib.sha256()
    for path in files:
        with path.open("rb") as file:
            content = hashlib.file_digest(file, "sha256").hexdigest()
        whole.update(f"{path.relative_to(place).as_posix()} {content}\n".encode())
    return whole.hexdigest()
