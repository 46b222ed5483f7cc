"""Sequence classifiers of transformers: safetensors, no code of a repository, texts that fit as a whole."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from assaymark.bias.lm_encoder_files import find, read_json
from assaymark.bias.lm_model import Failed
from assaymark.reports.errors import InputError
from assaymark.reports.named_code import first_line


@dataclass(frozen=True, kw_only=True)
class Network:
    """A sequence classifier of transformers, in memory. several: a text can have many of the labels."""

    spec: str
    tokenizer: Any
    network: Any
    labels: tuple[str, ...]
    several: bool
    longest: int
    sha256: str

    def answers(self, texts: Sequence[str], chosen: int | None) -> list[float | str | Failed]:
        """Of each text the probability of a class; of None the name of the likeliest class."""
        return [self._answer(row, chosen) for row in self._probabilities(texts)]

    def _answer(self, row: list[float] | Failed, chosen: int | None) -> float | str | Failed:
        if isinstance(row, Failed):
            return row
        if not all(map(math.isfinite, row)):
            return Failed("error", f"{self.spec} gave probabilities that are no numbers")
        if chosen is not None:
            return row[chosen]
        return self.labels[max(range(len(row)), key=row.__getitem__)]

    def _probabilities(self, texts: Sequence[str]) -> list[list[float] | Failed]:
        import torch

        counts = [len(ids) for ids in self.tokenizer(list(texts), verbose=False)["input_ids"]]
        fit = [text for text, count in zip(texts, counts, strict=True) if count <= self.longest]
        rows: list[list[float]] = []
        if fit:
            read = self.tokenizer(fit, padding=True, return_tensors="pt").to(self.network.device)
            with torch.inference_mode():
                logits = self.network(**read).logits.double()
            rows = (logits.sigmoid() if self.several else logits.softmax(-1)).tolist()
        left = iter(rows)
        return [
            next(left)
            if count <= self.longest
            else Failed("too-long", f"{count} tokens: {self.spec} reads at most {self.longest}")
            for count in counts
        ]


def read_network(spec: str, folder: Path, device: str) -> Network:
    """The classifier in a folder or the local cache. Raises InputError where it cannot be read safely."""
    found = find(spec, folder)
    kinds = read_json(found.folder / "config.json", spec).get("architectures") or ["nothing"]
    if not any("ForSequenceClassification" in str(kind) for kind in kinds):
        raise InputError(
            f"{spec} is {str(kinds[0])[:80]}: expected an architecture …ForSequenceClassification"
        )
    try:
        from transformers import AutoModelForSequenceClassification, AutoTokenizer
        from transformers.utils import logging

        from assaymark.bias.lm_windows import window_of
    except ImportError as error:
        raise InputError(
            f"{spec} needs transformers: pip install 'assaymark[lm]' ({first_line(error)})"
        ) from error
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    try:
        network, loaded = AutoModelForSequenceClassification.from_pretrained(
            str(found.folder),
            local_files_only=True,
            use_safetensors=True,
            trust_remote_code=False,
            output_loading_info=True,
        )
        tokenizer = AutoTokenizer.from_pretrained(
            str(found.folder), local_files_only=True, trust_remote_code=False
        )
    except Exception as error:
        raise InputError(f"{spec} cannot be read by transformers: {first_line(error)}") from error
    lacking = [*loaded["missing_keys"], *(loaded.get("mismatched_keys") or [])]
    if lacking:
        raise InputError(f"the weights of {spec} lack {lacking[0]}: it would be random")
    settings = network.config
    labels = tuple(str(settings.id2label[place]) for place in range(settings.num_labels))
    several = settings.problem_type == "multi_label_classification" or len(labels) == 1
    return Network(
        spec=spec,
        tokenizer=tokenizer,
        network=network.eval().float().to(device),
        labels=labels,
        several=several,
        longest=min(int(tokenizer.model_max_length), window_of(network, tokenizer)),
        sha256=found.weights,
    )
