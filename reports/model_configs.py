"""What a saved model's config.json may not ask for, whichever pillar opens the model."""

from typing import Any

_OWN = {"sdpa", "eager", "None"}
"""Implementations of attention that transformers brings itself."""


def foreign_code(config: Any) -> str | None:
    """The implementation that a configuration, or a part of it, would fetch as code from a hub; None if none.

    transformers prefers what the file says about attention or experts to what its caller says.

    >>> foreign_code({"text_config": {"_attn_implementation": "someone/kernel"}})
    'someone/kernel'
    """
    return min(_implementations(config) - _OWN, default=None)


def _implementations(part: Any) -> set[str]:
    if isinstance(part, list):
        return set[str]().union(*map(_implementations, part))
    if not isinstance(part, dict):
        return set()
    named = {str(part[key]) for key in part if key.endswith(("_implementation", "_internal"))}
    return named.union(*map(_implementations, part.values()))
