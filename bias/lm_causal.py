"""Log-likelihoods of a causal transformers model, with every shared beginning computed once.

A request is put into tokens as lm-evaluation-harness 0.4 does (api/model.py, `_encode_pair` and
`loglikelihood`), so that the two give the same numbers; but a token that a tokenizer adds at the end of a
text is left out, and a text that does not fit is a failure rather than cut off. Requests become tries of
tokens (lm_trie), several of which are one forward pass with a 4-D attention mask; a model that such a mask
misleads, which is tried once when it is loaded, reads plain texts sorted by length.
"""

import inspect
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy
import torch
from torch import Tensor, nn

from assaymark.bias.lm_batches import Batches
from assaymark.bias.lm_logits import (
    TOLERANCE,
    can_select,
    largest_difference,
    log_probs,
    logits_at,
)
from assaymark.bias.lm_model import Continuation, Failed, Progress, Scored, quiet
from assaymark.bias.lm_trie import Pack, packs
from assaymark.bias.lm_windows import embeddings, narrow_of, window_of

PACK = 320
"""Tokens in a pack: more share more, and attend to more that they need not see."""


@dataclass(frozen=True, slots=True)
class Encoded:
    """What the model reads (all tokens but the last) and the tokens whose probability is wanted."""

    inputs: tuple[int, ...]
    targets: tuple[int, ...]


@dataclass(frozen=True)
class Ways:
    """What a model was seen to take: packed tries with a 4-D mask; a head that reads selected places."""

    packed: bool
    selected: bool


class Causal:
    """A causal model and its tokenizer; `score` is what lm_model calls Score.

    window: the tokens that the model reads at most. narrow: packs and their texts stay within so many
    tokens, because beyond them the model attends in its own way (sliding windows).
    """

    def __init__(
        self, model: nn.Module, tokenizer: Any, batches: Batches, ways: Ways | None = None
    ) -> None:
        self.model, self.tokenizer, self.batches = model, tokenizer, batches
        self.window = window_of(model, tokenizer)
        self.narrow = narrow_of(model)
        self.ways = ways or tried(model)
        self._bos_only = _adds_only_a_beginning(tokenizer)
        prefix = (tokenizer.bos_token_id, tokenizer.eos_token_id)
        self.prefix = next((token for token in prefix if token is not None), None)

    def score(
        self, requests: Sequence[Continuation], progress: Progress = quiet
    ) -> list[Scored | Failed]:
        """The answer to each request, in their order; equal requests are computed once."""
        encoded = self.encode(requests)
        whole = [one for one in encoded if isinstance(one, Encoded)]
        counts: dict[Encoded, int] = defaultdict(int)
        for one in whole:
            counts[one] += 1
        answers: dict[Encoded, Scored | Failed] = {}
        done = len(requests) - len(whole)

        def answered(found: Mapping[Encoded, Scored | Failed]) -> None:
            nonlocal done
            answers.update(found)
            done += sum(counts[one] for one in found)
            progress(done, len(requests))

        short = [one for one in counts if len(one.inputs) <= min(self.narrow, self.window)]
        long = [one for one in counts if len(one.inputs) > self.narrow]
        self._score(short, self.ways.packed, answered)
        self._score(long, False, answered)
        return [one if isinstance(one, Failed) else answers[one] for one in encoded]

    def encode(self, requests: Sequence[Continuation]) -> list[Encoded | Failed]:
        """The tokens of each request, or why it has none that the model could read."""
        pairs = [_parted(request) for request in requests]
        texts = {text for context, text in pairs if not context}
        wholes = {part for context, text in pairs if context for part in (context, context + text)}
        bare = self._ids(sorted(texts), specials=False)
        ids = self._ids(sorted(wholes), specials=self._bos_only)
        return [self._encoded(context, text, bare, ids) for context, text in pairs]

    def _encoded(
        self,
        context: str,
        text: str,
        bare: Mapping[str, list[int] | None],
        ids: Mapping[str, list[int] | None],
    ) -> Encoded | Failed:
        if context:
            before, whole = ids[context], ids[context + text]
            if before is None or whole is None:
                return _NOT_UNICODE
            if not before:
                return Failed("not-tokenizable", f"the context {_clipped(context)} has no tokens")
            after = whole[len(before) :]
        else:
            found = bare[text]
            if found is None:
                return _NOT_UNICODE
            if self.prefix is None:
                return Failed(
                    "not-tokenizable",
                    "the tokenizer has no beginning- or end-of-text token to put before a text",
                )
            before, after = [self.prefix], found
            if found[:1] == before:  # the text begins with it: not twice
                after = found[1:]
        if not after:
            return Failed("not-tokenizable", f"{_clipped(text)} has no tokens after its context")
        full = (*before, *after)
        if len(full) - 1 > self.window:
            return Failed(
                "too-long",
                f"the text has {len(full) - 1} tokens, and the model reads at most {self.window}",
            )
        return Encoded(full[:-1], tuple(after))

    def _ids(self, texts: Sequence[str], *, specials: bool) -> dict[str, list[int] | None]:
        """The ids of each text; None for one that is no Unicode."""
        known = [text for text in texts if _is_unicode(text)]
        found: dict[str, list[int] | None] = dict.fromkeys(texts)
        plain = [text for text in known if not self._begins(text)]
        for group, add in ((plain, specials), ([t for t in known if self._begins(t)], False)):
            if group:
                read = self.tokenizer(
                    group,
                    add_special_tokens=add,
                    truncation=False,
                    padding=False,
                    return_attention_mask=False,
                    verbose=False,
                )
                found.update(zip(group, read["input_ids"], strict=True))
        return found

    def _begins(self, text: str) -> bool:
        """Whether a text is written with its beginning-of-text token, which is then not added again."""
        token = self.tokenizer.bos_token or self.tokenizer.eos_token
        return bool(token) and text.startswith(token)

    def _score(self, wanted: Sequence[Encoded], packed: bool, answered: Any) -> None:
        targets: dict[tuple[int, ...], list[Encoded]] = defaultdict(list)
        for one in wanted:
            targets[one.inputs].append(one)
        sequences = list(targets)
        jobs = packs(sequences, min(PACK, self.narrow) if packed else 0)

        def requests_of(job: Pack) -> list[tuple[Encoded, list[int]]]:
            return [
                (one, job.path(number, len(one.targets)))
                for number in job.last
                for one in targets[sequences[number]]
            ]

        def work(batch: list[int]) -> None:
            chosen = [jobs[at] for at in batch]
            answered(self._forward(chosen, [requests_of(job) for job in chosen], packed))

        def too_large(at: int) -> None:
            job = jobs[at]
            if len(job.last) > 1:  # one by one, they may fit
                for number in job.last:
                    self._score(targets[sequences[number]], packed, answered)
                return
            reason = f"memory does not hold one forward pass of {len(job)} tokens"
            answered({one: Failed("error", reason) for one, _ in requests_of(job)})

        self.batches.run([len(job) for job in jobs], work, too_large)

    def _forward(
        self,
        jobs: Sequence[Pack],
        requests: Sequence[Sequence[tuple[Encoded, list[int]]]],
        packed: bool,
    ) -> dict[Encoded, Scored | Failed]:
        device = next(self.model.parameters()).device
        longest = max(map(len, jobs))
        flat = [
            row * longest + place
            for row, asked in enumerate(requests)
            for _, path in asked
            for place in path
        ]
        places, rows = numpy.unique(numpy.array(flat), return_inverse=True)
        targets = [token for asked in requests for one, _ in asked for token in one.targets]
        with torch.inference_mode():
            logits = logits_at(
                self.model,
                inputs_of(self.model, jobs, packed=packed),
                torch.from_numpy(places).to(device),
                select=self.ways.selected,
            )
            values = log_probs(
                logits, torch.from_numpy(rows).to(device), torch.tensor(targets, device=device)
            )
        found: dict[Encoded, Scored | Failed] = {}
        start = 0
        for asked in requests:
            for one, _ in asked:
                found[one] = self._scored(one, values[start : start + len(one.targets)].tolist())
                start += len(one.targets)
        return found

    def _scored(self, one: Encoded, values: list[float]) -> Scored | Failed:
        if not numpy.isfinite(values).all():
            return Failed("error", "the model gives a token no finite log probability")
        return Scored(tuple(self.tokenizer.convert_ids_to_tokens(list(one.targets))), tuple(values))


def inputs_of(model: nn.Module, jobs: Sequence[Pack], *, packed: bool) -> dict[str, Any]:
    """The batch that a model reads: tries with a mask of their ancestors, or texts with padding."""
    parameter = next(model.parameters())
    size = (len(jobs), max(map(len, jobs)))
    ids, depths, lengths = (numpy.zeros(size, dtype=numpy.int64) for _ in range(3))
    ends = numpy.tile(numpy.arange(1, size[1] + 1), (size[0], 1))  # padding sees only itself
    for row, job in enumerate(jobs):
        ids[row, : len(job)], depths[row, : len(job)] = job.ids, job.depths
        ends[row, : len(job)], lengths[row, : len(job)] = job.ends, 1
    tensors: dict[str, Any] = {"input_ids": torch.from_numpy(ids).to(parameter.device)}
    if "use_cache" in inspect.signature(model.forward).parameters:
        tensors["use_cache"] = False
    if packed:
        tensors["position_ids"] = torch.from_numpy(depths).to(parameter.device)
        tensors["attention_mask"] = _ancestors(
            torch.from_numpy(ends).to(parameter.device), parameter.dtype
        )
    else:
        tensors["attention_mask"] = torch.from_numpy(lengths).to(parameter.device)
    return tensors


def _ancestors(ends: Tensor, dtype: torch.dtype) -> Tensor:
    """0 where a token (row) is a descendant of another (column) or itself, else the lowest number."""
    at = torch.arange(ends.shape[1], device=ends.device)
    sees = (at[:, None] >= at) & (at[:, None] < ends[:, None, :])
    mask = torch.zeros(sees.shape, dtype=dtype, device=ends.device)
    return mask.masked_fill_(~sees, torch.finfo(dtype).min)[:, None]


def tried(model: nn.Module) -> Ways:
    """What a model takes, by comparing both ways with plain texts on an example with branches."""
    draw = numpy.random.default_rng(0)
    vocabulary = len(embeddings(model))
    stem, *ends = (tuple(draw.integers(0, vocabulary, n).tolist()) for n in (5, 4, 6, 3, 7))
    texts = [stem + end for end in ends[:-1]] + [ends[-1]]
    singles = packs(texts, 0)
    with torch.inference_mode():
        alone = {n: _logits(model, [job], packed=False)[n] for job in singles for n in job.last}
        selected = can_select(model, inputs_of(model, singles, packed=False))
        try:
            packed = _takes_tries(model, alone, packs(texts, len(stem) + sum(map(len, ends[:-1]))))
        except (RuntimeError, ValueError, TypeError, IndexError, AttributeError):
            packed = False
    return Ways(packed=packed, selected=selected)


def _takes_tries(model: nn.Module, alone: Mapping[int, Tensor], tries: Sequence[Pack]) -> bool:
    """Whether tries give what each text gives alone, up to rounding.

    In half precision, rounding is told from a mask that is not heeded by how much less it changes.
    """
    apart = _apart(alone, _logits(model, tries, packed=True))
    if next(model.parameters()).dtype == torch.float32:
        return apart <= TOLERANCE
    blind = [replace(job, ends=numpy.full(len(job), len(job))) for job in tries]
    return apart <= _apart(alone, _logits(model, blind, packed=True)) / 10


def _logits(model: nn.Module, jobs: Sequence[Pack], *, packed: bool) -> dict[int, Tensor]:
    """Of each sequence its logits, (tokens, vocabulary)."""
    logits = model(**inputs_of(model, jobs, packed=packed)).logits
    return {
        number: logits[row, job.path(number, int(job.depths[place]) + 1)]
        for row, job in enumerate(jobs)
        for number, place in job.last.items()
    }


def _apart(left: Mapping[int, Tensor], right: Mapping[int, Tensor]) -> float:
    return max(largest_difference(left[number], right[number]) for number in left)


def _parted(request: Continuation) -> tuple[str, str]:
    """The request with the spaces at the end of its context moved to its text."""
    context = request.context.rstrip()
    return context, request.context[len(context) :] + request.text


def _adds_only_a_beginning(tokenizer: Any) -> bool:
    """Whether special tokens that are added stand before a text, so that it can be continued."""
    bare, full = tokenizer.encode("a", add_special_tokens=False), tokenizer.encode("a")
    return bool(full[len(full) - len(bare) :] == bare)


def _is_unicode(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def _clipped(text: str) -> str:
    return repr(text if len(text) <= 80 else text[:79] + "…")


_NOT_UNICODE = Failed("not-tokenizable", "the text is not Unicode: it has half of a surrogate pair")
