"""How a server with a language model is asked, and what that may cost."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from assaymark.reports.errors import InputError

_OURS = ("model", "prompt", "messages", "n", "best_of", "stream", "echo")


@dataclass(frozen=True, kw_only=True)
class EndpointOptions:
    """How a server is asked.

    api: completions, chat, or auto: completions where they can score texts, otherwise chat, otherwise
    completions. token_env: an environment variable whose value is sent as bearer token, over https or to
    this machine only. time_limit: seconds for one answer. retries: how often a busy or failing server is
    asked again; pause, longest_pause: seconds (see lm_patience). give_up_after: so many requests in a row
    that failed for good, and the rest fail at once. concurrency: requests under way at the same time.
    requests_per_minute, tokens_per_minute: limits of our own. max_requests, max_tokens_total, max_cost:
    ceilings, never passed; max_cost needs price_input and price_output, of a million tokens each.
    top_logprobs: the most that are asked for. bos: the model's beginning-of-text token, as text, to score
    texts without a context. batch: texts scored in one request. extra: further keys of the request, such
    as {"user": "audit"}. leave_out: keys that the server does not take, such as temperature. proxy: use
    the proxies of the environment. seed: of the pauses.
    """

    api: Literal["auto", "completions", "chat"] = "auto"
    token_env: str | None = None
    time_limit: float = 60.0
    retries: int = 5
    pause: float = 1.0
    longest_pause: float = 60.0
    give_up_after: int = 5
    concurrency: int = 8
    requests_per_minute: float | None = None
    tokens_per_minute: float | None = None
    max_requests: int | None = None
    max_tokens_total: int | None = None
    max_cost: float | None = None
    price_input: float | None = None
    price_output: float | None = None
    top_logprobs: int = 5
    bos: str = ""
    batch: int = 1
    extra: Mapping[str, Any] = field(default_factory=dict)
    leave_out: tuple[str, ...] = ()
    proxy: bool = False
    seed: int = 0

    def __post_init__(self) -> None:
        for name, least in (("retries", 0), ("top_logprobs", 0), ("concurrency", 1), ("batch", 1)):
            _at_least(name, getattr(self, name), least)
        _at_least("give_up_after", self.give_up_after, 1)
        for name in ("pause", "longest_pause"):
            _at_least(name, getattr(self, name), 0)
        for name in ("max_requests", "max_tokens_total", "max_cost", "price_input", "price_output"):
            _at_least(name, getattr(self, name), 0)
        for name in ("time_limit", "requests_per_minute", "tokens_per_minute"):
            value = getattr(self, name)
            if value is not None and not 0 < value < float("inf"):
                raise InputError(f"{name} must be above 0, got {value}")
        if self.api not in ("auto", "completions", "chat"):
            raise InputError(f'api must be auto, completions or chat, got "{self.api}"')
        if self.max_cost is not None and None in (self.price_input, self.price_output):
            raise InputError(
                "max_cost needs the prices of a million tokens: give price_input and price_output"
            )
        for name in ("extra", "leave_out"):
            taken = [key for key in getattr(self, name) if key in _OURS]
            if taken:
                raise InputError(
                    f"{name} cannot hold {', '.join(taken)}, which Assaymark itself sets"
                )


def _at_least(name: str, value: float | None, least: int) -> None:
    if value is not None and not least <= value < float("inf"):
        raise InputError(f"{name} must be at least {least}, got {value}")
