"""The verb `plan`: facts of the data, speed of this machine, decision by the rules, and the preset."""

from __future__ import annotations

import logging
import os
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from datetime import datetime, timedelta
from functools import cached_property
from pathlib import Path
from typing import Any, Final

from omegaconf import OmegaConf

from lesion_exp.backbone.packaged_weights import has_packaged
from lesion_exp.byte_size import memory_size
from lesion_exp.config.compose import Composed, compose
from lesion_exp.config.freeze import freeze
from lesion_exp.config.project import Project
from lesion_exp.config.registered import TRUST_VARIABLE
from lesion_exp.errors import ConfigError, check_output
from lesion_exp.next_command import key_and_value, key_of
from lesion_exp.progress import Stage, duration
from lesion_exp.terminal import shell_words
from lesion_exp.training.check_training import check_training
from lesion_exp.training.data import SplitData, load_data, split_data
from lesion_exp.training.run import check_job
from lesion_exp.verbs.plan.candidate import Candidate, Choice, Speed
from lesion_exp.verbs.plan.facts import Machine, Situation, data_facts, this_machine
from lesion_exp.verbs.plan.preset import preset_text
from lesion_exp.verbs.plan.recipe import settings
from lesion_exp.verbs.plan.request import PlanRequest
from lesion_exp.verbs.plan.rules import Decision, decide, next_measured, store_side
from lesion_exp.verbs.plan.speed import measure

log = logging.getLogger(__name__)

MEASURE_SECONDS: Final = 50.0
"""Time for all measurements together."""
LONGEST_MEASUREMENT: Final = 12.0
KEPT: Final = ("dataset", "split", "task", "seed")
"""Nodes of the config that a user chooses, and that go into the preset as they are."""
KEPT_KEYS: Final = ("trainer", "trainer.accelerator", "trainer.precision", "loader.num_workers")
"""Further keys of that kind."""
RATIOS: Final = "split.ratios"
"""A key of the default split that folds do not have."""
ELSEWHERE: Final = ("paths", "tracking", "print_config")
"""Nodes that are read, but do not belong to a preset: they say where results go."""
PACKAGED: Final = ("tf_efficientnet_lite0", "tf_efficientnet_lite2")
"""timm's names of the networks that the rules choose if their weights are installed."""
GIVEN: Final = "given on the command line"
NAME: Final = "plan"
FILE: Final = Path("experiment", f"{NAME}.yaml")
NOTED_SLOWDOWN: Final = 1.2


@dataclass(frozen=True)
class Plan:
    """A plan, and what it follows from."""

    situation: Situation
    speeds: tuple[Speed, ...]
    decision: Decision
    choices: tuple[Choice, ...]
    """Everything that the preset sets, including the choices of the user."""
    folder: Path
    command: str
    """The command that trains with the preset."""

    @property
    def file(self) -> Path:
        """The preset."""
        return self.folder / FILE

    @cached_property
    def text(self) -> str:
        """The content of the preset."""
        return preset_text(_heading(self), self.choices)

    @property
    def expected_end(self) -> datetime:
        """When a training that begins now is expected to end."""
        return datetime.now().astimezone() + timedelta(seconds=self.decision.total_seconds)

    def to_dict(self) -> dict[str, Any]:
        """Returns the plan as plain values, as `plan --json` prints it."""
        return {
            "file": str(self.file),
            "command": self.command,
            "budget_seconds": self.situation.budget,
            "expected_seconds": round(self.decision.total_seconds, 1),
            "expected_end": self.expected_end.isoformat(timespec="seconds"),
            "seconds": {name: round(value, 1) for name, value in self.decision.seconds.items()},
            "facts": asdict(self.situation.facts),
            "machine": asdict(self.situation.machine),
            "speeds": [{"name": speed.candidate.name, **asdict(speed)} for speed in self.speeds],
            "epochs": self.decision.epochs,
            "folds": self.decision.folds,
            "seeds": self.decision.seeds,
            "choices": [{"key": each.key, "value": each.value, "reason": each.reason} for each in self.choices],
            "offers": list(self.decision.offers),
        }


def make_plan(
    overrides: Sequence[str], request: PlanRequest, *, root: Path, config_dirs: Sequence[Path] = ()
) -> Plan:  # fmt: skip
    """Makes a plan for the data set that `overrides` name, writes its preset, and checks that it can train.

    Raises:
        UserError: the data set cannot be trained on, a key is one that the plan chooses, the budget is too small, or
            there is a preset already.
    """
    file = request.output / FILE
    if file.exists() and not request.force:
        raise ConfigError(f"expected a folder without a plan, but {file} exists; set force=true, or another output=")
    check_output(request.output, is_folder=True)
    _check_overrides(overrides, request.output)
    maker = _Maker(tuple(overrides), tuple(config_dirs), root)
    given, budget = maker.compose(()), 3600 * request.hours
    machine, has_weights = this_machine(given.config["trainer"]), has_packaged(*PACKAGED)
    own = _user_choices(overrides, given)
    if not any(choice.key == "dataset.store_size" for choice in own):
        side = store_side(machine.on_gpu, has_weights, budget)
        own.append(Choice("dataset.store_size", side, "pixels; the image store that the plan was made with"))
        maker = replace(maker, overrides=(*overrides, own[-1].override))
    config = maker.compose(()).config
    split, reading = _read(config)
    with Stage("counting images, lesions and classes"):
        chosen = any(_chooses_split(text) for text in overrides)
        facts = data_facts(config, split, given.options["split"], is_split_chosen=chosen)
    situation = Situation(facts, machine, has_weights, reading, budget)
    speeds = _speeds(situation, maker, split)
    decision = decide(situation, speeds)
    by_plan = {each.key for each in decision.choices}
    choices = (*(each for each in own if each.key not in by_plan), *decision.choices)
    words = [word for folder in (*config_dirs, request.output) for word in ("--config-dir", str(folder))]
    words += [word for name in os.environ.get(TRUST_VARIABLE, "").split(",") if name for word in ("--trust", name)]
    elsewhere = [text for text in overrides if _node(text) in ELSEWHERE]
    command = shell_words(["lesion-exp", "train", *words, f"experiment={NAME}", *elsewhere])
    plan = Plan(situation, speeds, decision, choices, request.output, command)
    with tempfile.TemporaryDirectory(prefix="lesion_exp_plan_") as folder:
        _write(Path(folder) / FILE, plan.text)
        _check([*config_dirs, Path(folder)], root, elsewhere, split)
    _write(file, plan.text)
    return plan


@dataclass(frozen=True)
class _Maker:
    """Composes configs of the same data set."""

    overrides: tuple[str, ...]
    config_dirs: tuple[Path, ...]
    root: Path

    def compose(self, more: Sequence[str]) -> Composed:
        return compose([*self.overrides, *more], config_dirs=self.config_dirs, root=self.root)


def _check_overrides(overrides: Sequence[str], output: Path) -> None:
    for text in overrides:
        if _node(text) not in (*KEPT, *ELSEWHERE) and key_of(text) not in KEPT_KEYS:
            raise ConfigError(
                f"expected keys below {', '.join(KEPT)} or one of {', '.join(KEPT_KEYS)}, got {text}; the plan chooses "
                f"the others itself, and the training by it takes them all: "
                f"{shell_words(['lesion-exp', 'train', '--config-dir', str(output), f'experiment={NAME}', text])}"
            )
        if text in ("trainer=ddp", "trainer=ddp_cpu"):
            raise ConfigError(
                f"expected trainer=auto, cpu or gpu, as a plan is for one device, got {text}; leave it out"
            )


def _node(text: str) -> str:
    """The node of the config that the override `text` changes."""
    return key_of(text).partition(".")[0].partition("/")[0]


def _chooses_split(text: str) -> bool:
    """Whether the override `text` chooses a split, by its name or by the ratios of its parts."""
    key = key_of(text)
    return key == "split" or key == RATIOS or key.startswith(f"{RATIOS}.")


def _user_choices(overrides: Sequence[str], given: Composed) -> list[Choice]:
    """What the user gave, as it goes into the preset: groups by their option, keys by their resolved value.

    A key below another key that the user gave is part of the value of that one.
    """
    config, found = OmegaConf.create(given.config), []
    last = {key_of(text): text for text in overrides}
    whole = tuple(f"{key}." for key in last if key not in given.options)
    for text in last.values():
        key, value = key_and_value(text)
        if _node(text) in ELSEWHERE or key.startswith(whole):
            continue
        if key in given.options:
            found.append(Choice(key, value, GIVEN, is_group=True))
        else:
            known = OmegaConf.select(config, key)
            found.append(Choice(key, OmegaConf.to_container(known) if OmegaConf.is_config(known) else known, GIVEN))
    return found


def _read(config: Mapping[str, Any]) -> tuple[SplitData, float]:
    """The data with their split, and the seconds that a run will need to read them from the image store."""
    stores = set(Project.from_config(config).data_cache.glob("*"))
    began = time.monotonic()
    loaded = load_data(config)
    if loaded.store.folder not in stores:  # it was built now
        began = time.monotonic()
        loaded = load_data(config)
    split = split_data(config, loaded)
    return split, time.monotonic() - began


def _speeds(situation: Situation, maker: _Maker, split: SplitData) -> tuple[Speed, ...]:
    """The speeds of the candidates that matter for the decision, in less than a minute."""
    found: list[Speed] = []
    failed: list[Candidate] = []
    machine, began = situation.machine, time.monotonic()
    while (candidate := next_measured(situation, found, failed)) is not None:
        left = MEASURE_SECONDS - (time.monotonic() - began)
        if left <= 0 and found:
            log.info("%s is not measured: the time for measurements is over", candidate.name)
            break
        config = maker.compose([each.override for each in settings(situation.facts, machine, candidate, 10)]).config
        with Stage(f"measuring {candidate.name}"):
            speed = measure(config, split, candidate, min(LONGEST_MEASUREMENT, max(left, 1.0)))
        if speed is None:
            failed.append(candidate)
            continue
        found.append(speed)
        log.info("%s", _speed_in_words(speed))
    if not found:
        raise ConfigError(
            f"expected enough free memory for {failed[0].name}, got {memory_size(machine.memory)} on "
            f"{machine.device}; end other programs on it, or set trainer=cpu"
        )
    return tuple(found)


def _speed_in_words(speed: Speed) -> str:
    training = f"{speed.training:,.0f} images/s in training steps, " if speed.training else ""
    return f"{speed.candidate.name}: {training}{speed.evaluation:,.0f} in evaluation, {memory_size(speed.memory)}"


def _heading(plan: Plan) -> list[str]:
    """The paragraphs at the top of the preset: data, machine, speeds, the expected time, and what else is possible."""
    facts, machine, decision = plan.situation.facts, plan.situation.machine, plan.decision
    named = (("images", facts.images), ("lesions", facts.lesions), ("patients", facts.patients))
    sizes = ", ".join(f"{count:,} {what}" for what, count in named if count)
    counts = ", ".join(f"{name} {count:,}" for name, count in facts.counts.items())
    missing = ", ".join(f"{name} {share:.0%}" for name, share in facts.missing.items())
    found = [
        f"A plan for {facts.dataset} and {plan.situation.budget / 3600:g} h, by lesion-exp plan:",
        f"  {plan.command}",
        f"Data: {sizes}; median {facts.width} x {facts.height} pixels; training part {counts}; masks "
        f"{facts.masks:.0%}; missing {missing}; {facts.near_duplicates:,} pairs of near-duplicates, which stay "
        f"together. No pixel of a test image decided anything here.",
        f"Machine: {machine.device}, {machine.precision}, {memory_size(machine.memory)} free"
        f"{_other_work(machine)}. Measured:",
        *(f"  {_speed_in_words(speed)}" for speed in plan.speeds),
        time_in_words(decision),
    ]
    if decision.seeds > 1:
        found += [
            "Combine the members afterwards, by the ids of lesion-exp sweep status:",
            "  lesion-exp evaluate 'run=[A,B]' ensemble=mean",
        ]
    if decision.offers:
        found.append("Not chosen, but possible:")
        found += [f"  {offer}" for offer in decision.offers]
    return found


def _other_work(machine: Machine) -> str:
    if machine.slowdown < NOTED_SLOWDOWN:
        return ""
    return f"; other programs make work take {machine.slowdown:.1f} times as long, and the plan assumes that they go on"


def time_in_words(decision: Decision) -> str:
    """Returns the expected time of the training, with its pieces."""
    pieces = ", ".join(f"{name} {duration(seconds)}" for name, seconds in decision.seconds.items() if seconds >= 1)
    runs = decision.folds * decision.seeds
    what = "one run" if runs == 1 else f"{runs} {'folds' if decision.folds > 1 else 'seeds'}"
    return f"Expected: {duration(decision.total_seconds)} for {what} of {decision.epochs} epochs ({pieces})."


def _write(file: Path, text: str) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(text, encoding="utf-8")


def _check(config_dirs: Sequence[Path], root: Path, elsewhere: Sequence[str], split: SplitData) -> None:
    """Checks the preset as a training would before its first step."""
    composed = compose([f"experiment={NAME}", *elsewhere], config_dirs=config_dirs, root=root)
    with Stage("checking the preset", announced=False):
        check_job(freeze(composed))
        for text in check_training(composed.config, split):
            log.warning("warning: %s", text)
