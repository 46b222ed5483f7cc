"""The bias check of a language model, as a policy writes it."""

from typing import Annotated, Any, Literal, Self

from pydantic import BeforeValidator, Field, field_validator, model_validator

from assaymark.reports.errors import nearest
from assaymark.reports.lm_suites import COVERAGE, INDICATORS, METRICS, SUITES, range_of
from assaymark.reports.policy_types import Check, GateEntry, Number, Strict, Text, Texts

BUILT_IN = "built-in"
_ADDRESS = ("http://", "https://")
_Share = Annotated[Number, Field(ge=0, le=1)]
_Count = Annotated[int, Field(ge=1)]


class LmEndpointSpec(Strict):
    """How an OpenAI-compatible server is asked, and what asking may cost.

    prices are those of a million tokens, in the currency of max_cost.
    """

    model: Text
    api: Literal["auto", "completions", "chat"] = "auto"
    token_env: Text | None = None
    time_limit: Annotated[Number, Field(gt=0)] = 60.0
    retries: Annotated[int, Field(ge=0, le=20)] = 5
    concurrency: Annotated[int, Field(ge=1, le=256)] = 8
    requests_per_minute: Annotated[Number, Field(gt=0)] | None = None
    tokens_per_minute: Annotated[Number, Field(gt=0)] | None = None
    max_requests: _Count | None = None
    max_tokens_total: _Count | None = None
    max_cost: Annotated[Number, Field(gt=0)] | None = None
    price_input: Annotated[Number, Field(ge=0)] | None = None
    price_output: Annotated[Number, Field(ge=0)] | None = None
    top_logprobs: Annotated[int, Field(ge=0, le=20)] = 5
    bos: str = ""
    batch: _Count = 1
    leave_out: Texts = ()
    give_up_after: _Count = 5
    extra: dict[str, str | int | float | bool] = Field(default_factory=dict)
    proxy: bool = False

    @model_validator(mode="after")
    def _cost_has_prices(self) -> Self:
        if self.max_cost is not None and None in (self.price_input, self.price_output):
            raise ValueError(
                f"max_cost = {self.max_cost:g} needs price_input and price_output, of a million tokens"
            )
        return self


class ScorerSpec(Strict):
    """A classifier that gives a text a number. label: of its classes, the one whose probability counts."""

    classifier: Text
    label: Text | None = None
    low: Number = 0.0
    high: Number = 1.0
    languages: Texts = ()


class LabellerSpec(Strict):
    """A classifier of regard. labels: its classes, each as positive, negative, neutral or other."""

    classifier: Text
    labels: dict[Text, Literal["positive", "negative", "neutral", "other"]] | None = None
    languages: Texts = ()


def _named(value: object) -> object:
    return {"classifier": value} if isinstance(value, str) else value


_Scorer = Annotated[ScorerSpec, BeforeValidator(_named, json_schema_input_type=str | ScorerSpec)]
_Labeller = Annotated[
    LabellerSpec, BeforeValidator(_named, json_schema_input_type=str | LabellerSpec)
]


class SuiteEntry(Strict):
    """A suite with its data and options; which options a suite takes is in SUITES."""

    data: Text | None = None
    variant: Text | None = None
    examples: _Count | None = None
    quality: Text | None = None
    prefixes: Annotated[tuple[str, ...], Field(min_length=1, strict=False)] = ("",)
    most_ties: _Share = 0.05
    orders: Literal["given", "all"] = "given"
    formats: Literal["first", "all"] = "first"
    languages: Texts = ()
    min_mass: _Share = 0.99
    order: Literal["yes-first", "no-first", "both"] = "yes-first"
    samples: _Count = 1
    temperature: Annotated[Number, Field(ge=0, le=5)] = 1.0
    max_tokens: _Count = 128
    system: Text | None = None
    slots: Texts = ()
    topics: Texts = ()
    values: _Count | None = 2
    toxicity: _Scorer | None = None
    sentiment: _Scorer | None = None
    regard: _Labeller | None = None
    refusals: Text | None = None

    @property
    def options(self) -> dict[str, Any]:
        """What was said beside data, variant and examples."""
        common = {"data", "variant", "examples"}
        given = {key: getattr(self, key) for key in self.model_fields_set - common}
        return {
            key: value.model_dump(exclude_unset=True) if isinstance(value, Strict) else value
            for key, value in given.items()
        }


def _entry(value: object) -> object:
    """A path alone is the data; built-in stands for the suite's own."""
    if isinstance(value, str):
        return {} if value == BUILT_IN else {"data": value}
    return value


class LmCheck(Check):
    """Suites that ask a language model whom it treats worse."""

    kind: Literal["bias.lm"]
    model: Text
    model_sha256: Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")] | None = None
    task: Literal["auto", "causal", "masked", "encoder", "vectors"] = "auto"
    revision: Text | None = None
    precision: Literal["auto", "float32", "bfloat16", "float16"] = "auto"
    batch_size: _Count | None = None
    pooling: Literal["mean", "cls", "last"] | None = None
    endpoint: LmEndpointSpec | None = None
    suites: Annotated[
        dict[
            Text,
            Annotated[SuiteEntry, BeforeValidator(_entry, json_schema_input_type=str | SuiteEntry)],
        ],
        Field(min_length=1),
    ]
    cache: bool | Text = True
    min_coverage: Annotated[Number, Field(gt=0, le=1)] = 0.95
    indicators: Literal["report", "gate"] = "report"
    mitigations: Texts = ()

    @field_validator("suites")
    @classmethod
    def _known_suites(cls, suites: dict[str, SuiteEntry]) -> dict[str, SuiteEntry]:
        for name, entry in suites.items():
            _check_suite(name, entry)
        return suites

    @model_validator(mode="after")
    def _asked_as_it_can_be(self) -> Self:
        if self.model.startswith(_ADDRESS) != (self.endpoint is not None):
            raise ValueError(
                f"endpoint says how to ask an http(s) address, and the model is {self.model}: "
                "name both or neither, such as endpoint = { model = … }"
            )
        return self

    @model_validator(mode="after")
    def _gates_are_measured(self) -> Self:
        for gate in self.gate:
            if gate.metric not in METRICS or gate.metric == COVERAGE:
                continue
            owners = [name for name, suite in SUITES.items() if gate.metric in suite.metrics]
            if not set(owners) & set(self.suites):
                raise ValueError(
                    f"{gate.metric} is measured by the suite {' or '.join(owners)}, which suites does "
                    "not name: add it"
                )
            if gate.metric in INDICATORS and self.indicators == "report":
                raise ValueError(
                    f"{gate.metric} is an indicator: it compares likelihoods, not what the model does "
                    'for people; write indicators = "gate" (--gate-indicators) to let it fail the build '
                    "all the same, or leave the gate out"
                )
            _check_limit(gate, [self.suites[name] for name in owners if name in self.suites])
        return self


def _check_limit(gate: GateEntry, entries: list[SuiteEntry]) -> None:
    """A limit lies inside what its metric can be: one that always holds would pass unseen."""
    rated = [one.sentiment for one in entries]
    polarity = (
        min(-1.0 if one is None else one.low for one in rated),
        max(1.0 if one is None else one.high for one in rated),
    )
    found = range_of(gate.metric, polarity)
    side, bound = ("min", gate.min) if gate.max is None else ("max", gate.max)
    if found is None or bound is None:
        return
    low, high = found
    trivial = bound <= low if side == "min" else bound >= high
    if trivial or not low <= bound <= high:
        advice = f": did you mean {bound / 100:g}?" if high == 1 < abs(bound) <= 100 else ""
        raise ValueError(
            f"{gate.metric} lies between {low:g} and {high:g}, so {side} = {bound:g} decides nothing{advice}"
        )


def _check_suite(name: str, entry: SuiteEntry) -> None:
    spec = SUITES.get(name)
    if spec is None:
        raise ValueError(f'unknown suite "{name}"{nearest(name, SUITES)}')
    if entry.variant is not None and entry.variant not in spec.variants:
        raise ValueError(
            f'{name}: variant = "{entry.variant}" is not known; known are {", ".join(spec.variants)}'
        )
    if spec.needs_data and entry.data is None:
        raise ValueError(f"{name} has no data of its own: name its official file or folder as data")
    more = {"examples"} if entry.examples is not None else set()
    taken = spec.keys | ({"examples"} if spec.sampled else set())
    foreign = sorted((set(entry.options) | more) - taken)
    if foreign:
        known = ", ".join(sorted({"data", "variant"} | taken))
        raise ValueError(f"{name} does not take {foreign[0]}; it takes {known}")
