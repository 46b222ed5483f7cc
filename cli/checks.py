"""How each kind of check is run: one table from the policy's class to a function.

The functions hand a policy's fields to a pillar, which takes plain arguments and knows no policy.
"""

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

from assaymark.cli.bias_checks import bias_table
from assaymark.cli.bias_images_check import bias_images
from assaymark.cli.bias_lm_check import language_model
from assaymark.cli.detection_check import detection, detector
from assaymark.cli.mitigation_check import mitigation
from assaymark.cli.opening import (
    Context,
    countermeasures,
    data_of,
    entrant_of,
    model_and_data,
    model_of,
    recognisers,
    shards_of,
    surrogate_of,
)
from assaymark.reports.model import CheckResult
from assaymark.reports.policy_bias import BiasImagesCheck, BiasTableCheck, MitigationCheck
from assaymark.reports.policy_detection import DetectionCheck, DetectorCheck
from assaymark.reports.policy_lm import LmCheck
from assaymark.reports.policy_protection import ProtectionCheck
from assaymark.reports.policy_provenance import AttestationCheck, FolderCheck, ProvenanceCheck
from assaymark.reports.policy_robustness import (
    ALPHA,
    SAMPLES,
    CertificateCheck,
    CorruptionCheck,
    DefenseCheck,
    RobustnessCheck,
    SceneCheck,
)
from assaymark.reports.policy_tournament import TournamentCheck


def _robustness(check: RobustnessCheck, context: Context) -> CheckResult:
    import torch

    from assaymark.robustness.check import Threat, check_robustness
    from assaymark.robustness.shard import Search

    model, data = model_and_data(check, context)
    return check_robustness(
        check.id,
        model,
        data,
        Threat(
            attacks=tuple((attack.name, attack.options) for attack in check.attack),
            norm=check.norm,
            eps=check.eps,
            target=check.target,
        ),
        gates=check.gates,
        tags=check.tags,
        examples=check.examples,
        sequential=check.sequential,
        surrogates=tuple(surrogate_of(spec, check, data, context) for spec in check.surrogates),
        search=Search(
            batch_size=check.batch_size,
            precision=getattr(torch, check.precision),
            channels_last=True,
        ),
        seed=context.seed,
        device=context.device,
        save=context.folder / check.save if check.save else None,
        shards=shards_of(context),
        progress=context.progress,
    )


def _corruption(check: CorruptionCheck, context: Context) -> CheckResult:
    from assaymark.robustness.corruption_check import check_corruptions

    model, data = model_and_data(check, context)
    reference = None
    if check.reference is not None:
        reference = model_of(check.reference, check.reference_arch, None, check, data, context)
    return check_corruptions(
        check.id,
        model,
        data,
        corruptions=check.corruptions,
        severities=check.severities,
        reference=reference,
        gates=check.gates,
        tags=check.tags,
        examples=check.examples,
        batch_size=check.batch_size,
        seed=context.seed,
        device=context.device,
        workers=context.workers,
        progress=context.progress,
    )


def _defense(check: DefenseCheck, context: Context) -> CheckResult:
    from dataclasses import replace

    from assaymark.robustness import checkpoints, recipes
    from assaymark.robustness.check import Threat
    from assaymark.robustness.defense_check import check_defense

    model, data = model_and_data(check, context)
    after = model_of(check.defended, check.arch, check.defended_sha256, check, data, context)
    if check.held_out is not None:
        rows = recipes.parts(len(data.images), check.held_out, context.seed)[2]
        data = replace(
            data,
            name=f"{data.name} (held out)",
            images=data.images[rows],
            labels=data.labels[rows],
        )
    return check_defense(
        check.id,
        model,
        after,
        data,
        Threat(
            attacks=tuple((attack.name, attack.options) for attack in check.attack),
            norm=check.norm,
            eps=check.eps,
        ),
        gates=check.gates,
        tags=check.tags,
        record=checkpoints.record_of(context.folder / check.defended),
        examples=check.examples,
        batch_size=check.batch_size,
        seed=context.seed,
        device=context.device,
        workers=context.workers,
        progress=context.progress,
    )


def _scene(check: SceneCheck, context: Context) -> CheckResult:
    from assaymark.robustness.scene_check import check_scenes

    model, data = model_and_data(check, context)
    return check_scenes(
        check.id,
        model,
        data,
        tuple((attack.name, attack.options) for attack in check.attack),
        target=check.target,
        training_examples=check.training_examples,
        gates=check.gates,
        tags=check.tags,
        examples=check.examples,
        batch_size=check.batch_size,
        seed=context.seed,
        device=context.device,
        folder=context.folder,
        save=None if check.save is None else context.folder / check.save,
        progress=context.progress,
    )


def _tournament(check: TournamentCheck, context: Context) -> CheckResult:
    from assaymark.robustness.tournament import Rules
    from assaymark.robustness.tournament_check import check_tournament

    data = data_of(check, context)
    return check_tournament(
        check.id,
        [entrant_of(entry, check, data, context) for entry in check.defenses],
        data,
        Rules(
            attacks=tuple((attack.name, attack.options) for attack in check.attack),
            targeted=tuple((attack.name, attack.options) for attack in check.targeted),
            target=check.target,
            norm=check.norm,
            eps=check.eps,
            protocol=check.protocol,
            ensemble=check.ensemble,
            time_limit=check.limit,
        ),
        surrogates=[entrant_of(entry, check, data, context) for entry in check.surrogates],
        gates=check.gates,
        tags=check.tags,
        examples=check.examples,
        batch_size=check.batch_size,
        seed=context.seed,
        device=context.device,
        matrices=context.folder / check.matrices if check.matrices else None,
        progress=context.progress,
    )


def _certificate(check: CertificateCheck, context: Context) -> CheckResult:
    from assaymark.robustness.certify_check import check_certificate
    from assaymark.robustness.proofs import Claim
    from assaymark.robustness.smoothing import Smoothing

    model, data = model_and_data(check, context)
    smoothing = None
    if check.sigma is not None:
        smoothing = Smoothing(
            sigma=check.sigma, samples=check.samples or SAMPLES, alpha=check.alpha or ALPHA
        )
    return check_certificate(
        check.id,
        model,
        data,
        Claim(
            methods=tuple(method for method in check.method if method != "smoothing"),
            smoothing=smoothing,
            norm=check.norm,
            eps=check.eps,
            attacks=tuple((attack.name, attack.options) for attack in check.attack),
        ),
        gates=check.gates,
        tags=check.tags,
        examples=check.examples,
        batch_size=check.batch_size,
        seed=context.seed,
        device=context.device,
        workers=context.workers,
        progress=context.progress,
    )


def _protection(check: ProtectionCheck, context: Context) -> CheckResult:
    from assaymark.robustness import picture_files
    from assaymark.robustness.protection_check import check_protection

    pictures = picture_files.find(check.originals, context.folder)
    return check_protection(
        check.id,
        pictures,
        context.folder / check.protected,
        recognisers(check.models, pictures, check.classes, context),
        recognisers(check.held_out_models, pictures, check.classes, context),
        labels=check.labels,
        classes=check.classes,
        countermeasures=countermeasures(check.countermeasures),
        gates=check.gates,
        tags=check.tags,
        folder=context.folder,
        device=context.device,
        progress=context.progress,
    )


def _provenance(check: ProvenanceCheck, context: Context) -> CheckResult:
    from assaymark.provenance.check import check_provenance
    from assaymark.provenance.checked import Asking, Demands
    from assaymark.provenance.trust import Trust

    anchors = partial(_anchors, context.folder)
    rules = check.rules.asked
    if check.rules.allowed_anchors:
        rules["allowed_anchors"] = anchors(check.rules.allowed_anchors)
    return check_provenance(
        check.id,
        check.files,
        Demands(
            trust=Trust(
                signers=anchors(check.trust_anchors),
                time_stamps=anchors(check.time_stamp_anchors),
                identities=anchors(check.identity_anchors),
            ),
            rules=rules,
            asking=Asking(
                timeout_s=check.responder_timeout_s, private_hosts=check.private_responders
            )
            if check.ask_responders
            else None,
            revocation_lists=tuple(context.folder / name for name in check.revocation_lists),
        ),
        records=context.folder / check.records if check.records else None,
        folder=context.folder,
        gates=check.gates,
        tags=check.tags,
        workers=context.workers if context.workers > 1 else None,
        progress=context.progress,
    )


def _anchors(folder: Path, names: tuple[str, ...]) -> str:
    from assaymark.provenance.keys import load_anchors

    return load_anchors([folder / name for name in names])


def _folder(check: FolderCheck, context: Context) -> CheckResult:
    from assaymark.provenance.detached_check import check_folder

    key = context.folder / check.public_key if check.public_key else None
    return check_folder(
        check.id,
        context.folder / check.folder,
        context.folder / check.signature,
        _anchors(context.folder, check.trust_anchors),
        public_key_pem=key.read_text("utf-8", "replace") if key else None,
        ignore=check.ignore,
        links=check.links,
        allow_added=check.allow_added,
        accept_expired=check.accept_expired,
        workers=context.workers if context.workers > 1 else None,
        gates=check.gates,
        tags=check.tags,
    )


def _attestation(check: AttestationCheck, context: Context) -> CheckResult:
    from assaymark.provenance.detached_check import check_attestation
    from assaymark.reports.store import from_json

    return check_attestation(
        check.id,
        context.folder / check.attestation,
        _anchors(context.folder, check.trust_anchors),
        read=from_json,
        report=context.folder / check.report if check.report else None,
        subjects=tuple(context.folder / name for name in check.subjects),
        gates=check.gates,
        tags=check.tags,
    )


# A policy is matched with its function by class; each function takes its own class.
RUNNERS: dict[type, Callable[[Any, Context], CheckResult]] = {
    RobustnessCheck: _robustness,
    CorruptionCheck: _corruption,
    DefenseCheck: _defense,
    SceneCheck: _scene,
    TournamentCheck: _tournament,
    CertificateCheck: _certificate,
    ProtectionCheck: _protection,
    BiasTableCheck: bias_table,
    BiasImagesCheck: bias_images,
    MitigationCheck: mitigation,
    LmCheck: language_model,
    ProvenanceCheck: _provenance,
    FolderCheck: _folder,
    AttestationCheck: _attestation,
    DetectionCheck: detection,
    DetectorCheck: detector,
}
