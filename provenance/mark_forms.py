"""How the texts of generators are read: by their structure, so that a word in a caption is no mark."""

import json
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, NamedTuple

_LONGEST = 1 << 16  # characters of a text that a pattern is tried on
_STEPS = re.compile(r"^Steps: \d+(?:, |$)", re.MULTILINE)
_SETTINGS = ("Sampler", "Seed", "CFG scale", "Size", "Schedule type", "Model hash", "Model")
_NODES = 100_000
_LOADERS = ("ckpt_name", "unet_name", "model_name")

Patterns = Mapping[str, re.Pattern[str]]


class Read(NamedTuple):
    """What a text tells besides its generator; empty where it tells nothing."""

    prompt: str = ""
    model: str = ""


class Rule(NamedTuple):
    """What a row of the table asks of a text. fields: names, or dotted paths, and their whole values."""

    fields: Patterns
    pattern: re.Pattern[str] | None
    prompt: str
    model: str


def infotext(text: str, rule: Rule) -> Read | None:
    """The text of the Stable Diffusion WebUI: a prompt, and a last line `Steps: 20, Sampler: …`."""
    lines = [found.start() for found in _STEPS.finditer(text)]
    if not lines:
        return None
    pairs = (part.partition(": ") for part in text[lines[-1] :].split(", "))
    settings: dict[str, str] = {}
    for name, separator, value in pairs:
        if separator:
            settings.setdefault(name.strip(), value.strip())
    if sum(name in settings for name in _SETTINGS) < 2 or not _fit(settings.get, rule.fields):
        return None
    prompt = text[: lines[-1]].split("\nNegative prompt:", 1)[0]
    return Read(prompt=prompt.strip(), model=settings.get("Model", ""))


def whole(text: str, rule: Rule) -> Read | None:
    """The text matches a pattern from its beginning to its end."""
    if rule.pattern is None or len(text) > _LONGEST:
        return None
    found = rule.pattern.fullmatch(text)
    if found is None:
        return None
    groups = found.groupdict()
    return Read(prompt=groups.get("prompt") or "", model=groups.get("model") or "")


def settings(text: str, rule: Rule) -> Read | None:
    """A JSON object whose fields fit; one that is all there is in an object's AIGC is taken out of it."""
    document = _object(text)
    if document is None:
        return None
    inner = document.get("AIGC")
    if isinstance(inner, str):
        inner = _object(inner)
    if isinstance(inner, dict):
        document = inner

    def value(path: str) -> str | None:
        return _at(document, path)

    if not _fit(value, rule.fields):
        return None
    return Read(
        prompt=(value(rule.prompt) or "") if rule.prompt else "",
        model=(value(rule.model) or "") if rule.model else "",
    )


def graph(text: str, rule: Rule) -> Read | None:
    """ComfyUI's graph of nodes, for its engine or for its editor, bare or as its savers wrap it."""
    for name in ("prompt:", "workflow:", "Prompt:", "Workflow:"):
        text = text.removeprefix(name).lstrip()
    document = _object(text)
    if document is None:
        return None
    wrapped = (document.get(key) for key in ("prompt", "workflow"))
    for one in (document, *wrapped):
        inner = _object(one) if isinstance(one, str) else one
        if isinstance(inner, dict):
            nodes = list(_nodes(inner))
            if nodes:
                return _of_nodes(nodes)
    return None


def _nodes(document: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """Nodes of the engine's graph, each with a class and inputs, or of the editor's, each with a type."""
    listed = document.get("nodes")
    if isinstance(listed, list) and isinstance(document.get("links"), list):
        yield from (node for node in listed[:_NODES] if _is_node(node, "type"))
    elif document and all(isinstance(node, dict) for node in document.values()):
        nodes = [node for node in document.values() if _is_node(node, "class_type")]
        if 2 * len(nodes) > len(document):
            yield from nodes


def _is_node(node: object, key: str) -> bool:
    return isinstance(node, dict) and isinstance(node.get(key), str)


def _of_nodes(nodes: Iterable[dict[str, Any]]) -> Read:
    prompt = model = ""
    for node in nodes:
        inputs = node.get("inputs")
        for key, value in inputs.items() if isinstance(inputs, dict) else ():
            if key in _LOADERS and isinstance(value, str):
                model = model or value
            if key == "text" and isinstance(value, str) and "TextEncode" in node["class_type"]:
                prompt = prompt or value
    return Read(prompt=prompt, model=model)


def _object(text: str) -> dict[str, Any] | None:
    if not text.startswith("{"):
        return None
    try:
        document = json.loads(text)
    except (ValueError, RecursionError):
        return None
    return document if isinstance(document, dict) else None


def _at(document: Any, path: str) -> str | None:
    """The value at a dotted path as text: a string as it is, anything else as JSON."""
    for key in path.split("."):
        if not isinstance(document, dict) or key not in document:
            return None
        document = document[key]
    if isinstance(document, str):
        return document
    return json.dumps(document, ensure_ascii=False)[:_LONGEST]


def _fit(value: Callable[[str], str | None], wanted: Patterns) -> bool:
    found = ((pattern, value(name)) for name, pattern in wanted.items())
    return all(
        text is not None and pattern.fullmatch(text[:_LONGEST]) is not None
        for pattern, text in found
    )


FORMS: Mapping[str, Callable[[str, Rule], Read | None]] = {
    "infotext": infotext,
    "pattern": whole,
    "object": settings,
    "graph": graph,
}
