"""The sections on the config, the environment and the reproduction of a run."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

import yaml

from lesion_exp.choices import FLIPS8
from lesion_exp.tracking import artifacts
from lesion_exp.trained_runs.run_summary import JOB, RunSummary
from lesion_exp.trained_runs.wording import counted, duration, listed
from lesion_exp.verbs.report.blocks import Block, Cell, Code, Note, Pairs, Section, Text, not_stored
from lesion_exp.verbs.report.commands import command_on, data_words, made_by, placeholders

_LEFT_OUT: Final = ("paths", "tracking", "launcher", "print_config")
"""Nodes with locations on a machine, which cannot change a result."""
CHOICES: Final = {
    "data set": "dataset",
    "split": "split",
    "network": "backbone",
    "loss": "loss",
    "sampler": "sampler",
    "optimizer": "optimizer",
    "learning rate schedule": "scheduler",
}
_KEYS: Final = {
    "target": "task.target",
    "image size, pixels": "image_size",
    "initial weights": "backbone.weights",
    "teacher, a run": "loss.teacher",
    "hash of the teacher's weights": "loss.teacher_weights",
    "temperature of the distillation": "loss.temperature",
    "share of the labels' loss": "loss.label_share",
    "images that the teacher sees": "loss.views",
    "metadata": "backbone.metadata",
    "learning rate": "optimizer.lr",
    "weight decay": "optimizer.weight_decay",
    "maximum number of epochs": "trainer.max_epochs",
    "batch size": "loader.batch_size",
    "precision": "trainer.precision",
    "moving average of weights": "trainer.ema_decay",
    "filter": "dataset.filter",
    "seed": "seed",
}


def config(facts: RunSummary) -> Section:
    """Returns the section with the config."""
    if not facts.config:
        return Section("config", "Config", [not_stored(JOB)])
    pairs: dict[str, Cell] = {words: option for words, group in CHOICES.items() if (option := facts.option(group))}
    pairs |= {words: _text(value) for words, key in _KEYS.items() if (value := facts.key(key)) is not None}
    pairs["augmentation"] = augmentation_in_words(facts)
    whole = yaml.safe_dump(shown(facts.config), sort_keys=False, width=100, allow_unicode=True)
    blocks: list[Block] = [Pairs(pairs), Code("The whole config, without locations", whole)]
    return Section("config", "Config", blocks)


def shown(node: Mapping[str, Any]) -> dict[str, Any]:
    """Returns a config without locations on a machine."""
    kept = {key: value for key, value in node.items() if key not in _LEFT_OUT}
    data = kept.get("dataset")
    if isinstance(data, dict):
        kept["dataset"] = {key: value for key, value in data.items() if key not in ("root", "pseudo_labels")}
    return kept


def augmentation_in_words(facts: RunSummary) -> str:
    """Returns the names of the transforms of training images, in their order, and whether their views are fixed."""
    transforms, views = facts.key("augmentation.transforms"), facts.key("augmentation.views")
    names = list(transforms) if isinstance(transforms, dict) else []
    if views == FLIPS8:
        names.append("8 flips and quarter turns")
    mixed = [name for name in ("mixup", "cutmix") if (facts.key(f"augmentation.mix.{name}_alpha") or 0) > 0]
    text = ", ".join(str(name).replace("_", " ") for name in [*names, *mixed]) or "none"
    return f"{text} ({views} fixed draws of each image)" if isinstance(views, int) else text


def _text(value: Any) -> str:
    return str(value).lower() if isinstance(value, bool) else f"{value:g}" if isinstance(value, float) else str(value)


_PYTHON: Final = artifacts.environment("python.json")
_PACKAGES: Final = artifacts.environment("packages.txt")
_KEY_PACKAGES: Final = ("torch", "torchvision", "pytorch-lightning", "scikit-learn", "numpy", "mlflow")


def environment(facts: RunSummary) -> Section:
    """Returns the section on the environment."""
    python = facts.kept.mapping(_PYTHON)
    pairs: dict[str, Cell] = {
        words: text
        for words, text in (
            ("software", software(facts)),
            ("hardware", hardware(facts)),
            ("platform", str(python.get("platform", ""))),
            ("values chosen for auto", _resolved(facts)),
            ("PyTorch threads", str(python.get("torch_num_threads", ""))),
            ("training speed", _speed(facts)),
        )
        if text
    }
    packages = facts.kept.text(_PACKAGES)
    blocks: list[Block] = [Pairs(pairs)] if pairs else [not_stored("environment/python.json and hardware.json")]
    blocks.append(Code("All packages", packages, columns=True) if packages else not_stored(_PACKAGES))
    return Section("environment", "Environment", blocks)


def software(facts: RunSummary) -> str | None:
    """Returns the versions of Python and the main packages; None if they are not stored."""
    python = facts.kept.mapping(_PYTHON).get("python")
    lines = (facts.kept.text(_PACKAGES) or "").splitlines()
    versions = dict(line.partition("==")[::2] for line in lines)
    known = [f"{name} {versions[name]}" for name in _KEY_PACKAGES if name in versions]
    version = facts.job.get("version")
    own = [f"lesion_exp {version}"] if version else []
    found = [*own, *([f"Python {python}"] if python else []), *known]
    return listed(found) or None


def hardware(facts: RunSummary) -> str | None:
    """Returns processor, memory and GPUs; None if they are not stored."""
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
    return "" if rate is None else f"{rate:,.0f} images per second; {duration(span)} per epoch with validation"


_HASHES: Final = {
    "job": "job_hash",
    "data set": "dataset_fingerprint",
    "split": "split_hash",
    "weights of the best epoch": "weights_hash",
}
_CHECKPOINT: Final = artifacts.checkpoint()


def reproduce(facts: RunSummary) -> Section:
    """Returns the section on reproduction."""
    run_id = facts.run.run_id[:8]
    if facts.members:
        runs = f"run=[{','.join(member[:8] for member in facts.members)}]"
        method = f"ensemble={facts.run.tags.get('ensemble', 'mean')}"
        command = command_on(facts, "evaluate", runs, method, *_stack_keys(facts), *_evaluated_with(facts))
        again: list[Block] = [Code("Combine the same runs again", command)]
        again += [Text(words)] if (words := placeholders(command)) else []
        return Section("reproduce", "How to reproduce", [*again, _fingerprints(facts), *_kept(facts)])
    if not facts.job:
        return Section("reproduce", "How to reproduce", [not_stored(JOB), _fingerprints(facts), *_kept(facts)])
    data = data_words(facts.config)
    with_store = command_on(facts, "reproduce", f"run={run_id}", *data)
    from_file = command_on(facts, "reproduce", f"job={JOB}", *data, in_store=False)
    blocks: list[Block] = [
        Text("These commands train the same job again, compare the results and report all differences:"),
        Code("With the store of this run", with_store),
        Code("From its job file alone, an artifact of the run", from_file),
    ]
    made = made_by(facts)
    blocks += [Code("The command that made this run", made)] if made else [not_stored(JOB)]
    blocks += [Text(words)] if (words := placeholders(with_store, from_file, made or "")) else []
    return Section("reproduce", "How to reproduce", [*blocks, _fingerprints(facts), *_kept(facts)])


def _evaluated_with(facts: RunSummary) -> list[str]:
    """The overrides with which an ensemble was evaluated; of an older run, the part alone."""
    found = facts.kept.json(artifacts.ENSEMBLE_OVERRIDES)
    if isinstance(found, list):
        return [str(word) for word in found]
    folder = artifacts.evaluation("")
    evaluated = {name.removeprefix(folder).partition("/")[0] for name in facts.kept.names if name.startswith(folder)}
    return ["split.part=val"] if evaluated == {"val"} else []


def _stack_keys(facts: RunSummary) -> list[str]:
    """The keys with which a stacked ensemble was fitted; none for another run."""
    options = facts.kept.mapping(artifacts.STACKING).get("options")
    if not isinstance(options, dict):
        return []
    values = {
        "stack": options["stack"],
        "stack_features": f"[{','.join(options['features'])}]",
        "stack_columns": f"[{','.join(options['columns'])}]",
        "stack_balanced": str(options["balanced"]).lower(),
        "stack_seed": options["seed"],
    }
    return [f"{key}={value}" for key, value in values.items()]


def _fingerprints(facts: RunSummary) -> Pairs:
    tags = facts.run.tags
    pairs: dict[str, Cell] = {words: tags[tag] for words, tag in _HASHES.items() if tag in tags}
    if "git_commit" in tags:
        pairs["commit"] = (
            f"{tags['git_commit']}{' with uncommitted changes' if tags.get('git_dirty') == 'true' else ''}"
        )
    pairs["run"] = facts.run.run_id
    seeds = [
        f"{words} {facts.key(key)}"
        for words, key in (("run", "seed"), ("split", "split.seed"))
        if facts.key(key) is not None
    ]
    return Pairs(pairs | ({"seeds": listed(seeds)} if seeds else {}))


def _kept(facts: RunSummary) -> list[Block]:
    names = sorted(facts.kept.names - {"report.html"})
    broken = [Note(f"{name} cannot be read: {why}", "missing") for name, why in sorted(facts.kept.broken.items())]
    weights = "" if _CHECKPOINT in facts.kept.names else " The weights are not among them."
    intro = Text(f"The run stores {counted(len(names), 'file')}.{weights}")
    return [intro, *broken, Code("All files of the run", "\n".join(names), columns=True)]
