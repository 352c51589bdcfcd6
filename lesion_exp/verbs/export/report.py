"""The checks of a run's exported files in words: a table a file."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any


def as_text(check: Mapping[str, Any]) -> str:
    """The table of a check (`Check.to_dict`), and what follows from it."""
    size, accuracy, balanced = check["megabytes"], check["accuracy"], check["balanced_accuracy"]
    start = "image files" if check["preprocessing"] == "inside" else "normalised squares"
    rows = [
        ("", "original", check["kind"]),
        ("size, MB", *(f"{value:.1f}" for value in size)),
        ("accuracy", *(f"{value:.3f}" for value in accuracy)),
        ("balanced accuracy", *(f"{value:.3f}" for value in balanced)),
    ]
    for number, (before, after) in check["images_per_second"].items():
        rows.append((f"images/s, {number} at once", f"{before:.0f}", f"{after:.0f} (x {after / before:.2f})"))
    lines = [f"| {name:<22} | {before:>10} | {after:>16} |" for name, before, after in rows]
    lines.insert(1, f"|{'-' * 24}|{'-' * 11}:|{'-' * 17}:|")
    return "\n".join(
        [
            *lines,
            "",
            f"preprocessing {check['preprocessing']}; {check['images']} images of the {check['part']} part: largest "
            f"difference of a probability {check['largest_difference']:.2g}, mean {check['mean_difference']:.2g}, the "
            f"same class in {100 * check['same_class']:.1f}%; speed from {start}, {check['threads']} thread(s)",
            "The original computes in float32 here, so its scores may differ from those of a run that was evaluated in "
            "bf16 or fp16.",
            f"FAILED: {check['failure']}" if check["failure"] else "passed",
        ]
    )


def as_markdown(run_id: str, checks: Iterable[Mapping[str, Any]]) -> str:
    """All checks of a run, for its artifact."""
    parts = [f"# Exported files of run {run_id}, each beside its original"]
    parts += [f"## {check['kind']}, preprocessing {check['preprocessing']}\n\n{as_text(check)}" for check in checks]
    return "\n\n".join(parts) + "\n"
