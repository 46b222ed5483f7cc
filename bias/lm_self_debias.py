"""Self-debiasing: tokens that a model finds likelier where it is told that the text is biased become rarer.

Schick, Udupa and Schütze 2021 (TACL 9, arXiv 2103.00453, section 4): with p the probabilities after a text x
and p_b those after a description of the bias and x, each p(w) is multiplied by alpha(p(w) - p_b(w)), which is
1 for positive numbers and else max(e^(decay * number), floor), and all are divided by their sum. Of several
descriptions the largest p_b(w) counts, as in the authors' code. Two or more plain forward passes for every
batch; nothing is shared between texts.
"""

import hashlib
import inspect
import math
import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy
import torch
from torch import Tensor, nn

from assaymark.bias.lm_batches import Batches
from assaymark.bias.lm_causal import Causal, Encoded, Ways
from assaymark.bias.lm_debias import LogProbs, filled_by, leading
from assaymark.bias.lm_generate import Writer, drawn
from assaymark.bias.lm_model import (
    Blank,
    Continuation,
    Failed,
    LanguageModel,
    Masked,
    Progress,
    Reply,
    Sampling,
    Scored,
    quiet,
)
from assaymark.bias.lm_windows import embeddings, window_of
from assaymark.reports.errors import InputError, nearest

Ids = tuple[int, ...]
DECAY, FLOOR = 50.0, 0.01
"""lambda and epsilon of the paper."""
_DISCRIMINATES = "The following text discriminates against people because of their"
DESCRIPTIONS: Mapping[str, str] = {
    category: f"{_DISCRIMINATES} {what}:"
    for category, what in {
        "gender": "gender",
        "race": "race/color",
        "religion": "religion",
        "nationality": "nationality",
        "age": "age",
        "disability": "disability",
        "sexual-orientation": "sexual orientation",
        "socioeconomic": "socioeconomic status/occupation",
        "physical-appearance": "physical appearance",
    }.items()
}
"""Those that Meade, Poole-Dayan and Reddy (ACL 2022, arXiv 2110.08527, section 3) compare, by category."""


def description(category: str) -> str:
    """One of DESCRIPTIONS; raises InputError for a category that there is none of."""
    if category not in DESCRIPTIONS:
        raise InputError(
            f'no description of bias is called "{category}"{nearest(category, DESCRIPTIONS)}'
        )
    return DESCRIPTIONS[category]


def self_debiased(
    base: LanguageModel,
    model: nn.Module,
    tokenizer: Any,
    *,
    descriptions: Sequence[str],
    decay: float = DECAY,
    floor: float = FLOOR,
    name: str | None = None,
    rows: int | None = None,
) -> LanguageModel:
    """The model with self-debiasing: scores, replies and filled blanks, as far as base offers them.

    base: what `lm_local.of_transformers(model, tokenizer)` makes, or a model opened from the same weights.
    descriptions: of the bias, such as those of DESCRIPTIONS, put before every text. decay (lambda) at
    least 0, where 0 changes nothing; floor (epsilon) in (0, 1]. rows: texts in a batch, None for as many as
    memory holds. Vectors are not offered. Raises InputError for no description, or numbers out of range.
    """
    if not descriptions or not all(text.strip() for text in descriptions):
        raise InputError(
            "self-debiasing needs at least one description of the bias, none of them empty"
        )
    if not 0 <= decay < math.inf or not 0 < floor <= 1:
        raise InputError(
            f"decay is at least 0 and floor above 0 and up to 1, got {decay:g} and {floor:g}"
        )
    words = tuple(
        tuple(tokenizer.encode(text.strip() + "\n", add_special_tokens=False))
        for text in descriptions
    )
    if not all(words):
        raise InputError("a description of the bias has no tokens for this tokenizer")
    chosen = Debiasing(model, words, decay, floor)
    batches = Batches(next(model.parameters()).device, len(embeddings(model)), rows)
    told = repr((tuple(descriptions), decay, floor))
    return replace(
        base,
        name=name or f"{base.name} with self-debiasing",
        key=f"{base.key} self-debiasing {hashlib.sha256(told.encode('utf-8', 'replace')).hexdigest()}",
        facts={
            **base.facts,
            "self-debiasing": f"{' | '.join(descriptions)} (decay {decay:g}, floor {floor:g})",
        },
        score=None if base.score is None else Scorer(chosen, tokenizer, batches).score,
        masked=None
        if base.masked is None
        else filled_by(
            base.masked, _fills(chosen, base.masked, window_of(model, tokenizer), batches)
        ),
        generate=None if base.generate is None else _Writer(chosen, tokenizer, rows).generate,
        embed=None,
    )


def rescaled(plain: Tensor, urged: Sequence[Tensor], decay: float, floor: float) -> Tensor:
    """Log probabilities after self-debiasing, (…, vocabulary), from those without and with descriptions."""
    most = torch.stack([one.exp() for one in urged]).amax(dim=0)
    below = (plain.exp() - most).clamp(max=0)
    scaled = plain + (decay * below).clamp(min=math.log(floor))
    return scaled.log_softmax(-1)


@dataclass(frozen=True)
class Debiasing:
    """A model and the tokens of the descriptions."""

    model: nn.Module
    words: tuple[Ids, ...]
    decay: float
    floor: float

    @property
    def room(self) -> int:
        """How many tokens the longest description takes."""
        return max(map(len, self.words))

    def log_probs(
        self, texts: Sequence[Ids], starts: Sequence[int], places: Sequence[Sequence[int]]
    ) -> Tensor:
        """What the model says at some places of each text, (all places, vocabulary), in float32.

        starts: where in each text a description is put. places: all from there on.
        """
        with torch.inference_mode():
            plain = self._rows(texts, places)
            urged = [
                self._rows(
                    [
                        (*ids[:start], *words, *ids[start:])
                        for ids, start in zip(texts, starts, strict=True)
                    ],
                    [[place + len(words) for place in some] for some in places],
                )
                for words in self.words
            ]
            return rescaled(plain, urged, self.decay, self.floor)

    def _rows(self, texts: Sequence[Ids], places: Sequence[Sequence[int]]) -> Tensor:
        size = (len(texts), max(map(len, texts)))
        ids, seen = (numpy.zeros(size, dtype=numpy.int64) for _ in range(2))
        for row, text in enumerate(texts):
            ids[row, : len(text)], seen[row, : len(text)] = text, 1
        device = next(self.model.parameters()).device
        inputs: dict[str, Any] = {
            "input_ids": torch.from_numpy(ids).to(device),
            "attention_mask": torch.from_numpy(seen).to(device),
        }
        if "use_cache" in inspect.signature(self.model.forward).parameters:
            inputs["use_cache"] = False
        rows = torch.tensor([row for row, some in enumerate(places) for _ in some], device=device)
        columns = torch.tensor([place for some in places for place in some], device=device)
        logits: Tensor = self.model(**inputs).logits
        return logits[rows, columns].float().log_softmax(-1)


class Scorer:
    """Scores of continuations, put into tokens as the model without self-debiasing does."""

    def __init__(self, debiasing: Debiasing, tokenizer: Any, batches: Batches) -> None:
        self.debiasing, self.tokenizer, self.batches = debiasing, tokenizer, batches
        plain = Ways(packed=False, selected=False)
        self.causal = Causal(debiasing.model, tokenizer, batches, plain)
        self.causal.window -= debiasing.room
        self.begins = _begins(tokenizer)

    def score(
        self, requests: Sequence[Continuation], progress: Progress = quiet
    ) -> list[Scored | Failed]:
        """The answer to each request, in their order."""
        encoded = self.causal.encode(requests)
        waiting = [at for at, one in enumerate(encoded) if isinstance(one, Encoded)]
        answers: list[Scored | Failed] = [
            one if isinstance(one, Failed) else _UNANSWERED for one in encoded
        ]
        done = len(requests) - len(waiting)

        def work(batch: list[int]) -> None:
            nonlocal done
            chosen = [one for at in batch if isinstance(one := encoded[waiting[at]], Encoded)]
            for at, found in zip(batch, self._forward(chosen), strict=True):
                answers[waiting[at]] = found
            done += len(batch)
            progress(done, len(requests))

        def too_large(at: int) -> None:
            answers[waiting[at]] = _TOO_LARGE

        lengths = [
            len(one.inputs) + self.debiasing.room for one in encoded if isinstance(one, Encoded)
        ]
        self.batches.run(lengths, work, too_large)
        return answers

    def _forward(self, chosen: Sequence[Encoded]) -> list[Scored | Failed]:
        texts = [one.inputs for one in chosen]
        starts = [int(ids[0] in self.begins) for ids in texts]
        places = [range(len(one.inputs) - len(one.targets), len(one.inputs)) for one in chosen]
        rows = self.debiasing.log_probs(texts, starts, places)
        targets = torch.tensor([token for one in chosen for token in one.targets])
        values = iter(rows.gather(1, targets.to(rows.device)[:, None])[:, 0].double().tolist())
        found: list[Scored | Failed] = []
        for one in chosen:
            logprobs = tuple(next(values) for _ in one.targets)
            tokens = tuple(self.tokenizer.convert_ids_to_tokens(list(one.targets)))
            whole = all(map(math.isfinite, logprobs))
            found.append(Scored(tokens, logprobs) if whole else _NOT_FINITE)
        return found


def _begins(tokenizer: Any) -> frozenset[int]:
    """The tokens that stand before a text rather than in it."""
    known = (tokenizer.bos_token_id, tokenizer.eos_token_id)
    return frozenset(token for token in known if token is not None)


def _fills(debiasing: Debiasing, masked: Masked, window: int, batches: Batches) -> LogProbs:
    """How blanks are filled, one row a blank."""

    def fill(blanks: Sequence[Blank], progress: Progress) -> list[float | Failed]:
        answers: list[float | Failed] = [_UNANSWERED] * len(blanks)
        waiting = [at for at, one in enumerate(blanks) if len(one.ids) + debiasing.room <= window]
        for at in set(range(len(blanks))) - set(waiting):
            answers[at] = Failed(
                "too-long",
                f"the text has {len(blanks[at].ids)} tokens and the description up to "
                f"{debiasing.room}, and the model reads at most {window}",
            )
        done = len(blanks) - len(waiting)

        def work(batch: list[int]) -> None:
            nonlocal done
            chosen = [blanks[waiting[at]] for at in batch]
            rows = debiasing.log_probs(
                [one.ids for one in chosen],
                [leading(masked, one.ids) for one in chosen],
                [[one.position] for one in chosen],
            )
            targets = torch.tensor([one.target for one in chosen], device=rows.device)
            values = rows.gather(1, targets[:, None])[:, 0].double().tolist()
            for at, value in zip(batch, values, strict=True):
                answers[waiting[at]] = value if math.isfinite(value) else _NOT_FINITE
            done += len(batch)
            progress(done, len(blanks))

        def too_large(at: int) -> None:
            answers[waiting[at]] = _TOO_LARGE

        lengths = [len(blanks[at].ids) + debiasing.room for at in waiting]
        batches.run(lengths, work, too_large)
        return answers

    return fill


class _Writer(Writer):
    """Replies token by token, each drawn from rescaled probabilities; temperature and top_p come after."""

    def __init__(self, debiasing: Debiasing, tokenizer: Any, rows: int | None) -> None:
        super().__init__(debiasing.model, tokenizer, rows)
        self.debiasing = debiasing
        self.window -= debiasing.room
        self.begins = _begins(tokenizer)

    def _write(
        self, texts: Sequence[list[int]], streams: list[random.Random], sampling: Sampling
    ) -> list[Reply | Failed]:
        written: list[list[int]] = [[] for _ in texts]
        first: list[list[tuple[int, float]]] = [[] for _ in texts]
        broken: set[int] = set()
        open_ = list(range(len(texts)))
        for step in range(sampling.max_tokens):
            rows = self._next([(*texts[at], *written[at]) for at in open_])
            wrong = (~rows.exp().sum(-1).isfinite()).tolist()
            rows = rows.nan_to_num(nan=0.0)
            if step == 0 and sampling.top_logprobs:
                values, tokens = rows.topk(min(sampling.top_logprobs, rows.shape[-1]))
                first = [
                    list(zip(*row, strict=True))
                    for row in zip(tokens.tolist(), values.tolist(), strict=True)
                ]
            chosen = self._draw(rows, [streams[at] for at in open_], sampling)
            for at, token, bad in zip(open_, chosen, wrong, strict=True):
                written[at].append(token)
                if bad:
                    broken.add(at)
            open_ = [
                at for at in open_ if at not in broken and self._goes_on(written[at], sampling)
            ]
            if not open_:
                break
        return [
            _NOT_FINITE if at in broken else self._reply(ids, sampling, first[at])
            for at, ids in enumerate(written)
        ]

    def _next(self, texts: Sequence[Ids]) -> Tensor:
        starts = [int(ids[0] in self.begins) for ids in texts]
        return self.debiasing.log_probs(texts, starts, [[len(ids) - 1] for ids in texts])

    def _draw(self, rows: Tensor, streams: list[random.Random], sampling: Sampling) -> list[int]:
        if not sampling.temperature:
            likeliest: list[int] = rows.argmax(-1).tolist()
            return likeliest
        uniform = torch.tensor(
            [stream.random() for stream in streams], dtype=torch.float64, device=rows.device
        )
        chosen: list[int] = drawn(rows, uniform, sampling.temperature, sampling.top_p).tolist()
        return chosen

    def _goes_on(self, ids: list[int], sampling: Sampling) -> bool:
        if ids[-1] in self.ends:
            return False
        stops = [stop for stop in sampling.stop if stop]
        if not stops:
            return True
        text = self.tokenizer.decode(ids)
        return not any(stop in text for stop in stops)


_UNANSWERED = Failed("error", "the model was not asked")
_TOO_LARGE = Failed("error", "memory does not hold one forward pass of this text")
_NOT_FINITE = Failed("error", "the model's probabilities are not numbers")
