"""Replies of a causal transformers model: batches by length, and a random stream for each draw.

What is drawn depends on the seed, the prompt and the number of the sample alone, not on what else is in a
batch: every row turns numbers of a stream of its own into tokens (inverse transform sampling over the
nucleus, https://arxiv.org/abs/1904.09751, section 3.1).
"""

import hashlib
import random
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from transformers import GenerationConfig, LogitsProcessor, StoppingCriteria

from assaymark.bias.lm_batches import Batches
from assaymark.bias.lm_model import Failed, Progress, Prompt, Reply, Sampling, quiet
from assaymark.bias.lm_windows import window_of
from assaymark.reports.named_code import first_line

_TOKENS = 1 << 14
"""Prompts and replies in a batch: each step reads all weights, for one row or for many."""


class Writer:
    """A causal model that writes; `generate` is what lm_model calls Generate.

    A tokenizer with a chat template makes a chat model: prompts are put to it as questions. The model's own
    defaults for generation (temperature, penalties) are not used, only where its texts end.
    """

    def __init__(self, model: Any, tokenizer: Any, rows: int | None = None) -> None:
        self.model, self.tokenizer = model, tokenizer
        self.batches = Batches(next(model.parameters()).device, 0, rows, tokens=_TOKENS)
        self.window = window_of(model, tokenizer)
        self.chat = bool(getattr(tokenizer, "chat_template", None))
        self.ends = _ends(model, tokenizer)
        pads = (tokenizer.pad_token_id, *self.ends, 0)
        self.pad = next(int(pad) for pad in pads if pad is not None)
        # generate() fills in what a caller leaves open from here
        model.generation_config = GenerationConfig(
            eos_token_id=self.ends or None, pad_token_id=self.pad
        )

    def generate(
        self, prompts: Sequence[Prompt], sampling: Sampling, progress: Progress = quiet
    ) -> list[Reply | Failed]:
        """A reply to each prompt, in their order. At temperature 0 all samples of a prompt are one."""
        keys = [
            (prompt.system, prompt.text, prompt.sample if sampling.temperature else 0)
            for prompt in prompts
        ]
        answers: dict[tuple[str, str, int], Reply | Failed] = {}
        ids: dict[tuple[str, str, int], list[int]] = {}
        for key in dict.fromkeys(keys):
            read = self._read(key[0], key[1], sampling.max_tokens)
            if isinstance(read, Failed):
                answers[key] = read
            else:
                ids[key] = read
        waiting = list(ids)

        def work(batch: list[int]) -> None:
            chosen = [waiting[at] for at in batch]
            replies = self._write(
                [ids[key] for key in chosen], _streams(chosen, sampling), sampling
            )
            answers.update(zip(chosen, replies, strict=True))
            progress(sum(key in answers for key in keys), len(keys))

        def too_large(at: int) -> None:
            answers[waiting[at]] = Failed(
                "error", f"memory does not hold a reply to {len(ids[waiting[at]])} tokens"
            )

        lengths = [len(ids[key]) + sampling.max_tokens for key in waiting]
        self.batches.run(lengths, work, too_large)
        return [answers[key] for key in keys]

    def _read(self, system: str, text: str, room: int) -> list[int] | Failed:
        """What the model reads of a prompt."""
        try:
            written = self._written(system, text)
            ids: list[int] = self.tokenizer.encode(
                written, add_special_tokens=not self.chat, truncation=False, verbose=False
            )
        except Exception as error:  # a template is a program of the model's makers
            return Failed("error", f"the prompt cannot be put to the model: {first_line(error)}")
        if not ids:
            return Failed("not-tokenizable", "the prompt has no tokens")
        if len(ids) + room > self.window:
            return Failed(
                "too-long",
                f"the prompt has {len(ids)} tokens and the reply up to {room}, and the model reads at "
                f"most {self.window}",
            )
        return ids

    def _written(self, system: str, text: str) -> str:
        if not self.chat:
            return f"{system}\n\n{text}" if system else text
        question = [{"role": "user", "content": text}]
        if not system:
            return self._templated(question)
        try:
            return self._templated([{"role": "system", "content": system}, *question])
        except Exception:  # some templates raise on the role; each in its own way
            return self._templated([{"role": "user", "content": f"{system}\n\n{text}"}])

    def _templated(self, messages: list[dict[str, str]]) -> str:
        written = self.tokenizer.apply_chat_template(
            messages, tokenize=False, add_generation_prompt=True
        )
        return str(written)

    def _write(
        self, texts: Sequence[list[int]], streams: list[random.Random], sampling: Sampling
    ) -> list[Reply | Failed]:
        device = next(self.model.parameters()).device
        longest = max(map(len, texts))
        padded = [[self.pad] * (longest - len(ids)) + ids for ids in texts]
        seen = [[0] * (longest - len(ids)) + [1] * len(ids) for ids in texts]
        draw = _Draw(streams, sampling)
        stop = _Stop(self.tokenizer, longest, sampling.stop, len(texts))
        with torch.inference_mode():
            written = self.model.generate(
                input_ids=torch.tensor(padded, device=device),
                attention_mask=torch.tensor(seen, device=device),
                generation_config=GenerationConfig(
                    max_new_tokens=sampling.max_tokens,
                    do_sample=False,
                    eos_token_id=self.ends or None,
                    pad_token_id=self.pad,
                    use_cache=True,
                ),
                logits_processor=[draw],
                stopping_criteria=[stop],
            )
        rows: list[list[int]] = written[:, longest:].tolist()
        return [
            _NOT_NUMBERS if broken else self._reply(row[: stop.at[place]], sampling, first)
            for place, (row, first, broken) in enumerate(
                zip(rows, draw.first, draw.broken, strict=True)
            )
        ]

    def _reply(self, ids: list[int], sampling: Sampling, first: list[tuple[int, float]]) -> Reply:
        end = next((place for place, token in enumerate(ids) if token in self.ends), None)
        text = self.tokenizer.decode(
            ids[:end], skip_special_tokens=True, clean_up_tokenization_spaces=False
        )
        found = [text.find(stop) for stop in sampling.stop if stop and stop in text]
        stopped = end is not None or bool(found) or len(ids) < sampling.max_tokens
        return Reply(
            text[: min(found)] if found else text,
            "stop" if stopped else "length",
            tuple((self.tokenizer.decode([token]), value) for token, value in first),
        )


class _Draw(LogitsProcessor):  # type: ignore[misc]
    """Leaves one token of each row, drawn from the row's stream; keeps the likeliest first tokens."""

    def __init__(self, streams: list[random.Random], sampling: Sampling) -> None:
        self.streams, self.sampling, self.begun = streams, sampling, False
        self.first: list[list[tuple[int, float]]] = [[] for _ in streams]
        self.broken = [False] * len(streams)

    def __call__(self, input_ids: Tensor, scores: Tensor) -> Tensor:
        wrong = scores.isnan().any(-1) | scores.isposinf().any(-1)
        self.broken = [was or now for was, now in zip(self.broken, wrong.tolist(), strict=True)]
        scores = scores.nan_to_num(nan=0.0)  # a broken row goes on, so that the others can
        if not self.begun and self.sampling.top_logprobs:
            count = min(self.sampling.top_logprobs, scores.shape[-1])
            values, tokens = scores.float().log_softmax(-1).topk(count)
            self.first = [
                list(zip(*row, strict=True))
                for row in zip(tokens.tolist(), values.tolist(), strict=True)
            ]
        self.begun = True
        if not self.sampling.temperature:
            return scores
        uniform = torch.tensor(
            [stream.random() for stream in self.streams], dtype=torch.float64, device=scores.device
        )
        chosen = drawn(scores, uniform, self.sampling.temperature, self.sampling.top_p)
        return torch.full_like(scores, -torch.inf).scatter_(1, chosen[:, None], 0.0)


def drawn(logits: Tensor, uniform: Tensor, temperature: float, top_p: float) -> Tensor:
    """The token of each row that a number in [0, 1) falls on, likeliest tokens first.

    Tokens after the first ones that hold top_p of the probability are left out.
    """
    likely = (logits.double() / temperature).softmax(-1)
    ordered, tokens = likely.sort(stable=True, dim=-1, descending=True)
    reached = ordered.cumsum(-1)
    kept = (reached - ordered < top_p).sum(-1).clamp_min(1)
    total = reached.gather(1, kept[:, None] - 1)
    place = (reached <= uniform[:, None] * total).sum(-1).minimum(kept - 1)
    chosen: Tensor = tokens.gather(1, place[:, None])[:, 0]
    return chosen


class _Stop(StoppingCriteria):  # type: ignore[misc]
    """Ends a row when its reply holds a stop string; at: after how many tokens."""

    def __init__(self, tokenizer: Any, start: int, stops: Sequence[str], rows: int) -> None:
        self.tokenizer, self.start = tokenizer, start
        self.stops = [stop for stop in stops if stop]
        self.at: list[int | None] = [None] * rows
        self.tail = max(map(len, self.stops), default=0) + 8  # a character may be several tokens

    def __call__(self, input_ids: Tensor, scores: Any, **_: Any) -> Tensor:
        ends = input_ids.shape[1]
        if self.stops:
            tails = input_ids[:, max(self.start, ends - 4 * self.tail) :].tolist()
            for row, text in enumerate(self.tokenizer.batch_decode(tails)):
                if self.at[row] is None and any(stop in text for stop in self.stops):
                    self.at[row] = ends - self.start
        done = [at is not None for at in self.at]
        return torch.tensor(done, device=input_ids.device)


def _streams(keys: Sequence[tuple[str, str, int]], sampling: Sampling) -> list[random.Random]:
    """A stream for each draw: of the seed, the prompt and the number of the sample."""
    names = (repr((sampling.seed, *key)) for key in keys)
    return [
        random.Random(int.from_bytes(hashlib.sha256(name.encode("utf-8", "replace")).digest()))
        for name in names
    ]


def _ends(model: Any, tokenizer: Any) -> list[int]:
    """The tokens that end a text, as the model and its tokenizer say."""
    said = getattr(getattr(model, "generation_config", None), "eos_token_id", None)
    several = said if isinstance(said, list) else [said]
    vocabulary = len(tokenizer)
    ends = [*several, tokenizer.eos_token_id]
    return sorted({end for end in ends if end is not None and 0 <= end < vocabulary})


_NOT_NUMBERS = Failed("error", "the model's probabilities are not numbers")
