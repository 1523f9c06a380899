"""What scales say on a serial line, as data: one file a dialect under ``assets/dialects``."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Annotated, Any, Literal, Self

from pydantic import BeforeValidator, Field, model_validator

from cell.config import load_file
from cell.interfaces import ConfigError
from cell.schema import FileModel

# Decimal exponents, so that a reading in another unit is the same number as one printed in grams.
_TO_GRAMS = {"g": 0, "kg": 3, "mg": -3}

State = Literal["stable", "unstable", "overload", "error", "ignored"]


class Line(FileModel):
    """Settings of a serial line."""

    baud_rate: int = Field(9600, ge=50, le=921_600)
    data_bits: Literal[7, 8] = 8
    parity: Literal["none", "even", "odd"] = "none"
    stop_bits: Literal[1, 2] = 1


@dataclass(frozen=True)
class Reading:
    """One record of a scale; `mass_g` is there when it is stable, `said` explains an error."""

    state: State
    mass_g: float | None = None
    said: str = ""


class Dialect(FileModel):
    """How a family of scales speaks.

    The patterns are regular expressions for a whole record without its terminator; the first that fits, in the
    order of the fields, says what the record means. `stable` has the groups `sign`, `value` and `unit`.
    """

    title: str
    line: Line = Line()
    terminator: str = Field("\r\n", min_length=1, description="ends every record")
    request: str | None = Field(None, description="asks for one record at once; None where the scale only sends")
    tare: str | None = Field(None, description="takes the load as zero; None where the scale has no such command")
    stable: re.Pattern[str]
    unstable: re.Pattern[str] | None = None
    overload: re.Pattern[str] | None = None
    error: re.Pattern[str] | None = None
    ignored: re.Pattern[str] | None = Field(None, description="answers to commands, which say nothing about a mass")

    @model_validator(mode="after")
    def _groups_are_there(self) -> Self:
        missing = {"sign", "value", "unit"} - set(self.stable.groupindex)
        if missing:
            raise ValueError(f"stable has no group {', '.join(sorted(missing))}")
        return self

    def read(self, record: bytes) -> Reading | None:
        """Return what a record means, or None where it is none of this dialect's.

        Parameters
        ----------
        record : bytes
            With its terminator; one without is not whole.
        """
        end = self.terminator.encode("ascii")
        if not record.endswith(end):
            return None
        try:
            text = record.removesuffix(end).decode("ascii")
        except UnicodeDecodeError:
            return None
        found = self.stable.fullmatch(text)
        if found:
            return _stable(found["sign"].strip(), found["value"].strip(), found["unit"].strip())
        for state in ("unstable", "overload", "error", "ignored"):
            pattern: re.Pattern[str] | None = getattr(self, state)
            if pattern and pattern.fullmatch(text):
                return Reading(state, said=text.strip())
        return None


def _stable(sign: str, value: str, unit: str) -> Reading | None:
    if unit not in _TO_GRAMS:
        return Reading("error", said=f"it weighs in {unit or 'no unit'}; set it to {', '.join(_TO_GRAMS)}")
    try:
        return Reading("stable", mass_g=float(f"{sign}{value}e{_TO_GRAMS[unit]}"))
    except ValueError:
        return None


def _named(value: Any) -> Any:
    """Read the file where a name or a path stands for a dialect."""
    if not isinstance(value, str):
        return value
    try:
        return load_file("dialects", value, Dialect).content
    except ConfigError as error:
        raise ValueError(str(error)) from error


NamedDialect = Annotated[Dialect, BeforeValidator(_named)]
