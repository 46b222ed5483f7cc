"""What an OpenAI-compatible server offers, found out by tiny requests."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, Literal, Protocol, TypeVar

from assaymark.bias.lm_chat import chat_body, read_chat
from assaymark.bias.lm_completions import generate_body, read_reply, read_scores, score_body
from assaymark.bias.lm_model import Continuation, Failed, Prompt, Reply, Sampling, Scored
from assaymark.bias.lm_patience import Refused
from assaymark.reports.errors import InputError

A = TypeVar("A")
_TEXT = Continuation("The sky", " is blue.")
_PROMPT = Prompt("Hello")
_USUAL_TOP = 5
LIMITS = ("max_tokens", "max_completion_tokens")


@dataclass(frozen=True, kw_only=True)
class Offer:
    """What a server can do. echo: it tells the probability of a text. least: the fewest tokens it must be
    let write then. top: of how many likeliest tokens it tells the probability. limit: its key of the
    most tokens."""

    api: Literal["completions", "chat"]
    echo: bool = False
    least: int = 0
    top: int = 0
    limit: str = "max_tokens"


class Post(Protocol):
    """Sends a body about some texts to a path, and reads the answer. Raises Refused."""

    def __call__(
        self,
        path: str,
        body: Mapping[str, Any],
        texts: Sequence[str],
        read: Callable[[Mapping[str, Any]], A],
        *,
        retries: int | None = None,
    ) -> A: ...


def probe(post: Post, api: Literal["auto", "completions", "chat"], top: int) -> Offer:
    """The best that a server offers: texts scored, otherwise chat, otherwise texts written.

    top: the most top_logprobs that are wanted. Raises InputError when the server offers nothing.
    """
    refusals: list[Refused] = []
    offer = _completions(post, top, refusals) if api != "chat" else None
    if api == "chat" or (api == "auto" and not (offer and offer.echo)):
        offer = _chat(post, top, refusals) or offer
    if offer is None:
        raise InputError(f"the server answers no request: {refusals[-1].failed.reason}")
    return offer


def _completions(post: Post, top: int, refusals: list[Refused]) -> Offer | None:
    offer = Offer(api="completions")
    for wanted in dict.fromkeys((top or 1, min(top or 1, _USUAL_TOP))):
        tells, gone = _tried(partial(_echoed, post, 1, wanted), refusals)
        if tells is not None:
            spared, _ = _tried(partial(_echoed, post, 0, 1), refusals)
            told = min(wanted, top) if tells else 0
            return replace(offer, echo=True, least=int(spared is None), top=told)
        if gone:
            return None
    return _writing(post, offer, top, refusals)


def _chat(post: Post, top: int, refusals: list[Refused]) -> Offer | None:
    for limit in LIMITS:
        found = _writing(post, Offer(api="chat", limit=limit), top, refusals)
        if found is not None:
            return found
    return None


def _writing(post: Post, offer: Offer, top: int, refusals: list[Refused]) -> Offer | None:
    """The offer with the most top_logprobs, up to `top`, with which the server writes a text."""
    for wanted in dict.fromkeys((top, min(top, _USUAL_TOP), 0)):
        found, gone = _tried(partial(_written, post, offer, wanted), refusals)
        if found is not None or gone:
            return found
    return None


def _tried(ask: Callable[[], A | None], refusals: list[Refused]) -> tuple[A | None, bool]:
    """The answer, None when the server takes no such request; and whether there is no such address.

    Raises InputError for what no other request would mend: a server that is away, a token, a ceiling.
    """
    try:
        return ask(), False
    except Refused as refused:
        away = refused.status is None and refused.failed.kind != "unparsable"
        if away or refused.status in (401, 403, 407, 429):
            raise InputError(refused.failed.reason) from refused
        refusals.append(refused)
        return None, refused.status in (404, 405)


def _echoed(post: Post, least: int, top: int) -> bool | None:
    """Does the server tell likeliest tokens? None when it does not tell the probability of a text."""

    def read(content: Mapping[str, Any]) -> tuple[Scored | Failed, bool]:
        (answer,) = read_scores(content, [_TEXT], "")
        told = content["choices"][0].get("logprobs")
        tops = told.get("top_logprobs") if isinstance(told, dict) else None
        return answer, isinstance(tops, list) and any(isinstance(one, dict) for one in tops)

    body = {**score_body([_TEXT], "", least), "logprobs": top}
    answer, tops = post(
        "/completions", body, [f"{_TEXT.context}{_TEXT.text}"], read, retries=1
    )  # some servers crash when they do not know echo
    return tops if isinstance(answer, Scored) else None


def _written(post: Post, offer: Offer, top: int) -> Offer | None:
    def read(content: Mapping[str, Any]) -> Reply | Failed:
        if offer.api == "chat":
            return read_chat(content, top)
        return read_reply(content, top)

    sampling = Sampling(max_tokens=16)  # some servers take no fewer
    if offer.api == "chat":
        path, body = "/chat/completions", chat_body(_PROMPT, sampling, top, offer.limit)
    else:
        path, body = "/completions", generate_body(_PROMPT, sampling, top)
    reply = post(path, body, [_PROMPT.text], read)
    if isinstance(reply, Failed):
        # without text, such as one of a model that only thought: the address is right all the same
        return replace(offer, top=0) if top == 0 else None
    return replace(offer, top=top if reply.first else 0)
