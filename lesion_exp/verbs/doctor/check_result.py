"""The results of the checks of `doctor`: a fact, whether it is in order, and what to do if it is not."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any, Final, Literal

State = Literal["ok", "note", "problem"]
"""`ok`: in order; `note`: may cost time or change a result; `problem`: will stop a run or make it useless."""
GIB: Final = 2**30


@dataclass(frozen=True)
class CheckResult:
    """One fact about the machine.

    Args:
        name: what was examined, such as `store`.
        state: see `State`.
        text: what was found.
        remedy: what to do; empty if it is in order.
    """

    name: str
    state: State
    text: str
    remedy: str = ""

    def to_dict(self) -> dict[str, Any]:
        """Returns the finding as plain values."""
        return asdict(self)


def ok(name: str, text: str) -> CheckResult:
    """Returns a fact that is in order."""
    return CheckResult(name, "ok", text)


def note(name: str, text: str, remedy: str) -> CheckResult:
    """Returns a fact that may cost time or change a result."""
    return CheckResult(name, "note", text, remedy)


def problem(name: str, text: str, remedy: str) -> CheckResult:
    """Returns a fact that will stop a run or make it useless."""
    return CheckResult(name, "problem", text, remedy)
