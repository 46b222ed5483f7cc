"""The completions of an OpenAI-compatible server: what is sent, and what is believed of the answers.

https://platform.openai.com/docs/api-reference/completions; `echo` with `logprobs` tells the probability
of a text that is not the model's own.
"""

import math
from collections.abc import Mapping, Sequence
from typing import Any, Literal

from assaymark.bias.lm_echo import continuation, spans
from assaymark.bias.lm_model import Continuation, Failed, Prompt, Reply, Sampling, Scored
from assaymark.bias.lm_patience import Unreadable

_ROUNDING = 1e-6
_FINISHES: dict[str, Literal["stop", "length", "filter"]] = {
    "stop": "stop",
    "eos": "stop",
    "eos_token": "stop",
    "end_turn": "stop",
    "stop_sequence": "stop",
    "length": "length",
    "max_tokens": "length",
    "content_filter": "filter",
}


def score_body(requests: Sequence[Continuation], bos: str, least: int) -> dict[str, Any]:
    """A request for the probability of texts. bos: what a text begins with; least: max_tokens."""
    texts = [whole(request, bos) for request in requests]
    prompt = texts[0] if len(texts) == 1 else texts
    return {"prompt": prompt, "max_tokens": least, "echo": True, "logprobs": 1, "temperature": 0}


def whole(request: Continuation, bos: str) -> str:
    """What the model reads; only a text without a context is begun with bos."""
    context, text = _parted(request)
    return f"{context or bos}{text}"


def _parted(request: Continuation) -> tuple[str, str]:
    """Spaces at the end of a context go to the continuation, as in lm-eval: tokens begin with them."""
    context = request.context.rstrip()
    return context, request.context[len(context) :] + request.text


def read_scores(
    content: Mapping[str, Any], requests: Sequence[Continuation], bos: str
) -> list[Scored | Failed]:
    """The answers in the order of the requests. Raises Unreadable when they cannot be told apart."""
    return [
        _scored(choice, request, bos)
        for choice, request in zip(choices(content, len(requests)), requests, strict=True)
    ]


def choices(content: Mapping[str, Any], wanted: int) -> list[Mapping[str, Any]]:
    """The choices by their `index`. Raises Unreadable when some are missing or there are too many."""
    found = content.get("choices")
    if not isinstance(found, list) or not all(isinstance(choice, dict) for choice in found):
        raise Unreadable("no list of choices")
    if len(found) != wanted:
        raise Unreadable(f"{len(found)} choices for {wanted} texts")
    if wanted == 1:
        return found
    placed = {choice.get("index"): choice for choice in found if type(choice.get("index")) is int}
    if placed.keys() != set(range(wanted)):
        raise Unreadable(f"choices whose index does not run from 0 to {wanted - 1}")
    return [placed[place] for place in range(wanted)]


def _scored(choice: Mapping[str, Any], request: Continuation, bos: str) -> Scored | Failed:
    try:
        tokens, values, offsets = _echoed(choice)
    except Unreadable as error:
        return Failed("unparsable", f"the server answered {error}")
    text = whole(request, bos)
    reach = spans(tokens, offsets, text)
    if reach is None:
        return Failed("unparsable", "the server's tokens do not spell the text that was asked for")
    end = len(text.encode("utf-8", "surrogatepass"))
    boundary = end - len(_parted(request)[1].encode("utf-8", "surrogatepass"))
    chosen = continuation(reach, boundary, end)
    if chosen is None:
        return Failed("not-tokenizable", "the continuation has no token of its own")
    if values[chosen[0]] is None and all(start <= 0 for start, _ in reach[: chosen[0] + 1]):
        return Failed(
            "not-offered",
            "the server tells no probability of the first token of a text: name the model's "
            "beginning-of-text token (bos)",
        )
    try:
        numbers = tuple(logprob(values[place]) for place in chosen)
    except Unreadable as error:
        return Failed("unparsable", f"the server answered {error}")
    return Scored(tuple(tokens[place] for place in chosen), numbers)


def _echoed(choice: Mapping[str, Any]) -> tuple[list[str], list[Any], list[int] | None]:
    told = choice.get("logprobs")
    if not isinstance(told, dict):
        raise Unreadable("no logprobs")
    tokens, values = told.get("tokens"), told.get("token_logprobs")
    if not isinstance(tokens, list) or not all(isinstance(token, str) for token in tokens):
        raise Unreadable("logprobs without a list of tokens")
    if not isinstance(values, list) or len(values) != len(tokens):
        raise Unreadable("not one log probability a token")
    offsets = told.get("text_offset")
    known = isinstance(offsets, list) and all(type(offset) is int for offset in offsets)
    return tokens, values, offsets if known else None


def logprob(value: Any) -> float:
    """A natural log probability. Raises Unreadable for everything else; rounding above 0 is 0."""
    if type(value) not in (int, float) or not math.isfinite(value) or value > _ROUNDING:
        raise Unreadable(f"{str(value)[:40]} as a log probability")
    return min(float(value), 0.0)


def generate_body(prompt: Prompt, sampling: Sampling, top: int) -> dict[str, Any]:
    """A request for a text. top: of how many likeliest first tokens the probability is wanted."""
    text = f"{prompt.system}\n\n{prompt.text}" if prompt.system else prompt.text
    body = {"prompt": text, "max_tokens": sampling.max_tokens, **drawing(prompt, sampling)}
    return {**body, "logprobs": top} if top else body


def drawing(prompt: Prompt, sampling: Sampling) -> dict[str, Any]:
    """How the reply is drawn; each of several draws has a seed of its own."""
    drawn: dict[str, Any] = {
        "temperature": sampling.temperature,
        "top_p": sampling.top_p,
        "seed": (sampling.seed + 1_000_003 * prompt.sample) % (1 << 31),
    }
    return {**drawn, "stop": list(sampling.stop)} if sampling.stop else drawn


def read_reply(content: Mapping[str, Any], top: int) -> Reply | Failed:
    """The reply. Raises Unreadable when there is none."""
    (choice,) = choices(content, 1)
    text = choice.get("text")
    if not isinstance(text, str):
        return Failed("unparsable", "the server answered a choice without a text")
    try:
        first = _first(choice) if top else ()
    except Unreadable as error:
        return Failed("unparsable", f"the server answered {error}")
    return Reply(text, finish(choice), first)


def finish(choice: Mapping[str, Any]) -> Literal["stop", "length", "filter", "unknown"]:
    return _FINISHES.get(str(choice.get("finish_reason")), "unknown")


def _first(choice: Mapping[str, Any]) -> tuple[tuple[str, float], ...]:
    told = choice.get("logprobs")
    each = told.get("top_logprobs") if isinstance(told, dict) else None
    if not isinstance(each, list) or not each:
        return ()
    if not isinstance(each[0], dict):
        raise Unreadable("top_logprobs that are not a table of tokens")
    return tuple((str(token), logprob(value)) for token, value in each[0].items())
