"""What the run ran on."""

from __future__ import annotations

from typing import Final

from lesion_exp.tracking import artifacts
from lesion_exp.trained_runs.run_summary import RunSummary
from lesion_exp.trained_runs.wording import duration, listed
from lesion_exp.verbs.report.blocks import Block, Cell, Code, Pairs, Section, not_stored

_PYTHON: Final = artifacts.environment("python.json")
_PACKAGES: Final = artifacts.environment("packages.txt")
_KEY_PACKAGES: Final = ("torch", "torchvision", "pytorch-lightning", "scikit-learn", "numpy", "mlflow")


def environment(facts: RunSummary) -> Section:
    """The section on the environment."""
    python = facts.kept.mapping(_PYTHON)
    pairs: dict[str, Cell] = {
        words: text
        for words, text in (
            ("software", software(facts)),
            ("hardware", hardware(facts)),
            ("platform", str(python.get("platform", ""))),
            ("what auto became", _resolved(facts)),
            ("threads of PyTorch", str(python.get("torch_num_threads", ""))),
            ("training speed", _speed(facts)),
        )
        if text
    }
    packages = facts.kept.text(_PACKAGES)
    blocks: list[Block] = [Pairs(pairs)] if pairs else [not_stored("environment/python.json and hardware.json")]
    blocks.append(Code("All packages", packages, columns=True) if packages else not_stored(_PACKAGES))
    return Section("environment", "Environment", blocks)


def software(facts: RunSummary) -> str | None:
    """Python and the packages that matter most, with their versions; None where they are not stored."""
    python = facts.kept.mapping(_PYTHON).get("python")
    lines = (facts.kept.text(_PACKAGES) or "").splitlines()
    versions = dict(line.partition("==")[::2] for line in lines)
    known = [f"{name} {versions[name]}" for name in _KEY_PACKAGES if name in versions]
    version = facts.job.get("version")
    own = [f"lesion_exp {version}"] if version else []
    found = [*own, *([f"Python {python}"] if python else []), *known]
    return listed(found) or None


def hardware(facts: RunSummary) -> str | None:
    """Processor, memory and GPUs; None where they are not stored."""
    found = facts.kept.mapping(artifacts.environment("hardware.json"))
    if not found:
        return None
    gpus = [f"{gpu['name']} ({gpu['memory_mib']} MiB)" for gpu in found.get("gpus", [])]
    return (
        f"{found.get('cpu')}, {found.get('usable_cores')} cores, {found.get('memory_gib')} GiB of memory; "
        f"{listed(gpus) if gpus else 'no GPU'}"
    )


def _resolved(facts: RunSummary) -> str:
    prefix = "resolved.trainer."
    found = {name.removeprefix(prefix): text for name, text in facts.run.params.items() if name.startswith(prefix)}
    return ", ".join(f"{name} {text}" for name, text in sorted(found.items()))


def _speed(facts: RunSummary) -> str:
    rate, span = facts.run.metrics.get("time/images_per_second"), facts.run.metrics.get("time/epoch_seconds")
    return "" if rate is None else f"{rate:,.0f} images a second; {duration(span)} an epoch with validation"
