"""Whether the attacks, mitigations and detectors of a policy exist, asked before anything runs."""

from collections.abc import Iterator

from assaymark.reports.errors import InputError, nearest
from assaymark.reports.policy import Policy
from assaymark.reports.policy_detection import DetectionCheck, DetectorCheck
from assaymark.reports.policy_lm import LmCheck
from assaymark.reports.policy_robustness import SceneCheck
from assaymark.reports.positions import Path as KeyPath


def mistakes(policy: Policy) -> Iterator[tuple[KeyPath, str]]:
    """The place of each attack, mitigation or detector that there is none of, and why."""
    for i, check in enumerate(policy.check):
        if isinstance(check, LmCheck):
            yield from _mitigations(check, i)
        if isinstance(check, DetectionCheck | DetectorCheck):
            yield from _detectors(check, i)
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


def _detectors(check: DetectionCheck | DetectorCheck, i: int) -> Iterator[tuple[KeyPath, str]]:
    from assaymark.provenance.detector_names import FUSED, measurable, published, ways
    from assaymark.provenance.detectors import DETECTORS

    asked: list[tuple[KeyPath, str, tuple[str, ...]]]
    if isinstance(check, DetectorCheck):
        names = (FUSED, *measurable(), *published())
        asked = [(("check", i, "detector"), check.detector, names)]
        asked += [
            (("check", i, "deliveries", j), name, ways()) for j, name in enumerate(check.deliveries)
        ]
    else:
        named = (("detectors", check.detectors or ()), ("skip", check.skip))
        asked = [
            (("check", i, key, j), name, tuple(DETECTORS))
            for key, names in named
            for j, name in enumerate(names)
        ]
        asked += [
            (("check", i, "checkpoints", j, "detector"), entry.detector, published())
            for j, entry in enumerate(check.checkpoints)
        ]
    for place, name, known in asked:
        if name not in known:
            kind = "delivery" if "deliveries" in place else "detector"
            yield place, f'there is no {kind} "{name}"{nearest(name, known)}'
