"""Language models of transformers: `FOLDER` and `hf:…` from disk, `hf://OWNER/NAME@REVISION` from the hub.

Only the last form may download. Weights are safetensors, code of a repository is never run, and the
digests of weights, tokenizer and configuration are part of every model's key.
"""

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal, get_args

import torch
from torch import nn

from assaymark.bias.lm_batches import Batches
from assaymark.bias.lm_causal import Causal
from assaymark.bias.lm_masked import MaskedModel
from assaymark.bias.lm_model import LanguageModel
from assaymark.bias.lm_windows import NO_LIMIT, embeddings
from assaymark.reports.errors import InputError, IntegrityError
from assaymark.reports.model_configs import foreign_code
from assaymark.reports.named_code import first_line

Task = Literal["causal", "masked"]
Precision = Literal["auto", "float32", "bfloat16", "float16"]
_FILES = (
    "config.json",
    "generation_config.json",
    "model*.safetensors",
    "model.safetensors.index.json",
    "tokenizer*",
    "special_tokens_map.json",
    "added_tokens.json",
    "vocab.*",
    "merges.txt",
    "*.model",
    "chat_template*",
)
_TOKENIZER = _FILES[4:]
_LARGEST_CONFIG = 1 << 22
_CAUSAL = ("ForCausalLM", "LMHeadModel")
_MASKED = ("ForMaskedLM", "ForPreTraining", "WithLMHeadModel")


def load(
    spec: str,
    *,
    folder: Path = Path(),
    device: str = "cpu",
    dtype: Precision = "auto",
    batch_size: int | None = None,
    revision: str | None = None,
    sha256: str | None = None,
    task: Task | None = None,
) -> LanguageModel:
    """The language model a spec names: a causal one scores and writes, a masked one fills blanks.

    dtype: auto is what was saved, and float32 on a CPU. batch_size: sequences or packs at once; None is as
    many as memory holds. task: what the architecture in config.json is used for, where it does not say.
    Raises InputError when it is not found or cannot be read, when it would need code, pickles or a download
    that was not asked for; IntegrityError when the digest of its weights is not `sha256`.
    """
    if batch_size is not None and batch_size < 1:
        raise InputError(f"batch_size is {batch_size}: expected a whole number from 1")
    if dtype not in get_args(Precision):
        raise InputError(f"dtype is {dtype}: expected one of {', '.join(get_args(Precision))}")
    place, revision = _place(spec, folder, revision)
    config = _config(place, spec)
    task = task or _task(config.get("architectures") or [], spec)
    weights = _weights(place, spec)
    digest = _digest(weights)
    if sha256 is not None and digest != sha256:
        raise IntegrityError(
            f"the weights of {spec} have SHA-256 {digest}, expected {sha256}: "
            "the model is not the one that was approved"
        )
    model, tokenizer = _read(place, spec, task, device, dtype)
    tokens = _digest(sorted({path for part in _TOKENIZER for path in place.glob(part)}))
    facts = {
        "revision": revision or "not stated: a folder",
        "weights": f"SHA-256 {digest}",
        "tokenizer": f"{type(tokenizer).__name__}, SHA-256 {tokens}",
    }
    key = (digest, tokens, _digest([place / "config.json"]))
    return _wrapped(
        model, tokenizer, task, spec, key=key, facts=facts, sha256=digest, rows=batch_size
    )


def of_transformers(
    model: nn.Module,
    tokenizer: Any,
    *,
    name: str = "model in memory",
    task: Task | None = None,
    batch_size: int | None = None,
) -> LanguageModel:
    """A model of transformers and its tokenizer that are in memory; it stays on its device.

    The model is put into evaluation mode, and its generation_config is replaced by a plain one. task: as
    its class says, when None. Raises InputError for a class or a tokenizer that does not fit.
    """
    weights = hashlib.sha256()
    for part, values in sorted(model.state_dict().items()):
        weights.update(f"{part} {tuple(values.shape)}".encode())
        plain = values.detach().cpu().contiguous().reshape(-1)
        weights.update(plain.view(torch.uint8).numpy())
    config: Any = model.config
    key = (weights.hexdigest(), _of_tokenizer(tokenizer), config.to_json_string())
    task = task or _task([type(model).__name__], name)
    return _wrapped(model, tokenizer, task, name, key=key, facts={}, sha256=None, rows=batch_size)


def _wrapped(
    model: nn.Module,
    tokenizer: Any,
    task: Task,
    name: str,
    *,
    key: tuple[str, ...],
    facts: Mapping[str, str],
    sha256: str | None,
    rows: int | None,
) -> LanguageModel:
    import transformers

    model.eval().requires_grad_(False)
    vocabulary = len(embeddings(model))
    if max(tokenizer.get_vocab().values(), default=0) >= vocabulary:
        raise InputError(
            f"the tokenizer of {name} has token {max(tokenizer.get_vocab().values())}, and the model "
            f"knows {vocabulary}: they are not of the same model"
        )
    parameter = next(model.parameters())
    batches = Batches(parameter.device, vocabulary, rows)
    precision = str(parameter.dtype).removeprefix("torch.")
    versions = f"torch {torch.__version__}, transformers {transformers.__version__}"
    parts = (*key, task, precision, parameter.device.type, versions)
    known = {
        **facts,
        "model": f"{type(model).__name__}, {sum(p.numel() for p in model.parameters()):,} parameters",
        "precision": f"{precision} on {parameter.device.type}",
        "versions": versions,
    }
    digest = hashlib.sha256("\n".join(parts).encode()).hexdigest()
    if task == "masked":
        masked = MaskedModel(model, tokenizer, batches)
        known["context window"] = _tokens(masked.window)
        return LanguageModel(
            name=name,
            key=digest,
            facts=known,
            sha256=sha256,
            masked=masked,
            network=(model, tokenizer),
        )
    from assaymark.bias.lm_generate import Writer

    causal, writer = Causal(model, tokenizer, batches), Writer(model, tokenizer, rows)
    known["context window"] = _tokens(causal.window)
    known["scoring"] = (
        "shared beginnings of texts are computed once (token tries, 4-D attention mask)"
        if causal.ways.packed
        else "texts one by one in padded batches: the model does not take a 4-D attention mask"
    )
    known["prompts"] = "with its chat template" if writer.chat else "as they are: no chat template"
    return LanguageModel(
        name=name,
        key=digest,
        facts=known,
        sha256=sha256,
        score=causal.score,
        generate=writer.generate,
        chat=writer.chat,
        network=(model, tokenizer),
    )


def _tokens(window: int) -> str:
    return "not limited" if window >= NO_LIMIT else f"{window} tokens"


def _read(
    place: Path, spec: str, task: Task, device: str, dtype: Precision
) -> tuple[nn.Module, Any]:
    try:
        from transformers import AutoModelForCausalLM, AutoModelForMaskedLM, AutoTokenizer
        from transformers.utils import logging
    except ImportError as error:
        raise InputError(
            f"{spec} needs transformers: pip install 'assaymark[lm]' ({first_line(error)})"
        ) from error
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    kind = AutoModelForMaskedLM if task == "masked" else AutoModelForCausalLM
    precision: Any = "auto" if dtype == "auto" else getattr(torch, dtype)
    if dtype == "auto" and torch.device(device).type == "cpu":
        precision = torch.float32
    try:
        tokenizer = AutoTokenizer.from_pretrained(
            str(place), local_files_only=True, trust_remote_code=False
        )
        model, loaded = _attending(kind, place, precision)
        model = model.to(device)
    except Exception as error:
        raise InputError(f"{spec} cannot be read by transformers: {first_line(error)}") from error
    lacking = [*loaded["missing_keys"], *(loaded.get("mismatched_keys") or [])]
    if lacking:
        raise InputError(
            f"the weights of {spec} lack {len(lacking)} tensors of a {task} language model, such as "
            f"{lacking[0]}: they would be random"
        )
    return model, tokenizer


def _attending(kind: Any, place: Path, precision: Any) -> tuple[Any, Any]:
    """The model with attention that takes any mask; one that is named in a file may come from a hub."""
    for attention in ("sdpa", "eager"):
        try:
            found: tuple[Any, Any] = kind.from_pretrained(
                str(place),
                dtype=precision,
                local_files_only=True,
                use_safetensors=True,
                trust_remote_code=False,
                attn_implementation=attention,
                output_loading_info=True,
            )
        except ValueError as error:
            if attention == "eager" or "scaled_dot_product_attention" not in str(error):
                raise
        else:
            return found
    raise AssertionError("one of the two returns or raises")


def _place(spec: str, folder: Path, revision: str | None) -> tuple[Path, str | None]:
    """The folder with the model, and which revision of the hub it is."""
    name = spec.removeprefix("hf:")
    online = spec.startswith("hf://")
    if online:
        name, _, pinned = name.removeprefix("//").partition("@")
        if pinned and revision and pinned != revision:
            raise InputError(f"{spec} names revision {pinned}, and revision is {revision}")
        revision = pinned or revision
    if not name:
        raise InputError(f"{spec} names no model: expected FOLDER, hf:FOLDER or hf://OWNER/NAME")
    if not online and (folder / name).is_dir():
        return folder / name, revision
    if not spec.startswith("hf:"):
        raise InputError(
            f"no folder at {spec}: expected one with config.json and model.safetensors, or "
            f"hf://{spec} to download a model of the hub"
        )
    try:
        from huggingface_hub import snapshot_download

        place = Path(
            snapshot_download(
                name, revision=revision, allow_patterns=list(_FILES), local_files_only=not online
            )
        )
    except Exception as error:
        if online:
            raise InputError(f"{spec} cannot be downloaded: {first_line(error)}") from error
        raise InputError(
            f"{spec} is neither a folder nor in the local cache: name a folder with config.json and "
            f"model.safetensors, or allow the download with hf://{name}"
        ) from error
    return place, place.name  # the folder of a snapshot is called as its commit


def _config(place: Path, spec: str) -> dict[str, Any]:
    config = _json(place / "config.json", spec)
    if config.get("quantization_config"):
        raise InputError(
            f"{spec} has quantized weights, which may fetch code to be read: name the model in full "
            "precision, or serve it and name its address"
        )
    fetched = foreign_code(config)
    if fetched:
        raise InputError(
            f"config.json of {spec} names the implementation {fetched}, which may be code of a hub: "
            "take the key out"
        )
    if config.get("is_encoder_decoder"):
        raise InputError(
            f"{spec} is an encoder-decoder: expected a causal or a masked language model"
        )
    if (place / "adapter_config.json").exists():
        raise InputError(f"{spec} is an adapter: merge it with its model (merge_and_unload) first")
    return config


def _task(architectures: list[Any], name: str) -> Task:
    for architecture in map(str, architectures):
        if architecture.endswith(_CAUSAL):
            return "causal"
        if architecture.endswith(_MASKED):
            return "masked"
    said = ", ".join(map(str, architectures)) or "no architecture"
    raise InputError(
        f"{name} is {said}: expected …ForCausalLM, …LMHeadModel or …ForMaskedLM, or a task that says "
        "causal or masked"
    )


def _weights(place: Path, spec: str) -> list[Path]:
    index = place / "model.safetensors.index.json"
    if index.is_file():
        named = _json(index, spec, 1 << 26).get("weight_map")
        names = sorted(set(named.values())) if isinstance(named, dict) else []
        wrong = [name for name in names if not isinstance(name, str) or Path(name).name != name]
        if wrong or not names:
            raise InputError(f"{index.name} of {spec} names no files of its own folder")
        found = [place / name for name in names]
    else:
        found = [place / "model.safetensors"]
    missing = [path.name for path in found if not path.is_file()]
    if missing:
        raise InputError(
            f"{spec} has no {missing[0]}: save it with save_pretrained(…, safe_serialization=True); a "
            "pickle such as pytorch_model.bin is code and is not read"
        )
    return found


def _json(path: Path, spec: str, largest: int = _LARGEST_CONFIG) -> dict[str, Any]:
    try:
        if path.stat().st_size > largest:
            raise ValueError(f"larger than {largest >> 20} MiB")
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise InputError(f"{spec} has no readable {path.name}: {first_line(error)}") from error
    if not isinstance(content, dict):
        raise InputError(
            f"{path.name} of {spec} holds a {type(content).__name__}: expected a table"
        )
    return content


def _digest(paths: list[Path]) -> str:
    """Of one file its SHA-256; of several the SHA-256 of theirs, one after the other."""
    digests = []
    for path in paths:
        with path.open("rb") as stream:
            digests.append(hashlib.file_digest(stream, "sha256"))
    if len(digests) == 1:
        return digests[0].hexdigest()
    return hashlib.sha256(b"".join(digest.digest() for digest in digests)).hexdigest()


def _of_tokenizer(tokenizer: Any) -> str:
    """The digest of a tokenizer in memory."""
    known = (
        tokenizer.backend_tokenizer.to_str()
        if tokenizer.is_fast
        else json.dumps(sorted(tokenizer.get_vocab().items()))
    )
    more = (sorted(map(str, tokenizer.special_tokens_map.items())), tokenizer.chat_template)
    return hashlib.sha256(f"{known}{more}".encode()).hexdigest()
