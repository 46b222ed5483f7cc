"""Whether the attacks of a policy exist, asked before anything runs: a wrong name is a wrong policy."""

from collections.abc import Iterator

from assaymark.reports.errors import InputError
from assaymark.reports.policy import Policy
from assaymark.reports.policy_robustness import SceneCheck
from assaymark.reports.positions import Path as KeyPath


def mistakes(policy: Policy) -> Iterator[tuple[KeyPath, str]]:
    """The place of each attack that cannot be built by name, options and norm, and why."""
    for i, check in enumerate(policy.check):
        norm = getattr(check, "norm", None)
        if isinstance(check, SceneCheck) or norm is None:
            continue
        from assaymark.robustness import catalogue

        for key in ("attack", "targeted"):
            for j, attack in enumerate(getattr(check, key, ())):
                try:
                    catalogue.build([(attack.name, attack.options)], norm)
                except InputError as error:
                    yield ("check", i, key, j), str(error)
