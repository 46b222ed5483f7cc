"""A command's options as the policy they stand for: one path for both, and one that can be kept."""

import json
import math
import re
from collections.abc import Sequence

from assaymark.reports.errors import InputError

Table = dict[str, object]


def policy_text(check: Table, seed: int = 0) -> str:
    """TOML of a policy with one check; options that were not given are left out.

    >>> print(policy_text({"id": "a", "eps": "8/255", "arch": None}))
    seed = 0
    <BLANKLINE>
    [[check]]
    id = "a"
    eps = "8/255"
    <BLANKLINE>
    """
    lines = [f"{key} = {_value(value)}" for key, value in check.items() if value is not None]
    return "\n".join([f"seed = {seed}", "", "[[check]]", *lines, ""])


def _value(value: object) -> str:
    if isinstance(value, dict):
        inner = ", ".join(
            f"{_key(key)} = {_value(item)}" for key, item in value.items() if item is not None
        )
        return f"{{ {inner} }}"
    if isinstance(value, list):
        return f"[{', '.join(_value(item) for item in value)}]"
    if isinstance(value, str):
        # JSON strings are TOML basic strings, but for DEL and code points beyond the BMP
        return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)  # nan and inf, as TOML writes them
    return json.dumps(value)


def _key(name: object) -> str:
    """A key as TOML writes it: quoted, unless it is made of letters, digits, - and _."""
    text = str(name)
    return text if re.fullmatch(r"[A-Za-z0-9_-]+", text) else _value(text)


def with_arch(specs: Sequence[str], arch: Sequence[str]) -> list[Table]:
    """Models as a policy lists them: --arch is given once for all files of weights, or once for each model.

    >>> with_arch(["a.safetensors", "demo:digits"], ["zoo:net"])
    [{'model': 'a.safetensors', 'arch': 'zoo:net'}, {'model': 'demo:digits', 'arch': None}]
    """
    if len(arch) not in (0, 1, len(specs)):
        raise InputError(
            f"--arch is given {len(arch)} times for {len(specs)} models: give one for all, or one for "
            "each"
        )
    each = list(arch) * len(specs) if len(arch) == 1 else list(arch)
    return [
        {"model": spec, "arch": each[place] if each and ":" not in spec else None}
        for place, spec in enumerate(specs)
    ]


def model_keys(
    *,
    model: str | None,
    data: str | None,
    arch: str | None,
    classes: str | None,
    mean: str | None,
    std: str | None,
    input_range: str | None,
    data_range: str | None,
    image_size: str | None,
    examples: int | None,
    batch_size: int,
    access: str | None = None,
    num_classes: int | None = None,
    queries: int | None = None,
    max_queries: int | None = None,
    endpoint: list[str] | None = None,
    labels: str | None = None,
    image_column: str | None = None,
    label_column: str | None = None,
    split: str | None = None,
) -> Table:
    """The keys that every check of an image classifier shares, from the options of a command."""
    return {
        "model": model,
        "data": data,
        "arch": arch,
        "classes": classes.split(",") if classes else None,
        "normalize": {"mean": numbers(mean), "std": numbers(std)} if mean or std else None,
        "input_range": numbers(input_range),
        "data_range": numbers(data_range),
        "image_size": numbers(image_size),
        "examples": examples,
        "batch_size": batch_size,
        "access": access,
        "num_classes": num_classes,
        "queries": queries,
        "max_queries": max_queries,
        "endpoint": _settings(endpoint) if endpoint else None,
        "labels": labels,
        "image_column": image_column,
        "label_column": label_column,
        "split": split,
    }


def _settings(given: list[str]) -> Table:
    """KEY=VALUE pairs; what is a number or a truth value in a policy becomes one.

    >>> _settings(["images=png", "retries=2", "proxy=true"])
    {'images': 'png', 'retries': 2, 'proxy': True}
    """
    table: Table = {}
    for pair in given:
        key, equals, value = pair.partition("=")
        if not equals or not re.fullmatch(r"[A-Za-z0-9_-]+", key):
            raise InputError(f"--endpoint {pair}: expected KEY=VALUE, such as images=png")
        if key in ("time_limit", "retries"):
            table[key] = (numbers(value) or [value])[0]
        elif key == "proxy":
            table[key] = {"true": True, "false": False}.get(value, value)
        else:
            table[key] = value
    return table


def numbers(text: str | None) -> list[object] | None:
    """Numbers with commas; what is no number stays text, and the policy says so."""
    if text is None:
        return None
    parts: list[object] = []
    for part in text.split(","):
        try:
            parts.append(int(part))
        except ValueError:
            try:
                parts.append(float(part))
            except ValueError:
                parts.append(part)
    return parts
