"""Log probabilities of a masked transformers model: many blanks in one forward pass, the head only there."""

from collections import defaultdict
from collections.abc import Sequence
from typing import Any

import numpy
import torch
from torch import nn

from assaymark.bias.lm_batches import Batches
from assaymark.bias.lm_logits import can_select, log_probs, logits_at
from assaymark.bias.lm_model import Blank, Failed, Progress, quiet
from assaymark.bias.lm_windows import embeddings, window_of
from assaymark.reports.errors import InputError

Ids = tuple[int, ...]


class MaskedModel:
    """A masked language model and its tokenizer, as lm_model.Masked."""

    def __init__(self, model: nn.Module, tokenizer: Any, batches: Batches) -> None:
        if tokenizer.mask_token_id is None:
            raise InputError("the tokenizer of the masked language model has no mask token")
        self.model, self.tokenizer, self.batches = model, tokenizer, batches
        self.mask = int(tokenizer.mask_token_id)
        self.window = window_of(model, tokenizer)
        self.selected = _selects(model)

    def encode(self, text: str) -> Ids:
        """The ids of a text as the model reads it, with special tokens; nothing is cut off."""
        return tuple(self.tokenizer.encode(text, truncation=False, verbose=False))

    def special(self, ids: Sequence[int]) -> tuple[bool, ...]:
        """Which of the ids are special tokens; the unknown token stands for a word and is none."""
        special = set(self.tokenizer.all_special_ids) - {self.tokenizer.unk_token_id}
        return tuple(token in special for token in ids)

    def pieces(self, text: str, *, after_space: bool) -> Ids:
        """The ids of a word without special tokens, as it stands after a space or at the beginning."""
        if after_space:
            word = self._bare("a")
            both = self._bare("a " + text)
            if both[: len(word)] == word:
                return both[len(word) :]
        return self._bare(text)

    def words(self, text: str) -> tuple[int | None, ...]:
        """For each token of encode(text), the number of its word; None of special tokens."""
        if not self.tokenizer.is_fast:
            raise InputError(
                f"{type(self.tokenizer).__name__} does not tell which tokens are a word: "
                "save it with a tokenizer.json"
            )
        return tuple(self.tokenizer(text, truncation=False, verbose=False).word_ids())

    def log_probs(
        self, blanks: Sequence[Blank], progress: Progress = quiet
    ) -> list[float | Failed]:
        """Natural log probabilities; blanks with the same ids share one forward pass."""
        asked: dict[Ids, list[int]] = defaultdict(list)
        for number, blank in enumerate(blanks):
            asked[blank.ids].append(number)
        answers: list[float | Failed] = [_UNANSWERED] * len(blanks)
        texts = []
        for ids, numbers in asked.items():
            if len(ids) <= self.window:
                texts.append(ids)
            for number in numbers:
                if len(ids) > self.window:
                    answers[number] = Failed(
                        "too-long",
                        f"the text has {len(ids)} tokens, and the model reads at most {self.window}",
                    )
        done = sum(answer is not _UNANSWERED for answer in answers)

        def work(batch: list[int]) -> None:
            nonlocal done
            numbers = [asked[texts[at]] for at in batch]
            values = self._forward([texts[at] for at in batch], numbers, blanks)
            flat = [number for some in numbers for number in some]
            for number, value in zip(flat, values.tolist(), strict=True):
                answers[number] = value if numpy.isfinite(value) else _NOT_FINITE
            done += len(flat)
            progress(done, len(blanks))

        def too_large(at: int) -> None:
            reason = f"memory does not hold one forward pass of {len(texts[at])} tokens"
            for number in asked[texts[at]]:
                answers[number] = Failed("error", reason)

        self.batches.run([len(ids) for ids in texts], work, too_large)
        return answers

    def _forward(
        self, texts: Sequence[Ids], numbers: Sequence[Sequence[int]], blanks: Sequence[Blank]
    ) -> numpy.ndarray[tuple[int], numpy.dtype[numpy.float64]]:
        device = next(self.model.parameters()).device
        longest = max(map(len, texts))
        flat = [
            row * longest + blanks[number].position
            for row, some in enumerate(numbers)
            for number in some
        ]
        targets = [blanks[number].target for some in numbers for number in some]
        places, rows = numpy.unique(numpy.array(flat), return_inverse=True)
        with torch.inference_mode():
            logits = logits_at(
                self.model,
                _padded(texts, self.tokenizer.pad_token_id or 0, device),
                torch.from_numpy(places).to(device),
                select=self.selected,
            )
            rows_of = torch.from_numpy(rows).to(device)
            return log_probs(logits, rows_of, torch.tensor(targets, device=device))

    def _bare(self, text: str) -> Ids:
        return tuple(self.tokenizer.encode(text, add_special_tokens=False, verbose=False))


def _padded(texts: Sequence[Ids], pad: int, device: torch.device) -> dict[str, Any]:
    size = (len(texts), max(map(len, texts)))
    ids, seen = numpy.full(size, pad, dtype=numpy.int64), numpy.zeros(size, dtype=numpy.int64)
    for row, text in enumerate(texts):
        ids[row, : len(text)], seen[row, : len(text)] = text, 1
    return {
        "input_ids": torch.from_numpy(ids).to(device),
        "attention_mask": torch.from_numpy(seen).to(device),
    }


def _selects(model: nn.Module) -> bool:
    draw = numpy.random.default_rng(0)
    texts = [tuple(draw.integers(0, len(embeddings(model)), n).tolist()) for n in (9, 6)]
    device = next(model.parameters()).device
    with torch.inference_mode():
        return can_select(model, _padded(texts, 0, device))


_UNANSWERED = Failed("error", "the model was not asked")
_NOT_FINITE = Failed("error", "the model gives the token no finite log probability")
