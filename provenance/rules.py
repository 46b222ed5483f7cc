"""The rules of a verification policy: each holds, is broken, or cannot be decided - never held then.

`RULES` is the table that a policy file and the command line are made from. A rule asks a `Case`,
which looks further (certificates, free bytes, revocation, the second engine) only when asked to.
"""

import datetime as dt
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

from cryptography.hazmat.primitives import hashes

from assaymark.provenance import chains, facts
from assaymark.provenance.case import Case, Undecided
from assaymark.provenance.judgement import PURPOSES
from assaymark.provenance.keys import ALGORITHMS
from assaymark.provenance.revocation import Status
from assaymark.provenance.verification import State
from assaymark.reports.errors import InputError, nearest

_TRAINING = ("ai_training", "ai_generative_training")
REVOCATION = ("off", "if-stapled", "required")


@dataclass(frozen=True, kw_only=True)
class Broken:
    """A rule that a file does not keep. undecided: what it asks about is not known."""

    rule: str
    why: str
    expected: str
    seen: str
    next_step: str
    undecided: bool = False

    def __str__(self) -> str:
        head = "cannot be decided" if self.undecided else "is broken"
        return (
            f"{self.rule} {head}: {self.why}; expected {self.expected}, "
            f"saw {self.seen}: {self.next_step}"
        )


Verdict = tuple[str, str, str, str] | None  # why, expected, seen, next step
Kind = Literal["flag", "texts", "days", "number", "choice", "files"]


@dataclass(frozen=True, kw_only=True)
class Rule:
    """One rule. name: lower-kebab on the command line, lower_snake in a policy.

    kind: what the parameter is. "flag": True, or the rule is not asked. "texts": one or more.
    "days": at least 1. "files": PEM files, whose text the judge gets. choices: what a text may be.
    from_any_file: also asked of files whose credentials do not hold.
    """

    name: str
    kind: Kind
    help: str
    judge: Callable[[Case, Any], Verdict]
    choices: tuple[str, ...] = ()
    from_any_file: bool = False

    @property
    def key(self) -> str:
        return self.name.replace("-", "_")

    def check(self, parameter: Any) -> None:
        """Raises InputError for a parameter that is not of the rule's kind."""
        wrong = _KINDS[self.kind](parameter)
        if wrong:
            raise InputError(f"{self.name} is {parameter!r}: expected {wrong}")
        texts = parameter if self.kind == "texts" else (parameter,) if self.choices else ()
        for text in texts if self.choices else ():
            if text not in self.choices:
                raise InputError(f'{self.name} knows no "{text}"{nearest(text, self.choices)}')


_KINDS: dict[str, Callable[[Any], str]] = {
    "flag": lambda value: "" if isinstance(value, bool) else "true or false",
    "texts": lambda value: (
        ""
        if isinstance(value, tuple) and value and all(isinstance(x, str) and x for x in value)
        else "one or more texts"
    ),
    "days": lambda value: "" if _whole(value) and 1 <= value <= 36500 else "days from 1 to 36500",
    "number": lambda value: "" if _whole(value) and value >= 1 else "a whole number from 1",
    "choice": lambda value: "" if isinstance(value, str) else "one of its choices",
    "files": lambda value: (
        "" if isinstance(value, str) and "-----BEGIN CERTIFICATE" in value else "PEM certificates"
    ),
}


def _whole(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def judge(case: Case, policy: Mapping[str, Any]) -> tuple[Broken, ...]:
    """The rules of a policy that a file does not keep, in the order of the table.

    policy: parameters by a rule's key; False and "off" leave a rule out. Raises InputError for a
    rule that there is none of, or a parameter of the wrong kind.
    """
    for key, parameter in policy.items():
        if key not in RULES:
            raise InputError(f'there is no rule "{key}"{nearest(key, RULES)}')
        RULES[key].check(parameter)
    asked = [
        (rule, policy[key])
        for key, rule in RULES.items()
        if key in policy and policy[key] not in (False, "off")
    ]
    return tuple(found for rule, value in asked if (found := _judge(rule, case, value)) is not None)


def _judge(rule: Rule, case: Case, parameter: Any) -> Broken | None:
    found = case.found
    if not rule.from_any_file and found.state not in (State.TRUSTED, State.UNTRUSTED):
        return Broken(
            rule=rule.name,
            why="nothing that the file says can be believed",
            expected="Content Credentials that hold",
            seen=f"{found.state} ({found.explanation})",
            next_step="get the file from its source again, or sign it",
            undecided=True,
        )
    try:
        verdict = rule.judge(case, parameter)
    except Undecided as error:
        return Broken(
            rule=rule.name,
            why="what it asks about is not known",
            expected=rule.help,
            seen=str(error),
            next_step=error.next_step,
            undecided=True,
        )
    if verdict is None:
        return None
    why, expected, seen, next_step = verdict
    return Broken(rule=rule.name, why=why, expected=expected, seen=seen, next_step=next_step)


def _trusted(case: Case, _: bool) -> Verdict:
    if case.found.state is State.TRUSTED:
        return None
    return (
        "no trust anchor vouches for the file as it is",
        "trusted",
        f"{case.found.state} ({case.found.explanation})",
        "add the signer's root to the anchors if you trust it, or sign the file",
    )


def _intact(case: Case, _: bool) -> Verdict:
    if case.found.state in (State.TRUSTED, State.UNTRUSTED):
        return None
    return (
        "nothing shows that the file is unchanged",
        "trusted or valid-but-untrusted",
        f"{case.found.state} ({case.found.explanation})",
        "get the file from its source again",
    )


def _signers(case: Case, allowed: tuple[str, ...]) -> Verdict:
    if case.found.state is not State.TRUSTED:
        return (
            "anybody can write a name into a certificate of their own",
            "a trusted signer",
            f'"{case.found.signer}", whom no anchor vouches for',
            "add the signer's root to the anchors if you trust it",
        )
    if case.found.signer in allowed:
        return None
    return (
        "the signer is not among those allowed",
        _or(allowed),
        f'"{case.found.signer}"',
        "have the file signed by one of them, or add the name",
    )


def _certificates(case: Case, allowed: tuple[str, ...]) -> Verdict:
    wanted = {text.replace(":", "").replace(" ", "").lower() for text in allowed}
    seen = [item.fingerprint(hashes.SHA256()).hex() for item in case.chain]
    if wanted & set(seen[:1]) or (case.found.state is State.TRUSTED and wanted & set(seen)):
        return None
    return (
        "neither the signing certificate nor, of a trusted signer, one above it is allowed",
        f"a SHA-256 fingerprint among {_or(allowed)}",
        seen[0],
        "have the file signed with one of them, or add the fingerprint",
    )


def _anchors(case: Case, pem: str) -> Verdict:
    at = case.found.signed_at or case.now
    ending = chains.chain_ends_in(case.chain_pem, pem, at, PURPOSES)
    if ending:
        return None
    return (
        "the signer's chain does not end in an anchor that this policy allows",
        "a chain that ends in one of them",
        ending.reason,
        "have the file signed under one of them, or add the anchor",
    )


def _algorithms(case: Case, allowed: tuple[str, ...]) -> Verdict:
    if case.found.algorithm in allowed:
        return None
    return (
        "the signature is made with another algorithm",
        _or(allowed),
        case.found.algorithm or "none",
        "have the file signed with one of them",
    )


def _assertions(case: Case, labels: tuple[str, ...]) -> Verdict:
    seen = set(case.found.assertions)
    seen |= {facts.base(label) for label in seen}
    missing = [label for label in labels if label not in seen]
    if not missing:
        return None
    return (
        "the manifest does not say all that it must",
        ", ".join(missing),
        ", ".join(case.found.assertions) or "no assertions",
        "sign the file with what is missing",
    )


def _source_types(case: Case, allowed: tuple[str, ...]) -> Verdict:
    seen = case.source_types
    if seen and set(seen) <= set(allowed):
        return None
    return (
        "the work is of another origin" if seen else "nothing says how the work was made",
        f"a digital source type among {_or(allowed)}",
        ", ".join(seen) or "none",
        "say how the work was made when it is signed",
    )


def _disclosure(case: Case, _: bool) -> Verdict:
    if case.source_types:
        return None
    return (
        "nothing says whether the work was captured, made or edited with AI",
        "an action with a digital source type",
        ", ".join(case.found.actions) or "no actions",
        "say how the work was made when it is signed",
    )


def _author(case: Case, _: bool) -> Verdict:
    if case.found.authors:
        return None
    return (
        "no author is named",
        "dc:creator in cawg.metadata, or an author",
        ", ".join(case.found.assertions) or "no assertions",
        "name the author when the file is signed",
    )


def _opt_out(case: Case, _: bool) -> Verdict:
    uses = {name.partition(".")[2]: use for name, use in case.found.training.items()}
    open_ = [name for name in _TRAINING if uses.get(name) != "notAllowed"]
    if not open_:
        return None
    return (
        "training on the work is not ruled out",
        f"notAllowed for {' and '.join(_TRAINING)}",
        ", ".join(f"{name}: {use}" for name, use in case.found.training.items()) or "nothing said",
        "sign the file with an opt-out of training",
    )


def _identity(case: Case, _: bool) -> Verdict:
    if case.found.identity == "trusted":
        return None
    return (
        "no trusted identity stands beside the signer",
        "a CAWG identity whose chain ends in an anchor of identities",
        case.found.identity or "none",
        "have the author sign an identity assertion, or add its anchor",
    )


def _time_stamp(case: Case, _: bool) -> Verdict:
    if case.found.signed_at is not None:
        return None
    stamp = case.found.time_stamp
    return (
        "nobody trusted vouches for the time of signing",
        "an RFC 3161 time stamp by a trusted authority",
        "a stamp of an authority that no anchor vouches for" if stamp else "no time stamp",
        "add the authority's root to the anchors of time stamps" if stamp else "sign with one",
    )


def _age(case: Case, days: int) -> Verdict:
    if case.found.signed_at is None:
        raise Undecided("no trusted time of signing", "sign with a trusted time stamp")
    return _not_older(case.now - case.found.signed_at, days, "the signature", "sign it again")


def _certificate_age(case: Case, days: int) -> Verdict:
    age = case.now - case.chain[0].not_valid_before_utc
    return _not_older(age, days, "the signing certificate", "sign with a newer one")


def _not_older(age: dt.timedelta, days: int, what: str, next_step: str) -> Verdict:
    if age <= dt.timedelta(days=days):
        return None
    return (f"{what} is too old", f"at most {days} days", f"{age.days} days", next_step)


def _valid_now(case: Case, _: bool) -> Verdict:
    leaf = case.chain[0]
    start, end = leaf.not_valid_before_utc, leaf.not_valid_after_utc
    if start <= case.now <= end:
        return None
    return (
        "the signing certificate is not valid today",
        f"{case.now:%Y-%m-%d} within its validity",
        f"{start:%Y-%m-%d} to {end:%Y-%m-%d}",
        "have the file signed again",
    )


def _revocation(case: Case, how: str) -> Verdict:
    if case.found.revocation == "revoked":
        return _revoked("the signer's own OCSP reply says so")
    known = case.revocation
    bad = [item for item in known.certificates if item.status is Status.REVOKED]
    if bad:
        return _revoked(f"{bad[0].subject}: {bad[0].explanation}")
    # a list that the team keeps is asked like a reply sent along: one out of date decides nothing
    asked = how == "required" or case.stapled or case.revocation_lists
    if known.leaf.status is Status.GOOD or not asked:
        return None
    raise Undecided(
        f"{known.leaf.status}: {known.leaf.explanation or known.leaf.subject}",
        "ask a responder (it needs the network), or have a reply sent along by the signer",
    )


def _revoked(seen: str) -> Verdict:
    return (
        "a certificate of the signer was revoked",
        "certificates that are not revoked",
        seen,
        "do not use the file; ask its source for one signed with another key",
    )


def _free_bytes(case: Case, _: bool) -> Verdict:
    free = case.free
    if free.unexplained:
        first = free.unexplained[0]
        return (
            "bytes that no signature covers hold something",
            "padding of zeros and nothing else",
            f"{sum(item.end - item.start for item in free.unexplained)} bytes, the first of them "
            f"{first.what} at {first.place} byte {first.start}",
            "look at them with inspect, and sign a clean copy",
        )
    if free.unknown:
        raise Undecided("; ".join(free.unknown), "use a format whose free bytes can be found")
    return None


def _history(case: Case, _: bool) -> Verdict:
    lost = lost_history(case.found.document)
    if not lost:
        return None
    return (
        "part of the work's history is gone",
        "every work it was made from, unbroken",
        "; ".join(lost),
        "sign it again from its source, with the source as parent",
    )


def lost_history(document: facts.Document) -> list[str]:
    """What is missing or broken in the history that a file's manifests tell."""
    found = []
    for label in facts.history(document):
        of = facts.manifest(document, label)
        ingredients = list(facts.items(of.get("ingredients")))
        told = [str(action.get("action", "")) for action in facts.actions(of)]
        name = str(of.get("title") or label)
        parents = [item for item in ingredients if item.get("relationship") == "parentOf"]
        if "c2pa.created" not in told and not parents:
            what = ", ".join(told) or "no action"
            found.append(f"{name} says {what}, but not from what")
        for item in ingredients:
            title = str(item.get("title") or "untitled")
            below = str(item.get("active_manifest") or "")
            if below and not facts.manifest(document, below):
                found.append(f"the manifest of {title} is missing")
            broken = facts.ingredient_failures(item)
            if broken:
                found.append(f"{title} does not hold ({', '.join(broken)})")
    return found


def _no_sidecar(case: Case, _: bool) -> Verdict:
    return _place(case, "sidecar", "embed the credentials in the file")


def _no_remote(case: Case, _: bool) -> Verdict:
    return _place(case, "remote", "embed the credentials in the file")


def _place(case: Case, where: str, next_step: str) -> Verdict:
    if case.found.where == where or (where == "remote" and case.found.remote):
        seen = case.found.remote or f"a {where} manifest"
        return (f"the credentials are {where}", "embedded in the file", seen, next_step)
    if not case.found.readable:
        raise Undecided(f"{case.found.state} ({case.found.explanation})", "sign the file")
    return None


def _second(case: Case, _: bool) -> Verdict:
    opinion = case.second
    if opinion.agrees:
        return None
    if opinion.agrees is None:
        raise Undecided(opinion.why, "install the second engine, or take the rule out")
    return (
        "two engines judge the file differently",
        "the same verdict of both",
        opinion.why,
        "look at both verdicts; use the file only when the difference is understood",
    )


def _claim_version(case: Case, least: int) -> Verdict:
    version = case.found.claim_version
    if version is None:
        raise Undecided("a manifest without a version", "sign the file again")
    if version >= least:
        return None
    return (
        "the claim is of an old version of C2PA",
        f"version {least} or later",
        str(version),
        "have the file signed with current software",
    )


def _or(texts: tuple[str, ...]) -> str:
    return " or ".join(f'"{text}"' for text in texts)


_TABLE = (
    Rule(name="must-be-trusted", kind="flag", judge=_trusted, from_any_file=True,
         help="the signer's chain ends in a trust anchor, and the file is unchanged"),
    Rule(name="must-be-intact", kind="flag", judge=_intact, from_any_file=True,
         help="the file carries credentials of anybody and is unchanged since"),
    Rule(name="allowed-signers", kind="texts", judge=_signers,
         help="the organization in a trusted signer's certificate is one of these"),
    Rule(name="allowed-certificates", kind="texts", judge=_certificates,
         help="the SHA-256 fingerprint of the signer's certificate, or of one above it, is one of these"),
    Rule(name="allowed-anchors", kind="files", judge=_anchors,
         help="the signer's chain ends in one of these certificates"),
    Rule(name="allowed-algorithms", kind="texts", judge=_algorithms, choices=ALGORITHMS,
         help="the signature is made with one of these algorithms"),
    Rule(name="required-assertions", kind="texts", judge=_assertions,
         help="the manifest holds assertions with all of these labels"),
    Rule(name="require-ai-disclosure", kind="flag", judge=_disclosure,
         help="the manifest, or that of a parent, says by a digital source type how the work was made"),
    Rule(name="allowed-source-types", kind="texts", judge=_source_types,
         help="every digital source type of the work is one of these"),
    Rule(name="require-author", kind="flag", judge=_author, help="the manifest names an author"),
    Rule(name="require-training-opt-out", kind="flag", judge=_opt_out,
         help="the manifest rules out training and generative training on the work"),
    Rule(name="require-identity", kind="flag", judge=_identity,
         help="a CAWG identity ends in an anchor of identities"),
    Rule(name="require-time-stamp", kind="flag", judge=_time_stamp,
         help="a trusted authority vouches for the time of signing"),
    Rule(name="max-age-days", kind="days", judge=_age,
         help="the trusted time of signing is at most so many days ago"),
    Rule(name="max-certificate-age-days", kind="days", judge=_certificate_age,
         help="the signing certificate was issued at most so many days ago"),
    Rule(name="require-valid-certificate-now", kind="flag", judge=_valid_now,
         help="the signing certificate is valid today, whatever a time stamp says"),
    Rule(name="revocation", kind="choice", judge=_revocation, choices=REVOCATION,
         help="no certificate of the signer was revoked: by a reply sent along, or by asking"),
    Rule(name="no-free-bytes", kind="flag", judge=_free_bytes,
         help="no bytes outside the signature hold anything but zeros"),
    Rule(name="no-lost-history", kind="flag", judge=_history,
         help="every work that the file was made from is named, there and unbroken"),
    Rule(name="no-sidecar", kind="flag", judge=_no_sidecar, from_any_file=True,
         help="the credentials are not in a file beside it"),
    Rule(name="no-remote", kind="flag", judge=_no_remote, from_any_file=True,
         help="the credentials are not on a server"),
    Rule(name="require-second-opinion", kind="flag", judge=_second, from_any_file=True,
         help="a second engine comes to the same verdict"),
    Rule(name="min-claim-version", kind="number", judge=_claim_version,
         help="the claim is of this version of C2PA's claim or a later one"),
)  # fmt: skip
RULES: dict[str, Rule] = {rule.key: rule for rule in _TABLE}
