"""The checks of image classifiers, as a policy writes them."""

from collections import Counter
from statistics import NormalDist
from typing import Annotated, Any, Literal, Self

from pydantic import BeforeValidator, ConfigDict, Field, model_validator

from assaymark.reports.policy_types import Check, Number, Range, Strict, Text, Texts, listed

SAMPLES, ALPHA = 1000, 0.001
"""Votes an image and chance of a wrong certificate, where a check by smoothing names none."""


class AttackSpec(Strict):
    """An attack by name, with its own options: { name = "pgd", steps = 100 }."""

    model_config = ConfigDict(extra="allow", frozen=True, strict=True)
    name: Text

    @property
    def options(self) -> dict[str, Any]:
        return dict(self.model_extra or {})


def as_attack(value: object) -> object:
    return {"name": value} if isinstance(value, str) else value


class Normalize(Strict):
    """Per-channel mean and standard deviation, subtracted and divided inside the model."""

    mean: Annotated[tuple[Number, ...], Field(min_length=1, strict=False)]
    std: Annotated[tuple[Annotated[Number, Field(gt=0)], ...], Field(min_length=1, strict=False)]

    @model_validator(mode="after")
    def _same_length(self) -> Self:
        if len(self.mean) != len(self.std):
            raise ValueError(
                f"mean has {len(self.mean)} channels and std {len(self.std)}: give one of each"
            )
        return self


class SurrogateSpec(Strict):
    """A network on which attacks are made in place of the attacked model."""

    model: Text
    arch: Text | None = None
    model_sha256: Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")] | None = None
    normalize: Normalize | None = None
    input_range: Range | None = None

    @model_validator(mode="after")
    def _is_a_network(self) -> Self:
        if self.model.startswith(("http://", "https://")):
            raise ValueError(
                f"{self.model} only answers, and attacks follow a surrogate's gradient: name a network"
            )
        return self


def _surrogate(value: object) -> object:
    return {"model": value} if isinstance(value, str) else value


class EndpointSpec(Strict):
    """How a model at an http(s) address wants to be asked."""

    images: Literal["numbers", "png"] = "numbers"
    layout: Literal["channels-first", "channels-last"] = "channels-first"
    request: Text = "inputs"
    answer: Text | None = None
    time_limit: Annotated[Number, Field(gt=0)] = 60.0
    retries: Annotated[int, Field(ge=0, le=20)] = 4
    token_env: Text | None = None
    proxy: bool = False


Size = Annotated[
    tuple[Annotated[int, Field(ge=1)], Annotated[int, Field(ge=1)]], Field(strict=False)
]
"""Height and width in pixels."""


class ModelKeys(Strict):
    """What says how a model is opened, or how it is asked."""

    arch: Text | None = None
    access: Literal["white-box", "scores", "labels"] | None = None
    num_classes: Annotated[int, Field(ge=2)] | None = None
    queries: Annotated[int, Field(ge=1)] | None = None
    max_queries: Annotated[int, Field(ge=1)] | None = None
    endpoint: EndpointSpec | None = None
    model_sha256: Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")] | None = None
    normalize: Normalize | None = None
    input_range: Range | None = None
    model: Text

    @model_validator(mode="after")
    def _endpoint_of_an_address(self) -> Self:
        if self.endpoint is not None and not self.model.startswith(("http://", "https://")):
            raise ValueError(
                f'endpoint says how to ask an http(s) address, and the model is "{self.model}"'
            )
        return self


class DataCheck(Check):
    """Labelled images that image classifiers are tried on."""

    data: Text
    examples: Annotated[int, Field(ge=1)] | None = None
    batch_size: Annotated[int, Field(ge=1)] = 250
    classes: Annotated[tuple[Text, ...], Field(min_length=2, strict=False)] | None = None
    data_range: Range | None = None
    labels: Text | None = None
    image_column: Text | None = None
    label_column: Text | None = None
    split: Text | None = None
    image_size: Size | None = None

    @model_validator(mode="after")
    def _classes_once(self) -> Self:
        twice = [name for name, times in Counter(self.classes or ()).items() if times > 1]
        if twice:
            raise ValueError(f"classes names {twice[0]!r} twice: each output has its own name")
        return self


class ModelCheck(DataCheck, ModelKeys):
    """An image classifier with the images it is tried on."""

    @model_validator(mode="after")
    def _classes_counted(self) -> Self:
        if None not in (self.classes, self.num_classes) and len(self.classes or ()) != (
            self.num_classes
        ):
            raise ValueError(
                f"classes names {len(self.classes or ())} classes and num_classes says "
                f"{self.num_classes}: give one of the two"
            )
        return self


Attacks = Annotated[
    tuple[Annotated[AttackSpec, BeforeValidator(as_attack)], ...],
    BeforeValidator(listed, json_schema_input_type=Text | AttackSpec | list[Text | AttackSpec]),
    Field(min_length=1, strict=False),
]
"""A name, a table with options, or a list of them."""


class RobustnessCheck(ModelCheck):
    """Attack an image classifier."""

    kind: Literal["robustness"]
    attack: Attacks
    surrogates: Annotated[
        tuple[Annotated[SurrogateSpec, BeforeValidator(_surrogate)], ...],
        BeforeValidator(
            listed, json_schema_input_type=Text | SurrogateSpec | list[Text | SurrogateSpec]
        ),
        Field(min_length=1, strict=False),
    ] = ()
    norm: Literal["linf", "l2", "l1", "l0"]
    eps: Annotated[Number, Field(gt=0)]
    target: Text | None = None
    sequential: bool = False
    precision: Literal["float32", "bfloat16"] = "float32"
    save: Text | None = None

    @model_validator(mode="after")
    def _decidable(self) -> Self:
        if self.sequential:
            if not self.gate:
                raise ValueError(
                    "sequential = true stops when the gates are decided, and there is no gate"
                )
            loose = [entry.metric for entry in self.gate if entry.on == "estimate"]
            if loose:
                side = "lower" if self.gate[0].max is None else "upper"
                raise ValueError(
                    f'sequential = true needs a bound: write on = "{side}" in the gate of {loose[0]}'
                )
            if self.baseline is not None:
                raise ValueError(
                    "sequential = true measures few images, baseline compares all: use one of them"
                )
        return self

    @model_validator(mode="after")
    def _linf_unit(self) -> Self:
        check_unit(self.norm, self.eps)
        if self.norm == "l0" and self.eps != int(self.eps):
            raise ValueError(
                f"eps = {self.eps:g} counts channel values in l0: write a whole number from 1"
            )
        return self


class CertificateCheck(ModelCheck):
    """Prove that an image classifier keeps its answers inside a ball."""

    kind: Literal["certificate"]
    method: Annotated[
        tuple[Literal["ibp", "crown-ibp", "crown", "alpha-crown", "smoothing"], ...],
        BeforeValidator(listed, json_schema_input_type=Text | list[Text]),
        Field(min_length=1, strict=False),
    ]
    norm: Literal["linf", "l2", "l1"]
    eps: Annotated[Number, Field(gt=0)]
    sigma: Annotated[Number, Field(gt=0)] | None = None
    samples: Annotated[int, Field(ge=1)] | None = None
    alpha: Annotated[Number, Field(gt=0, lt=0.5)] | None = None
    attack: Annotated[
        tuple[Annotated[AttackSpec, BeforeValidator(as_attack)], ...],
        BeforeValidator(listed, json_schema_input_type=Text | AttackSpec | list[Text | AttackSpec]),
        Field(strict=False),
    ] = ()

    @model_validator(mode="after")
    def _linf_unit(self) -> Self:
        check_unit(self.norm, self.eps)
        return self

    @model_validator(mode="after")
    def _smoothing(self) -> Self:
        if "smoothing" not in self.method:
            for key in ("sigma", "samples", "alpha"):
                if getattr(self, key) is not None:
                    raise ValueError(f'{key} is a key of method = "smoothing"')
            return self
        if len(self.method) > 1:
            raise ValueError(
                "smoothing certifies the smoothed classifier, which is another model: give it a check "
                "of its own"
            )
        if self.norm != "l2" or self.sigma is None:
            raise ValueError(
                'method = "smoothing" needs norm = "l2" and sigma, the noise in pixels'
            )
        # when all votes agree, their share is above alpha^(1 / samples)
        share = (self.alpha or ALPHA) ** (1 / (self.samples or SAMPLES))
        largest = self.sigma * NormalDist().inv_cdf(share) if share > 0.5 else 0.0
        if self.eps > largest:
            raise ValueError(
                f"eps = {self.eps:g} is beyond {largest:.3g}, the largest radius that so many samples "
                "can certify with this sigma: raise samples or sigma"
            )
        return self


class CorruptionCheck(ModelCheck):
    """Try an image classifier on images as cameras, weather and processing leave them."""

    kind: Literal["corruption"]
    corruptions: Annotated[Texts, Field(min_length=1)] = ("main",)
    severities: Annotated[
        tuple[Annotated[int, Field(ge=1, le=5)], ...],
        BeforeValidator(listed, json_schema_input_type=int | list[int]),
        Field(min_length=1, strict=False),
    ] = (1, 2, 3, 4, 5)
    reference: Text | None = None
    reference_arch: Text | None = None

    @model_validator(mode="after")
    def _once(self) -> Self:
        for key, values in (("corruptions", self.corruptions), ("severities", self.severities)):
            twice = [value for value, times in Counter(values).items() if times > 1]
            if twice:
                raise ValueError(f"{key} names {twice[0]!r} twice")
        return self

    @model_validator(mode="after")
    def _reference_for_ratios(self) -> Self:
        for gate in self.gate:
            if gate.metric.endswith("mean_corruption_error") and self.reference is None:
                raise ValueError(
                    f"{gate.metric} compares with a reference model: name one with reference = …, or "
                    "gate corruption_accuracy"
                )
        if self.reference_arch is not None and self.reference is None:
            raise ValueError("reference_arch makes the network of reference, which is not named")
        return self


class DefenseCheck(ModelCheck):
    """One model before (`model`) and after (`defended`) it was defended."""

    kind: Literal["defense"]
    defended: Text
    defended_sha256: Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")] | None = None
    held_out: Annotated[Number, Field(gt=0, lt=1)] | None = None
    attack: Attacks
    norm: Literal["linf", "l2"]
    eps: Annotated[Number, Field(gt=0)]

    @model_validator(mode="after")
    def _linf_unit(self) -> Self:
        check_unit(self.norm, self.eps)
        return self


class SceneCheck(ModelCheck):
    """Rotations, colours, patches and universal perturbations, with limits of their own."""

    kind: Literal["scene"]
    attack: Attacks
    target: Text | None = None
    training_examples: Annotated[int, Field(ge=1)] | None = None
    save: Text | None = None

    @property
    def touches_files(self) -> bool:
        """Whether it reads or writes files beside model and data."""
        return self.save is not None or any("palette" in attack.options for attack in self.attack)


def check_unit(norm: str, eps: float) -> None:
    if norm == "linf" and eps > 1:
        raise ValueError(
            f"eps = {eps:g} is larger than the whole pixel range [0, 1]: "
            f'write eps = "{eps:g}/255" for 8-bit units'
        )
