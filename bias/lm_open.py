"""A language model by its spec, whoever runs it."""

import re
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

from assaymark.bias.lm_endpoint_options import EndpointOptions
from assaymark.bias.lm_model import LanguageModel
from assaymark.reports.errors import InputError, IntegrityError

Task = Literal["auto", "causal", "masked", "encoder", "vectors"]
_VECTORS = (".txt", ".vec", ".bin", ".npz", ".txt.gz", ".vec.gz", ".bin.gz")
_CODE = re.compile(r"[\w.]+:[\w.]+")


@dataclass(frozen=True, kw_only=True)
class Opening:
    """How a model is opened.

    spec: a folder, hf:NAME, hf://NAME, an http(s) address with `served` (the model's name there) and
    `endpoint`, package.module:name, demo:NAME, or a file of word vectors. revision: of a model of the hub;
    of code or a server, the user's word for what its answers depend on. embeds: vectors of texts are wanted
    too; pooling: of which hidden states.
    """

    spec: str
    folder: Path = Path()
    device: str = "cpu"
    task: Task = "auto"
    precision: Literal["auto", "float32", "bfloat16", "float16"] = "auto"
    batch_size: int | None = None
    revision: str | None = None
    sha256: str | None = None
    served: str | None = None
    endpoint: EndpointOptions | None = None
    embeds: bool = False
    pooling: Literal["mean", "cls", "last"] | None = None


def open_model(how: Opening) -> LanguageModel:
    """The model; raises InputError when there is none, IntegrityError when it is not the approved one."""
    model = _opened(how)
    if how.sha256 is not None and model.sha256 != how.sha256:
        raise IntegrityError(
            f"{how.spec} has the SHA-256 {model.sha256 or '(none: its weights are not at hand)'}, and the "
            f"policy approved {how.sha256}: it is not the model that was approved"
        )
    return model


def _opened(how: Opening) -> LanguageModel:
    spec = how.spec
    if spec.startswith(("http://", "https://")):
        return _served(how)
    if spec.startswith("demo:"):
        from assaymark.bias.lm_demo import demo_model

        return demo_model(spec)
    if how.task == "vectors" or (how.task == "auto" and spec.lower().endswith(_VECTORS)):
        from assaymark.bias.lm_vectors import vectors

        return vectors(how.folder / spec)
    if _CODE.fullmatch(spec) and not spec.startswith("hf:"):
        from assaymark.bias.lm_functions import of_function

        return of_function(spec, how.folder, revision=how.revision or "")
    if how.task == "encoder" or (how.task == "auto" and (_plain(how) / "modules.json").is_file()):
        return _encoder(how)
    return _local(how)


def _plain(how: Opening) -> Path:
    return how.folder / how.spec.removeprefix("hf:")


def _served(how: Opening) -> LanguageModel:
    from assaymark.bias.lm_endpoint import endpoint

    if how.served is None:
        raise InputError(f"{how.spec} may serve several models: name one with endpoint.model")
    return endpoint(how.spec, model=how.served, options=how.endpoint or EndpointOptions())


def _encoder(how: Opening) -> LanguageModel:
    _needs("sentence_transformers", how.spec)
    from assaymark.bias.lm_encoders import encoder

    return encoder(how.spec, how.folder, how.device, pooling=how.pooling, revision=how.revision)


def _local(how: Opening) -> LanguageModel:
    _needs("transformers", how.spec)
    from assaymark.bias.lm_local import load

    task: Any = None if how.task == "auto" else how.task
    model = load(
        how.spec,
        folder=how.folder,
        device=how.device,
        dtype=how.precision,
        batch_size=how.batch_size,
        revision=how.revision,
        sha256=how.sha256,
        task=task,
    )
    if not how.embeds:
        return model
    also = _encoder(how)
    facts = {**model.facts, **{f"vectors: {key}": value for key, value in also.facts.items()}}
    return replace(model, embed=also.embed, key=f"{model.key} {also.key}", facts=facts)


def _needs(module: str, spec: str) -> None:
    from importlib.util import find_spec

    if find_spec(module) is None:
        raise InputError(
            f"{spec} is read with {module.replace('_', '-')}, which is not installed: "
            "pip install 'assaymark[lm]'"
        )
