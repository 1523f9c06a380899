"""What four families of scales answer, written down from their manuals and apart from the driver's patterns."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

Condition = Literal["stable", "unstable", "overload", "error"]


@dataclass(frozen=True)
class Language:
    """How a scale speaks.

    Attributes
    ----------
    line_baud : int
        As it leaves the factory.
    requests : tuple of bytes
        Commands that it answers with its present reading.
    tare : bytes
    tared : bytes
        Its answer to the tare command.
    say : callable
        Makes a record, with its terminator, of grams and the reading's condition.
    """

    line_baud: int
    requests: tuple[bytes, ...]
    tare: bytes
    tared: bytes
    say: Callable[[float, Condition], bytes]


def _kern(grams: float, condition: Condition) -> bytes:
    if condition in ("overload", "error"):
        return b"           Error\r\n"
    unit = "g  " if condition == "stable" else "   "
    return f" {'-' if grams < 0 else ' '}{abs(grams):10.3f} {unit}\r\n".encode()


def _sbi(grams: float, condition: Condition) -> bytes:
    if condition == "overload":
        return b"      H       \r\n"
    if condition == "error":
        return b"   Err 054    \r\n"
    unit = "g  " if condition == "stable" else "   "
    return f"{'-' if grams < 0 else '+'}{abs(grams):9.3f} {unit}\r\n".encode()


def _sbi_with_id(grams: float, condition: Condition) -> bytes:
    if condition == "error":
        return b"Stat     ERR 054    \r\n"
    return (b"N     " if condition != "overload" else b"Stat  ") + _sbi(grams, condition)


def _sics(grams: float, condition: Condition) -> bytes:
    if condition == "overload":
        return b"S +\r\n"
    if condition == "error":
        return b"ES\r\n"
    return f"S {'S' if condition == 'stable' else 'D'} {grams:10.3f} g\r\n".encode()


def _a_and_d(grams: float, condition: Condition) -> bytes:
    if condition == "overload":
        return b"OL,+9999999E+19\r\n"
    if condition == "error":
        return b"EC,E02\r\n"
    return f"{'ST' if condition == 'stable' else 'US'},{grams:+09.3f}  g\r\n".encode()


LANGUAGES = {
    "kern": Language(9600, (b"w",), b"t", b"", _kern),
    "sartorius-sbi": Language(9600, (b"\x1bP",), b"\x1bU", b"", _sbi),
    "sartorius-sbi-22": Language(9600, (b"\x1bP",), b"\x1bU", b"", _sbi_with_id),
    "mt-sics": Language(9600, (b"SI\r\n",), b"T\r\n", b"T S      0.000 g\r\n", _sics),
    "a-and-d": Language(2400, (b"Q\r\n",), b"T\r\n", b"", _a_and_d),
}
