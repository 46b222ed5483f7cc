"""The chat completions of an OpenAI-compatible server.

https://platform.openai.com/docs/api-reference/chat
"""

from collections.abc import Mapping
from typing import Any

from assaymark.bias.lm_completions import choices, drawing, finish, logprob
from assaymark.bias.lm_model import Failed, Prompt, Reply, Sampling
from assaymark.bias.lm_patience import Unreadable


def chat_body(prompt: Prompt, sampling: Sampling, top: int, limit: str) -> dict[str, Any]:
    """A request for a reply. limit: the key of the most tokens, which differs among servers."""
    system = [{"role": "system", "content": prompt.system}] if prompt.system else []
    body = {
        "messages": [*system, {"role": "user", "content": prompt.text}],
        limit: sampling.max_tokens,
        **drawing(prompt, sampling),
    }
    return {**body, "logprobs": True, "top_logprobs": top} if top else body


def read_chat(content: Mapping[str, Any], top: int) -> Reply | Failed:
    """The reply; a refusal by the server or its filter is one. Raises Unreadable when there is none."""
    (choice,) = choices(content, 1)
    message = choice.get("message")
    if not isinstance(message, dict):
        return Failed("unparsable", "the server answered a choice without a message")
    refusal, text = message.get("refusal"), _text(message.get("content"))
    if not text and isinstance(refusal, str) and refusal:
        return Reply(refusal, "filter")
    if text is None and finish(choice) == "filter":
        return Reply("", "filter")
    if text is None:
        calls = " but a call of a tool" if message.get("tool_calls") else ""
        said = str(choice.get("finish_reason"))[:40]
        return Failed("unparsable", f"the server answered no text{calls} (finish_reason {said})")
    try:
        first = _first(choice) if top else ()
    except Unreadable as error:
        return Failed("unparsable", f"the server answered {error}")
    return Reply(text, finish(choice), first)


def _text(content: Any) -> str | None:
    """A text, or the texts of a list of parts."""
    if isinstance(content, str):
        return content
    if not isinstance(content, list) or not content:
        return None
    parts = [part.get("text") if isinstance(part, dict) else None for part in content]
    texts = [part for part in parts if isinstance(part, str)]
    return "".join(texts) if len(texts) == len(parts) else None


def _first(choice: Mapping[str, Any]) -> tuple[tuple[str, float], ...]:
    told = choice.get("logprobs")
    each = told.get("content") if isinstance(told, dict) else None
    if not isinstance(each, list) or not each:
        return ()
    ranked = each[0].get("top_logprobs") if isinstance(each[0], dict) else None
    if not isinstance(ranked, list) or not all(isinstance(one, dict) for one in ranked):
        raise Unreadable("logprobs without a list of top_logprobs")
    return tuple((_token(one), logprob(one.get("logprob"))) for one in ranked)


def _token(told: Mapping[str, Any]) -> str:
    token = told.get("token")
    if not isinstance(token, str):
        raise Unreadable("top_logprobs without a token")
    return token
