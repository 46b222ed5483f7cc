"""What a manifest says about a work: how it was made, by whom, from what, and what is allowed."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any


@dataclass(frozen=True, kw_only=True)
class Claims:
    """What is said about one work; empty means that nothing is said, never a default claim.

    source_type: an IPTC digital source type, by its last word ("trainedAlgorithmicMedia").
    prompt_sha256: hexadecimal digest of the prompt, so that the prompt itself stays private.
    training: uses of the CAWG training and data mining assertion that are allowed or not
    ({"cawg.ai_training": "notAllowed"}). assertions: further ones by label, as JSON values.
    thumbnail: longest edge in pixels of a small picture in the manifest; 0 for none.
    """

    title: str | None = None
    source_type: str | None = None
    author: str | None = None
    organization: str | None = None
    generator: str | None = None
    generator_version: str | None = None
    prompt_sha256: str | None = None
    training: Mapping[str, str] | None = None
    parent: Path | None = None
    ingredients: tuple[Path, ...] = ()
    assertions: Mapping[str, Any] | None = None
    thumbnail: int = 0


NOTHING = Claims()
