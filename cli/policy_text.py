"""A command's options as the policy they stand for: one path for both, and one that can be kept."""

import json
import math

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
            f"{key} = {_value(item)}" for key, item in value.items() if item is not None
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
