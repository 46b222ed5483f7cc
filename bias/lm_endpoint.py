"""A language model behind an OpenAI-compatible address, asked with patience and without trust.

POST {url}/completions and {url}/chat/completions. A server that echoes a text with the log probability
of each token can score texts; every other one only writes them. What it offers is found out by a few
tiny requests, which count towards the ceilings like any other.
"""

import hashlib
import json
import threading
from collections.abc import Callable, Generator, Mapping, Sequence
from typing import Any, TypeVar

from assaymark.bias.lm_budget import Amount, Budget, Ceiling, Stopped
from assaymark.bias.lm_chat import chat_body, read_chat
from assaymark.bias.lm_completions import generate_body, read_reply, read_scores, score_body, whole
from assaymark.bias.lm_endpoint_options import EndpointOptions
from assaymark.bias.lm_http import address, excerpt
from assaymark.bias.lm_model import (
    Continuation,
    Failed,
    LanguageModel,
    Prompt,
    Reply,
    Sampling,
    Scored,
)
from assaymark.bias.lm_patience import Client, Manners, Refused
from assaymark.bias.lm_probe import LIMITS, Offer, probe
from assaymark.bias.lm_stream import StreamedGenerate, StreamedScore, in_threads

R = TypeVar("R", Continuation, Prompt)
A = TypeVar("A")
_OVERHEAD = 64  # tokens that a server may add to a text: its beginning, roles, a system prompt


def endpoint(url: str, *, model: str, options: EndpointOptions | None = None) -> LanguageModel:
    """The model of a server. url: up to and with /v1. model: as the server names it.

    `facts` tells what the server offers, and goes on to tell what was spent and noticed. Raises
    InputError when the address cannot be used, or the server answers no request.
    """
    options = options or EndpointOptions()
    asked = Asked(url, model, options)
    offer = asked.probed()
    return LanguageModel(
        name=f"{model} at {asked.client.place.shown}",
        key=_key(url, model, offer, options, asked.facts),
        facts=asked.facts,
        score=StreamedScore(lambda r: asked.scores(r, offer)) if offer.echo else None,
        generate=StreamedGenerate(lambda p, sampling: asked.replies(p, sampling, offer)),
        chat=offer.api == "chat",
    )


def _key(
    url: str, model: str, offer: Offer, options: EndpointOptions, facts: Mapping[str, str]
) -> str:
    """All that answers depend on. Hashed, since an address may hold a secret."""
    parts = {
        "url": url,
        "model": model,
        "api": offer.api,
        "top": offer.top,
        "bos": options.bos,
        "extra": dict(options.extra),
        "leave_out": sorted(options.leave_out),
        "answers as": facts.get("answers as", ""),
        "system_fingerprint": facts.get("system_fingerprint", ""),
    }
    plain = json.dumps(parts, sort_keys=True, separators=(",", ":"))
    return f"endpoint:{hashlib.sha256(plain.encode()).hexdigest()}"


class Asked:
    """A server, what it is asked, and what was noticed about it."""

    def __init__(self, url: str, model: str, options: EndpointOptions) -> None:
        self.model, self.options = model, options
        self.client = _client(url, options)
        self.facts: dict[str, str] = {"address": self.client.place.shown, "model": model}
        self._overhead = _OVERHEAD
        self._lock = threading.Lock()

    def probed(self) -> Offer:
        """What the server offers. Raises InputError when it offers nothing."""

        def post(
            path: str,
            body: Mapping[str, Any],
            texts: Sequence[str],
            read: Callable[[Mapping[str, Any]], A],
            *,
            retries: int | None = None,
        ) -> A:
            self.client.begin()
            return self._post(path, body, texts, read, threading.Event(), retries=retries)

        try:
            offer = probe(post, self.options.api, self.options.top_logprobs)
        finally:
            self.client.close()
        self.facts |= {
            "api": offer.api,
            "scores texts (echo with logprobs)": "yes" if offer.echo else "no",
            "top_logprobs": str(offer.top) if offer.top else "no",
        }
        return offer

    def scores(
        self, requests: Sequence[Continuation], offer: Offer
    ) -> Generator[tuple[int, Scored | Failed], None, None]:
        """The answers as they come, each with the index of its request."""
        bos = self.options.bos

        def ask(group: Sequence[Continuation], stop: threading.Event) -> list[Scored | Failed]:
            body = score_body(group, bos, offer.least)
            texts = [whole(request, bos) for request in group]
            return self._post(
                "/completions", body, texts, lambda c: read_scores(c, group, bos), stop
            )

        yield from self._answers(requests, ask, self.options.batch)

    def replies(
        self, prompts: Sequence[Prompt], sampling: Sampling, offer: Offer
    ) -> Generator[tuple[int, Reply | Failed], None, None]:
        """The answers as they come, each with the index of its prompt."""

        def ask(group: Sequence[Prompt], stop: threading.Event) -> list[Reply | Failed]:
            try:
                return [self._reply(group[0], sampling, offer, stop)]
            except Refused as refused:
                if refused.filtered:
                    return [Reply("", "filter")]
                raise

        yield from self._answers(prompts, ask, 1)

    def _reply(
        self, prompt: Prompt, sampling: Sampling, offer: Offer, stop: threading.Event
    ) -> Reply | Failed:
        top = min(sampling.top_logprobs, offer.top)
        texts = [f"{prompt.system}  {prompt.text}"]
        if offer.api == "chat":
            body = chat_body(prompt, sampling, top, offer.limit)
            return self._post("/chat/completions", body, texts, lambda c: read_chat(c, top), stop)
        body = generate_body(prompt, sampling, top)
        return self._post("/completions", body, texts, lambda c: read_reply(c, top), stop)

    def _answers(
        self,
        requests: Sequence[R],
        ask: Callable[[Sequence[R], threading.Event], list[A | Failed]],
        size: int,
    ) -> Generator[tuple[int, A | Failed], None, None]:
        """Groups of requests, several at a time; of a group that fails, each half on its own."""

        def work(places: range, stop: threading.Event) -> list[tuple[int, A | Failed]]:
            try:
                answers = ask([requests[place] for place in places], stop)
            except Stopped:
                return []
            except Refused as refused:
                if len(places) == 1 or refused.failed.kind == "ceiling" or self.client.given_up:
                    return [(place, refused.failed) for place in places]
                middle = len(places) // 2
                return work(places[:middle], stop) + work(places[middle:], stop)
            return list(zip(places, answers, strict=True))

        groups = [
            range(start, min(start + size, len(requests)))
            for start in range(0, len(requests), size)
        ]
        self.client.begin()
        try:
            yield from in_threads(work, groups, self.options.concurrency)
        finally:
            self.client.close()

    def _post(
        self,
        path: str,
        body: Mapping[str, Any],
        texts: Sequence[str],
        read: Callable[[Mapping[str, Any]], A],
        stop: threading.Event,
        *,
        retries: int | None = None,
    ) -> A:
        def noticing(content: Mapping[str, Any]) -> A:
            answer = read(content)
            self._notice(content, texts)
            return answer

        merged = {"model": self.model, **body, **self.options.extra}
        sent = {k: value for k, value in merged.items() if k not in self.options.leave_out}
        try:
            return self.client.ask(
                path, sent, self._most(sent, texts), noticing, stop, retries=retries
            )
        finally:
            self._count()

    def _most(self, sent: Mapping[str, Any], texts: Sequence[str]) -> Amount:
        """The most that a request can use: a token is at least one byte of a text."""
        read = sum(_bytes(text) + self._overhead for text in texts)
        limits = [sent[key] for key in LIMITS if type(sent.get(key)) is int]
        return Amount(1, read, max(limits, default=0) * len(texts))

    def _notice(self, content: Mapping[str, Any], texts: Sequence[str]) -> None:
        """What the server says of itself; another model's name is a warning."""
        with self._lock:
            for key, name in (("answers as", "model"), ("system_fingerprint",) * 2):
                value = content.get(name)
                if isinstance(value, str) and value:
                    self._told(key, excerpt(value.encode("utf-8", "replace"), 100))
            usage = content.get("usage")
            read = usage.get("prompt_tokens") if isinstance(usage, dict) else None
            if type(read) is not int:
                self.facts["counting"] = (
                    "the server does not count tokens: the most they can be is taken"
                )
            elif len(texts) == 1:
                self._overhead = max(self._overhead, read - _bytes(texts[0]) + 16)

    def _told(self, key: str, value: str) -> None:
        before = self.facts.setdefault(key, value)
        if before != value:
            self.facts["warning"] = (
                f"the server changed while it was asked: {key} was {before}, then {value}"
            )
        elif key == "answers as" and not _same(self.model, value):
            self.facts.setdefault("warning", f"{self.model} was asked for, but {value} answers")

    def _count(self) -> None:
        spent, ceiling = self.client.budget.spent, self.client.budget.ceiling
        with self._lock:
            self.facts["requests"] = str(spent.requests)
            self.facts["tokens"] = f"{spent.read} read, {spent.written} written"
            if ceiling.price_read or ceiling.price_written:
                self.facts["cost"] = f"{ceiling.price(spent):.6g}"


def _bytes(text: str) -> int:
    return len(text.encode("utf-8", "surrogatepass"))


def _same(asked: str, answered: str) -> bool:
    """Is this the model that was asked for? Servers put a folder in front, or a date behind.

    >>> _same("gpt-x", "gpt-x-2026-08-01"), _same("org/m", "m"), _same("gpt-x", "llama")
    (True, True, False)
    """
    a, b = asked.lower(), answered.lower()
    return b.startswith(a) or a.endswith(f"/{b}") or b.endswith(f"/{a}")


def _client(url: str, options: EndpointOptions) -> Client:
    manners = Manners(
        time_limit=options.time_limit,
        retries=options.retries,
        pause=options.pause,
        longest_pause=options.longest_pause,
        give_up_after=options.give_up_after,
        seed=options.seed,
        proxy=options.proxy,
        requests_per_minute=options.requests_per_minute,
        tokens_per_minute=options.tokens_per_minute,
    )
    ceiling = Ceiling(
        requests=options.max_requests,
        tokens=options.max_tokens_total,
        cost=options.max_cost,
        price_read=options.price_input or 0.0,
        price_written=options.price_output or 0.0,
    )
    return Client(address(url, options.token_env), manners, Budget(ceiling))
