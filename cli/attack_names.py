"""Whether the attacks and mitigations of a policy exist, asked before anything runs."""

from collections.abc import Iterator

from assaymark.reports.errors import InputError
from assaymark.reports.policy import Policy
from assaymark.reports.policy_lm import LmCheck
from assaymark.reports.policy_robustness import SceneCheck
from assaymark.reports.positions import Path as KeyPath


def mistakes(policy: Policy) -> Iterator[tuple[KeyPath, str]]:
    """The place of each attack or mitigation that there is none of, and why."""
    for i, check in enumerate(policy.check):
        if isinstance(check, LmCheck):
            yield from _mitigations(check, i)
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


def _mitigations(check: LmCheck, i: int) -> Iterator[tuple[KeyPath, str]]:
    if not check.mitigations:
        return
    from assaymark.bias.lm_mitigated import check_names

    for j, name in enumerate(check.mitigations):
        try:
            check_names([name])
        except InputError as error:
            yield ("check", i, "mitigations", j), str(error)
