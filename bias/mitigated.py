"""A mitigated model as a file: JSON that says everything needed to decide, and no code.

`load` reads a description that anybody may have written: it is checked whole before it is used.
"""

from pathlib import Path
from typing import Annotated, Literal

import pandas
from pydantic import Field, ValidationError, model_validator

from assaymark.bias.draws import contents, lots
from assaymark.bias.encoders import Part, Text
from assaymark.bias.rows import Flags, Numbers
from assaymark.bias.rules import Rule
from assaymark.reports.errors import InputError
from assaymark.reports.files import write_atomically

_LARGEST = 32 * 2**20


class Draw(Part):
    """Lots decide where the chance is between 0 and 1: a row is positive where its lot is below it.

    The lot is that of `assaymark.bias.draws.lots`: of the seed and the row's content in these columns.
    """

    seed: Annotated[int, Field(ge=0, lt=2**63)]
    columns: Annotated[tuple[Text, ...], Field(min_length=1, max_length=1000)]


class Audited(Part):
    """A number measured when the file was written; value None: not measured, `why` says the reason."""

    measure: Text
    value: float | None
    low: float | None = None
    high: float | None = None
    confidence: float | None = None
    n: Annotated[int, Field(ge=0)]
    why: Text = ""


class Made(Part):
    """How the rule was found. fitted_sha256: of the rows that it was fitted on."""

    by: Text
    libraries: dict[Text, Text]
    seed: int
    fitted_on: Annotated[int, Field(ge=0)]
    measured_on: Annotated[int, Field(ge=0)]
    fitted_sha256: Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
    note: Text = ""


class Mitigated(Part):
    """A rule that decides about rows of a table.

    columns: those that `predict` needs. positive: the value that a positive decision stands for.
    """

    format: Literal["assaymark.mitigated"] = "assaymark.mitigated"
    version: Literal[1] = 1
    method: Text
    constraint: Text
    attribute: Text
    positive: Text
    columns: Annotated[tuple[Text, ...], Field(max_length=3000)]
    rule: Rule
    draw: Draw | None = None
    made: Made
    audit: Annotated[tuple[Audited, ...], Field(max_length=1000)] = ()

    @model_validator(mode="after")
    def _whole(self) -> "Mitigated":
        if self.rule.draws and self.draw is None:
            raise ValueError("the rule decides by chance, but says not how lots are drawn")
        if self.columns != needed(self.rule, self.draw):
            raise ValueError(
                f"columns must be those that the rule needs: {', '.join(needed(self.rule, self.draw))}"
            )
        return self

    def predict(self, frame: pandas.DataFrame) -> Flags:
        """Whether each row is decided positive; the same row always is.

        frame: the table, a row each, with `columns`. A category that was not seen in fitting counts as
        none of those that were. A CSV is best read with its texts as they are
        (`pandas.read_csv(..., keep_default_na=False)`), since a group may be called "NA". Raises InputError
        for a missing column, a text where a number is expected, or a group without a threshold.
        """
        chance = self.chances(frame)
        if self.draw is None:
            return chance > 0.5
        return lots(frame, self.draw.columns, self.draw.seed) < chance

    def chances(self, frame: pandas.DataFrame) -> Numbers:
        """The chance of a positive decision in [0, 1]: 0 or 1 unless the rule draws lots."""
        return self.rule.chances(frame)

    def predict_proba(self, frame: pandas.DataFrame) -> Numbers:
        """The probability in [0, 1] of the positive class.

        Of a linear rule what its logistic regression says, which decides above 0.5; of all others
        `chances`.
        """
        return self.rule.probabilities(frame)

    def alike(self, frame: pandas.DataFrame) -> int:
        """How many of the rows share the content that draws their lot with another one; 0 without lots."""
        return 0 if self.draw is None else len(frame) - contents(frame, self.draw.columns)


def needed(rule: Rule, draw: Draw | None) -> tuple[str, ...]:
    """The columns that a rule needs to decide."""
    return tuple(dict.fromkeys((*rule.columns, *(draw.columns if draw else ()))))


def save(mitigated: Mitigated, path: Path) -> None:
    """Write the description. Raises InputError when the place cannot be written."""
    write_atomically(path, mitigated.model_dump_json(indent=1) + "\n")


def load(path: Path) -> Mitigated:
    """Read a description. Raises InputError, one sentence, for anything that is not a whole one."""
    try:
        with path.open("rb") as stream:
            content = stream.read(_LARGEST + 1)
    except OSError as error:
        raise InputError(f"cannot read {path}: {error.strerror or error}") from error
    if len(content) > _LARGEST:
        raise InputError(
            f"{path} is larger than {_LARGEST // 2**20} MiB: expected a description that "
            "assaymark has written"
        )
    try:
        return Mitigated.model_validate_json(content)
    except ValidationError as error:
        raise InputError(f"{path} is no mitigated model: {_first(error)}") from error


def _first(error: ValidationError) -> str:
    """The first mistake, where it stands, and how many more there are."""
    mistakes = error.errors(include_url=False, include_context=False)
    first = mistakes[0]
    where = ".".join(map(str, first["loc"]))[:200]
    message = first["msg"].removeprefix("Value error, ")
    more = f" (and {len(mistakes) - 1} more)" if len(mistakes) > 1 else ""
    return f"{where + ': ' if where else ''}{message[:300]}{more}; write it again with --apply"
