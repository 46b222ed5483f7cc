"""The checks of provenance, as a policy writes them: media, and folders that were signed whole."""

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from assaymark.reports.policy_types import Check, Metric, Number, Strict, Text, Texts

METRICS: dict[str, dict[str, Metric]] = {
    "provenance": {
        "trusted_files": Metric(good="high"),
        "intact_files": Metric(good="high"),
        "compliant_files": Metric(good="high"),
    },
    "provenance.folder": {
        "trusted_signature": Metric(good="high"),
        "matching_files": Metric(good="high"),
    },
    "provenance.attestation": {"trusted_signature": Metric(good="high")},
}
Days = Annotated[int, Field(ge=1, le=36500)]


class RuleTable(Strict):
    """What every file must keep besides its signature; a test holds this against the rules there are."""

    must_be_trusted: bool = False
    must_be_intact: bool = False
    allowed_signers: Texts | None = None
    allowed_certificates: Texts | None = None
    allowed_anchors: Texts | None = None
    allowed_algorithms: Texts | None = None
    required_assertions: Texts | None = None
    require_ai_disclosure: bool = False
    allowed_source_types: Texts | None = None
    require_author: bool = False
    require_training_opt_out: bool = False
    require_identity: bool = False
    require_time_stamp: bool = False
    max_age_days: Days | None = None
    max_certificate_age_days: Days | None = None
    require_valid_certificate_now: bool = False
    revocation: Literal["off", "if-stapled", "required"] = "off"
    no_free_bytes: bool = False
    no_lost_history: bool = False
    no_sidecar: bool = False
    no_remote: bool = False
    require_second_opinion: bool = False
    min_claim_version: Annotated[int, Field(ge=1, le=99)] | None = None

    @property
    def asked(self) -> dict[str, object]:
        """The rules that are asked, with their parameters."""
        return {
            name: value
            for name, value in self.model_dump().items()
            if value not in (None, False, "off")
        }


class ProvenanceCheck(Check):
    """Verify the Content Credentials of files."""

    kind: Literal["provenance"]
    files: Annotated[Texts, Field(min_length=1)]
    trust_anchors: Texts = ()
    time_stamp_anchors: Texts = ()
    identity_anchors: Texts = ()
    rules: RuleTable = RuleTable()
    ask_responders: bool = False
    """Ask OCSP responders that certificates name; the only thing here that uses the network."""
    responder_timeout_s: Annotated[Number, Field(gt=0, le=60)] = 2.0
    private_responders: Texts = ()
    revocation_lists: Texts = ()
    """CRLs that the team keeps beside the policy; asked before any responder."""
    records: Text | None = None
    """A file for one line of JSON about every file."""

    @model_validator(mode="after")
    def _what_needs_another(self) -> Self:
        if self.rules.require_identity and not self.identity_anchors:
            raise ValueError("require_identity needs identity_anchors: nobody could be trusted")
        if self.private_responders and not self.ask_responders:
            raise ValueError("private_responders needs ask_responders = true")
        if any(entry.metric == "compliant_files" for entry in self.gate) and not self.rules.asked:
            raise ValueError(
                "compliant_files counts files that keep every rule, and there is none: add "
                "[check.rules]"
            )
        if self.revocation_lists and self.rules.revocation == "off":
            raise ValueError(
                'revocation_lists need revocation = "required" or "if-stapled" in rules'
            )
        return self

    @property
    def named_files(self) -> tuple[tuple[tuple[str | int, ...], str], ...]:
        """The certificates that it reads, beside the media, each with its place in the policy."""
        allowed = _places("allowed_anchors", self.rules.allowed_anchors or ())
        return (
            *_places("trust_anchors", self.trust_anchors),
            *_places("time_stamp_anchors", self.time_stamp_anchors),
            *_places("identity_anchors", self.identity_anchors),
            *((("rules", *place), name) for place, name in allowed),
            *_places("revocation_lists", self.revocation_lists),
        )


class FolderCheck(Check):
    """Hold a folder of weights or data against its detached signature (OpenSSF model signing)."""

    kind: Literal["provenance.folder"]
    folder: Text
    signature: Text
    trust_anchors: Texts = ()
    public_key: Text | None = None
    ignore: Texts = ()
    links: Literal["refuse", "inside", "follow"] = "refuse"
    allow_added: bool = False
    accept_expired: bool = False

    @property
    def touches_files(self) -> bool:
        """It reads a folder, so it is always run anew."""
        return True

    @property
    def named_files(self) -> tuple[tuple[tuple[str | int, ...], str], ...]:
        """The files that it reads beside the folder, each with its place in the policy."""
        key = () if self.public_key is None else ((("public_key",), self.public_key),)
        return (*_places("trust_anchors", self.trust_anchors), *key)


class AttestationCheck(Check):
    """Hold a report and models against an attestation (in-toto, DSSE)."""

    kind: Literal["provenance.attestation"]
    attestation: Text
    report: Text | None = None
    subjects: Texts = ()
    trust_anchors: Texts = ()

    @property
    def touches_files(self) -> bool:
        """It reads files of any name, so it is always run anew."""
        return True

    @property
    def named_files(self) -> tuple[tuple[tuple[str | int, ...], str], ...]:
        """The certificates that it reads, each with its place in the policy."""
        return _places("trust_anchors", self.trust_anchors)


def _places(key: str, names: Texts) -> tuple[tuple[tuple[str | int, ...], str], ...]:
    return tuple(((key, j), name) for j, name in enumerate(names))
