"""What a person is asked before a line runs: that hand and scale are empty, and that a new way may be gone."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from cell.interfaces import CellError, Gripper, NotEmpty, Scale
from cell.motion.panda import OPENING_MAX_M
from cell.schema import MassLimits

# Closed fingers of an empty hand; the thinnest part to be told from nothing.
_EMPTY_HAND_M = 0.002
# The fingers of an open hand stand at least so wide; nothing between them is held.
_OPEN_HAND_M = OPENING_MAX_M - 0.002
_EMPTY_SCALE_SHARE = 0.1
_GRASP_FORCE_N = 10.0

Clear = Callable[[Sequence[str]], str]
"""Gets what speaks against an empty cell, and answers with who takes out what is there; then the hand opens."""


Confirm = Callable[[str], None]
"""Told which way a real arm is about to go for the first time; returns when a person agreed, or raises."""


def refuse_unconfirmed(way: str) -> None:
    """Answer for nobody: a real arm goes no way for the first time without a person beside it."""
    raise CellError(f"The arm goes {way} for the first time: a person must stand by; run it at a terminal")


def refuse_uncleared(found: Sequence[str]) -> str:
    """Answer for nobody: the line does not start before a person has looked."""
    raise CellError(
        f"The line does not start before a person has looked: {'; '.join(found)}. Put what is in the hand or on the "
        "scale into the bin recheck (what the hand still holds it lets go at the start: hold it), and say who does "
        "with --cleared-by NAME"
    )


def nothing_is_held(gripper: Gripper) -> str:
    """Return how wide the fingers stand, before the arm moves: closed, or open to the end.

    Raises
    ------
    NotEmpty
        They stand where something may be between them.
    """
    grasp = gripper.state()
    if grasp.held or _EMPTY_HAND_M < grasp.width_m < _OPEN_HAND_M:
        raise _in_hand(grasp.width_m)
    return f"{grasp.width_m * 1000:.1f} mm"


def hand_is_empty(gripper: Gripper) -> str:
    """Close the fingers on nothing, open them again, and return how wide they stood.

    Raises
    ------
    NotEmpty
        There is something between the fingers; they stay as they are.
    """
    grasp = gripper.state()
    if not grasp.held:
        grasp = gripper.grasp(_EMPTY_HAND_M, _GRASP_FORCE_N)
    if grasp.held or grasp.width_m > _EMPTY_HAND_M:
        raise _in_hand(grasp.width_m)
    gripper.release()
    return f"closed to {grasp.width_m * 1000:.1f} mm"


def scale_is_empty(scale: Scale, limits: MassLimits) -> str:
    """Return what the scale shows before anybody tared it.

    Raises
    ------
    NotEmpty
        Something as heavy as a good share of a part lies on it.
    """
    mass_g = scale.weigh().mass_g
    if abs(mass_g) > _EMPTY_SCALE_SHARE * limits.nominal_g:
        raise NotEmpty(
            "scale",
            "proving that the scale is empty",
            f"{mass_g:.3f} g are on it before it was tared",
            "look what lies on it, and take it off",
        )
    return f"{mass_g:.3f} g before taring"


def prove(proof: Callable[[], str], gripper: Gripper, clear: Clear) -> None:
    """Have a proof that hand or scale is empty; where it fails, once more after a person cleared them.

    Raises
    ------
    NotEmpty
        It failed again.
    CellError
        Nobody cleared them.
    """
    try:
        proof()
    except NotEmpty as error:
        clear([str(error)])
        gripper.release()
        proof()


def _in_hand(width_m: float) -> NotEmpty:
    return NotEmpty(
        "gripper",
        "proving that the hand is empty",
        f"something {width_m * 1000:.1f} mm wide is between the fingers",
        "take it out by hand",
    )
