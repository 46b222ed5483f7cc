"""The bias checks, as a policy writes them."""

import contextlib
import math
from collections.abc import Iterable
from typing import Annotated, Any, Literal, Self

from pydantic import AfterValidator, BeforeValidator, Field, model_validator

from assaymark.reports.bias_metrics import (
    BINARY,
    MULTICLASS,
    NEEDS,
    RANKING,
    REGRESSION,
    TASKS,
    WHOLE,
)
from assaymark.reports.policy_robustness import ModelCheck
from assaymark.reports.policy_types import (
    Check,
    Number,
    Strict,
    Text,
    Texts,
    listed,
    number,
    scalar,
)

_Scalar = Annotated[
    str | int | float | bool,
    BeforeValidator(scalar, json_schema_input_type=str | int | float | bool),
]
_MOST_BANDS = 50


def _bands(value: object) -> object:
    """How many bands, or their edges; said in one sentence, whichever was meant."""
    if isinstance(value, int) and not isinstance(value, bool) and 2 <= value <= _MOST_BANDS:
        return value
    edges = value if isinstance(value, list | tuple) else ()
    with contextlib.suppress(ValueError):
        found = tuple(number(edge) for edge in edges)
        if 0 < len(found) < _MOST_BANDS and all(map(math.isfinite, found)):
            return found
    raise ValueError(
        f"bands are {str(value)[:60]}: expected 1 to {_MOST_BANDS - 1} edges such as [30, 45, 60], or how "
        f"many bands, 2 to {_MOST_BANDS}"
    )


_Bands = Annotated[
    int | tuple[float, ...],
    BeforeValidator(_bands, json_schema_input_type=int | list[float | str]),
]


def _different(columns: tuple[str, ...]) -> tuple[str, ...]:
    twice = [column for column in columns if columns.count(column) > 1]
    if twice:
        raise ValueError(f'"{twice[0]}" is named twice: name each column once')
    return columns


_Sensitive = Annotated[Texts, Field(min_length=1), AfterValidator(_different)]


class SliceSearch(Strict):
    """Where the worst-served slices are looked for."""

    columns: Annotated[Texts, Field(min_length=1)]
    loss: Literal["error", "false_negative", "false_positive"] = "error"
    depth: Annotated[int, Field(ge=1, le=3)] = 2
    min_size: Annotated[int, Field(ge=2)] = 50


class ImpactRatioKeys(Strict):
    """The columns of New York City's impact ratios (6 RCNY 5-301)."""

    sex: Text
    race: Text
    scoring: bool = False
    unknown: Texts = ()
    exclude_below: Annotated[Number, Field(ge=0, le=0.02)] = 0.0


class AcceptedRun(Strict):
    """The decisions of the last accepted run on the same rows."""

    prediction: Text
    data: Text | None = None
    id: Text | None = None


class _TableKeys(Check):
    """What says how a table is read."""

    data: Text
    label: Text
    prediction: Text | None = None
    score: Text | None = None
    threshold: Number = 0.5
    sensitive: _Sensitive
    positive: _Scalar = 1
    weight: Text | None = None
    bands: dict[Text, _Bands] = Field(default_factory=dict)
    min_group_size: Annotated[int, Field(ge=1)] = 1

    @model_validator(mode="after")
    def _bands_of_columns(self) -> Self:
        _among("bands", self.bands, [*self.sensitive, *self._more_columns()])
        for column, bands in self.bands.items():
            if isinstance(bands, tuple) and list(bands) != sorted(set(bands)):
                raise ValueError(
                    f"bands of {column} are {list(bands)}: write the edges in rising order"
                )
        return self

    @model_validator(mode="after")
    def _outcome_is_no_feature(self) -> Self:
        if self.label in getattr(self, "features", ()):
            raise ValueError(
                f'features names the label "{self.label}": a model that is given the outcome is not tested '
                "by it; leave it out"
            )
        return self

    def _more_columns(self) -> Iterable[str]:
        return ()


class BiasTableCheck(_TableKeys):
    """Group metrics over a table of predictions."""

    kind: Literal["bias.table"]
    task: Literal["binary", "multiclass", "regression", "ranking"] = "binary"
    query: Text | None = None
    cutoff: Annotated[int, Field(ge=1)] | None = None
    intersections: bool = False
    reference_groups: dict[Text, Text] = Field(default_factory=dict)
    missing: Literal["group", "apart"] = "group"
    model: Text | None = None
    model_sha256: Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")] | None = None
    features: Texts = ()
    neighbors: Annotated[int, Field(ge=1)] | None = None
    counterfactual: Texts = ()
    slices: SliceSearch | None = None
    impact_ratios: ImpactRatioKeys | None = None
    accepted: AcceptedRun | None = None
    rates: Text | None = None

    def _more_columns(self) -> Iterable[str]:
        return self.slices.columns if self.slices else ()

    @model_validator(mode="after")
    def _something_to_audit(self) -> Self:
        if self.intersections and len(self.sensitive) < 2:
            raise ValueError(
                f"intersections cross several sensitive columns, and there is only "
                f"{self.sensitive[0]}: name two, or leave it out"
            )
        _one_source(self)
        _among("reference_groups", self.reference_groups, self.sensitive)
        only_binary = (
            "slices",
            "impact_ratios",
            "accepted",
            "neighbors",
            "counterfactual",
            "reference_groups",
        )
        given = [key for key in only_binary if getattr(self, key)]
        if self.task != "binary" and given:
            raise ValueError(f'{given[0]} belongs to task = "binary", this is task = "{self.task}"')
        if (self.query or self.cutoff) and self.task != "ranking":
            key = "query" if self.query else "cutoff"
            raise ValueError(f'{key} belongs to task = "ranking", this is task = "{self.task}"')
        _one_task(self)
        if self.counterfactual and self.model is None:
            raise ValueError("counterfactual asks the model again: name the model")
        unlisted = (
            [
                column
                for column in (self.impact_ratios.sex, self.impact_ratios.race)
                if column not in self.sensitive
            ]
            if self.impact_ratios
            else []
        )
        if unlisted:
            raise ValueError(f'impact_ratios names "{unlisted[0]}": add it to sensitive')
        if self.neighbors and not self.features:
            raise ValueError("neighbors are found by features: name their columns in features")
        return self

    @model_validator(mode="after")
    def _gates_are_measured(self) -> Self:
        _attributes(self, ["intersections"] if self.intersections else [])
        for gate in self.gate:
            known = TASKS[self.task]
            if (
                gate.metric in BINARY | MULTICLASS | REGRESSION | RANKING
                and gate.metric not in known
            ):
                raise ValueError(
                    f'{gate.metric} is not measured for task = "{self.task}"; known are '
                    f"{', '.join(known)}"
                )
            if gate.attribute is not None and gate.metric in WHOLE:
                raise ValueError(
                    f"{gate.metric} is one number of the whole table: leave out gate.attribute"
                )
            _measured_of(gate.metric, gate.attribute, self)
            for key, metrics in NEEDS.items():
                given = getattr(self, key) or (key == "score" and self.model)
                if gate.metric in metrics and not given:
                    raise ValueError(
                        f"{gate.metric} is measured where {key} is given: add {key} = …"
                    )
        return self


class BiasImagesCheck(ModelCheck):
    """Group metrics of an image classifier, by the columns of its table of images."""

    kind: Literal["bias.images"]
    metadata: Text | None = None
    sensitive: _Sensitive
    positive: Text | None = None
    bands: dict[Text, _Bands] = Field(default_factory=dict)
    weight: Text | None = None
    intersections: bool = False
    reference_groups: dict[Text, Text] = Field(default_factory=dict)
    missing: Literal["group", "apart"] = "group"
    min_group_size: Annotated[int, Field(ge=1)] = 1
    slices: SliceSearch | None = None
    rates: Text | None = None

    @model_validator(mode="after")
    def _gates_are_measured(self) -> Self:
        _attributes(self, ["intersections"] if self.intersections else [])
        _among("reference_groups", self.reference_groups, self.sensitive)
        _among(
            "bands", self.bands, [*self.sensitive, *(self.slices.columns if self.slices else ())]
        )
        known = BINARY if self.positive else MULTICLASS
        binary = {
            "slices": self.slices,
            "reference_groups": self.reference_groups,
            "missing": self.missing == "apart",
            "rates": self.rates,
        }
        given = [key for key, value in binary.items() if value]
        if self.positive is None and given:
            raise ValueError(f"{given[0]} is for two classes: name the positive one")
        for gate in self.gate:
            if gate.metric in BINARY | MULTICLASS and gate.metric not in known:
                raise ValueError(
                    f"{gate.metric} compares one class with the others: name it as positive"
                )
            for key, metrics in NEEDS.items():
                if gate.metric in metrics and key not in ("score", "slices"):
                    raise ValueError(
                        f"{gate.metric} is not measured of images: audit a table of their answers with "
                        'kind = "bias.table"'
                    )
            if gate.metric in NEEDS["slices"] and self.slices is None:
                raise ValueError(f"{gate.metric} is measured where slices is given: add slices = …")
            if gate.attribute is not None and gate.metric in WHOLE:
                raise ValueError(
                    f"{gate.metric} is one number of the whole table: leave out gate.attribute"
                )
        return self

    @model_validator(mode="after")
    def _has_columns(self) -> Self:
        if self.metadata is None and not self.data.lower().endswith((".csv", ".parquet")):
            raise ValueError(
                f'"{self.data}" is no table, so nothing says who is shown: name a table with a row for each '
                "image as metadata"
            )
        return self


class MitigationCheck(_TableKeys):
    """What mitigations would do to accuracy and gaps."""

    kind: Literal["bias.mitigation"]
    methods: Annotated[
        tuple[Text, ...],
        BeforeValidator(listed, json_schema_input_type=Text | list[Text]),
        Field(strict=False),
    ] = ()
    constraint: Literal["demographic_parity", "equalized_odds", "equal_opportunity"] = (
        "demographic_parity"
    )
    features: Texts = ()
    keys: Texts = ()
    apply: Annotated[str, Field(pattern=r"\.mitigated\.json$")] | None = None

    @model_validator(mode="after")
    def _one_attribute(self) -> Self:
        if len(self.sensitive) != 1:
            raise ValueError(
                f"mitigations are for one sensitive column, got {list(self.sensitive)}: name one, or "
                "make a column of the combinations"
            )
        _attributes(self, [])
        if self.gate and self.apply is None:
            raise ValueError(
                "a what-if of several methods has nothing to hold to a limit: gate the one that apply "
                "writes"
            )
        if self.apply is not None and len(self.methods) != 1:
            raise ValueError(
                f"apply writes what one method made, and {len(self.methods)} are named: name one in "
                "methods"
            )
        if self.score is None and self.prediction is None and not self.features:
            raise ValueError(
                "name the column of scores (threshold-optimizer), or the features that a model is "
                "fitted to (reweighing, resampling, exponentiated-gradient, adversarial)"
            )
        return self


def _one_source(check: BiasTableCheck) -> None:
    """Where the answers come from: columns of the table, or a model."""
    if check.model is not None and (check.prediction or check.score):
        raise ValueError("the model answers, so leave out prediction and score, or leave out model")
    if check.model is not None and check.task == "ranking":
        raise ValueError('task = "ranking" ranks by a column of the table: name it as score')
    if check.model is not None:
        return
    if check.model_sha256 is not None:
        raise ValueError("model_sha256 is the digest of a model: name the model")
    if check.task == "ranking" and check.score is None:
        raise ValueError('task = "ranking" needs the column that items are ranked by: name score')
    if check.task in ("multiclass", "regression") and check.prediction is None:
        raise ValueError(f'task = "{check.task}" needs the column of predictions, or a model')
    if check.prediction is None and check.score is None:
        raise ValueError(
            "name the column of predictions, or of scores with a threshold, or a model"
        )


def _one_task(check: BiasTableCheck) -> None:
    """Keys that a task does not know are an error, so that nobody thinks they were heeded."""
    heeded = {
        "score": ("binary", "ranking"),
        "prediction": ("binary", "multiclass", "regression"),
        "threshold": ("binary",),
        "missing": ("binary",),
        "rates": ("binary",),
    }
    for key, tasks in heeded.items():
        default = type(check).model_fields[key].default
        if check.task not in tasks and getattr(check, key) != default:
            known = ", ".join(f'"{task}"' for task in tasks)
            raise ValueError(f'{key} belongs to task = {known}, this is task = "{check.task}"')


def _measured_of(metric: str, attribute: str | None, check: BiasTableCheck) -> None:
    """A gate on an attribute of which its metric is not measured would never be answered."""
    ratios = check.impact_ratios
    measured = {
        "counterfactual_flip_rate": check.counterfactual,
        "impact_ratio": (ratios.sex, ratios.race, "intersections") if ratios else (),
    }.get(metric)
    if attribute is not None and measured and attribute not in measured:
        raise ValueError(
            f'{metric} is measured of {", ".join(measured)}, and gate.attribute = "{attribute}"'
        )


def _attributes(check: Any, more: list[str]) -> None:
    """A gate's attribute is a sensitive column."""
    for gate in check.gate:
        if gate.attribute is not None and gate.attribute not in [*check.sensitive, *more]:
            raise ValueError(
                f'gate.attribute = "{gate.attribute}" is not in sensitive = {list(check.sensitive)}'
                + ("" if more else '; "intersections" needs intersections = true')
            )


def _among(key: str, given: Iterable[str], columns: Iterable[str]) -> None:
    known = list(columns)
    for column in given:
        if column not in known:
            raise ValueError(f'{key} names the column "{column}", which is not one of {known}')
