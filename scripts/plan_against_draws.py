"""Compares the preset of `lesion-exp plan` with random configurations that have the same data, machine and time.

    python scripts/plan_against_draws.py FOLDER --hours 0.03 dataset=ph2 dataset.root=DIR split.ratios=[0.5,0.15,0.35]
    python scripts/plan_against_draws.py FOLDER --table     # trains nothing

The words are those of `plan`: data set and split. The plan is trained, and then `--draws` configurations, each drawn
from `SPACE`. A draw is measured as a plan measures its candidates, and gets as many epochs as fill the same budget by
that speed; one that has no time for a single epoch is drawn anew. All have the split, the views of prediction and the
image store of the plan. FOLDER keeps plan, draws and speeds, so that the script goes on after an interruption. Choose a
split whose test part is large enough for a comparison, and a budget in which the plan is a single run.
"""

from __future__ import annotations

import argparse
import json
import math
import random
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any, Final

from results import difference_in_words, paired_difference, train

import lesion_exp
from lesion_exp import open_run
from lesion_exp.config.compose import compose
from lesion_exp.trained_runs.printed_table import Entry, PrintedTable
from lesion_exp.training.data import load_data, split_data
from lesion_exp.verbs.plan.candidate import Candidate
from lesion_exp.verbs.plan.plan import Plan, make_plan
from lesion_exp.verbs.plan.request import PlanRequest
from lesion_exp.verbs.plan.speed import measure
from lesion_exp.verbs.plan.timing import epochs_in_budget

NETWORKS: Final = (
    ("efficientnet_lite0", "imagenet", "full"),
    ("efficientnet_lite0", "imagenet", "last:4"),
    ("efficientnet_lite2", "imagenet", "full"),
    ("efficientnet_lite0", "none", "full"),
    ("resnet18", "none", "full"),
    ("small_cnn", "none", "full"),
)
"""Network, weights and what is trained of it. Half of them start from ImageNet weights, as the plan may."""
SPACE: Final[Mapping[str, tuple[tuple[str, ...], ...]]] = {
    "image_size": tuple((f"image_size={size}",) for size in (64, 96, 128, 160, 192, 224)),
    "augmentation": tuple((f"augmentation={name}",) for name in ("light", "standard", "heavy")),
    "mix": ((), ("augmentation.mix.mixup_alpha=0.4",)),
    "sampler": (("sampler=shuffle",), *(("sampler=weighted", f"sampler.power={power}") for power in (0.5, 0.75, 1))),
    "loss": (
        ("loss=cross_entropy",),
        ("loss=cross_entropy", "loss.label_smoothing=0.1"),
        ("loss=focal",),
        ("loss=logit_adjusted", "loss.tau=0.4"),
        ("loss=logit_adjusted", "loss.tau=1"),
    ),
    "scheduler": (("scheduler=one_cycle",), ("scheduler=cosine",), ("scheduler=constant",)),
    "batch": tuple((f"loader.batch_size={size}",) for size in (16, 32, 64)),
    "decay": tuple((f"optimizer.weight_decay={value}",) for value in (0.0, 0.01, 0.05)),
    "average": ((), ("trainer.ema_decay=0.99",)),
}
"""What a draw chooses beside the network and the learning rate: one entry of each line."""
LEARNING_RATES: Final = (1e-4, 1e-2)
"""The logarithm of the learning rate is drawn evenly between that of these."""
SECONDS: Final = 8.0
"""Time in which the speed of a draw is measured; it is not part of its budget."""
SHARED: Final = ("dataset.store_size", "evaluation.tta")
"""Keys that a draw takes from the plan."""
PLAN_NAME: Final = "plan"
METRIC: Final = "balanced_accuracy"


@dataclass(frozen=True)
class Trained:
    """A finished training, by the plan or by a draw."""

    name: str
    what: str
    run_id: str
    minutes: float
    val: float
    """Balanced accuracy on the validation part."""
    test: float


def draw(generator: random.Random) -> tuple[Candidate, list[str]]:
    """Returns a random network, and the words that choose it and everything else but the epochs."""
    backbone, weights, tune = generator.choice(NETWORKS)
    chosen = {name: generator.choice(options) for name, options in SPACE.items()}
    low, high = map(math.log, LEARNING_RATES)
    words = [f"backbone={backbone}", f"backbone.weights={weights}", f"backbone.tune={tune}", "optimizer=adamw",
             f"optimizer.lr={math.exp(generator.uniform(low, high)):.2g}"]  # fmt: skip
    words += [word for option in chosen.values() for word in option]
    size = int(chosen["image_size"][0].partition("=")[2])
    return Candidate(backbone, size, weights, tune), words


def drawn_jobs(plan: Plan, words: Sequence[str], count: int, seed: int) -> list[list[str]]:
    """Returns the words after `lesion-exp train` of `count` draws, whose epochs fill the budget of `plan`."""
    generator, found = random.Random(seed), []
    shared = [choice.override for choice in plan.choices if choice.key in SHARED]
    given = compose([*words, *shared], config_dirs=(), root=Path.cwd()).config
    split = split_data(given, load_data(given))
    while len(found) < count:
        candidate, chosen = draw(generator)
        job = [*dict.fromkeys([*words, *shared]), *chosen]
        config = compose(job, config_dirs=(), root=Path.cwd()).config
        speed = measure(config, split, candidate, SECONDS)
        epochs = 0 if speed is None else int(epochs_in_budget(plan.situation, speed, 1))
        if epochs:
            print(f"== draw {len(found) + 1}: {candidate.name}, {epochs} epochs", file=sys.stderr)
            found.append([*job, f"trainer.max_epochs={epochs}", f"tracking.run_name=draw {len(found) + 1}"])
    return found


def prepared(folder: Path, words: Sequence[str], hours: float, count: int, seed: int) -> Mapping[str, Any]:
    """Makes plan and draws, and keeps them in `folder`; returns them if they are there."""
    file = folder / "draws.json"
    if not file.exists():
        plan = make_plan(words, PlanRequest(hours=hours, output=folder, force=True), root=Path.cwd())
        if plan.decision.folds * plan.decision.seeds > 1:
            raise SystemExit("expected a plan of one run; choose split.ratios, or a smaller budget")
        by_plan = ["--config-dir", str(folder), "experiment=plan", f"tracking.run_name={PLAN_NAME}"]
        kept = {
            "expected_minutes": plan.decision.total_seconds / 60,
            "plan": by_plan,
            "network": plan.decision.candidate.name,
            "draws": drawn_jobs(plan, words, count, seed),
        }
        file.write_text(json.dumps(kept, indent=1), encoding="utf-8")
    found: Mapping[str, Any] = json.loads(file.read_text(encoding="utf-8"))
    return found


def train_all(folder: Path, jobs: Mapping[str, Any]) -> None:
    """Trains what has no run yet, and keeps the id of each run and its minutes, from command to end, in `folder`."""
    file = folder / "trained.json"
    done: dict[str, Any] = json.loads(file.read_text(encoding="utf-8")) if file.exists() else {}
    for number, words in enumerate([jobs["plan"], *jobs["draws"]]):
        if str(number) in done:
            continue
        began = time.monotonic()
        train(words)
        minutes = (time.monotonic() - began) / 60
        done[str(number)] = {"run": str(lesion_exp.runs("attributes.status = 'FINISHED'").iloc[0]["run_id"]),
                             "minutes": minutes}  # fmt: skip
        file.write_text(json.dumps(done, indent=1), encoding="utf-8")


def trained(folder: Path, jobs: Mapping[str, Any]) -> list[Trained]:
    """Returns the trainings that `folder` knows, the plan first and then the draws, the best on validation first."""
    done = json.loads((folder / "trained.json").read_text(encoding="utf-8"))
    found = []
    for number, entry in done.items():
        opened = open_run(entry["run"])
        what = " ".join(_told(["", *jobs["draws"]][int(number)])) or f"{jobs['network']}, by the rules"
        val, test = (opened.metrics[f"{part}/{METRIC}"] for part in ("best/val", "test"))
        name = f"draw {number}" if int(number) else PLAN_NAME
        found.append(Trained(name, what, opened.run_id, entry["minutes"], val, test))
    return [*found[:1], *sorted(found[1:], key=lambda one: -one.val)]


def _told(words: Sequence[str]) -> list[str]:
    """The words of a draw that it does not share with the others."""
    shared = ("dataset", "split", "seed", "evaluation", "tracking", "optimizer=")
    return [f"`{word}`" for word in words if not word.startswith(shared)]


def table(found: Sequence[Trained], most: int) -> PrintedTable:
    """Returns the plan and the `most` draws that are best on validation, with the paired difference of the plan."""
    rows = []
    for one in found[: most + 1]:
        difference = Entry("")
        if one is not found[0]:
            difference = difference_in_words(paired_difference([found[0].run_id], [one.run_id]))
        scores = [Entry(f"{score:.3f}") for score in (one.val, one.test)]
        rows.append([Entry(one.name), Entry(one.what), Entry(f"{one.minutes:.1f}"), *scores, difference])
    head = ["training", "what", "minutes", "validation", "test", "plan minus this one, test"]
    return PrintedTable(head, [rows], 2, [])


def page(found: Sequence[Trained], jobs: Mapping[str, Any], most: int = 3) -> str:
    """Returns the comparison as text: the rank of the plan, its time against what it promised, and the table."""
    plan, draws = found[0], found[1:]
    better = sum(one.test > plan.test for one in draws)
    ratio = plan.minutes / jobs["expected_minutes"]
    return (
        f"Expected {jobs['expected_minutes']:.1f} minutes, took {plan.minutes:.1f} ({ratio:.2f} times). "
        f"{better} of {len(draws)} draws have a higher balanced accuracy on the test part, whose median is "
        f"{median(one.test for one in draws):.3f}; a draw took {median(one.minutes for one in draws):.1f} minutes. The "
        f"draws that are best on validation:\n\n{table(found, most).markdown()}"
    )


def main(arguments: Sequence[str] | None = None) -> None:
    """Makes and trains what is missing, and prints the comparison."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, help="folder of the plan, its draws and their speeds")
    parser.add_argument("words", nargs="*", help="words of `plan`: data set and split")
    parser.add_argument("--hours", type=float, default=0.03, help="budget of each training")
    parser.add_argument("--draws", type=int, default=20)
    parser.add_argument("--seed", type=int, default=0, help="seed of the draws")
    parser.add_argument("--table", action="store_true", help="train nothing")
    parsed = parser.parse_args(arguments)
    if parsed.table and not (parsed.folder / "trained.json").exists():
        parser.exit(2, f"expected a comparison in {parsed.folder}, got none; leave --table out to make it\n")
    jobs = prepared(parsed.folder, parsed.words, parsed.hours, parsed.draws, parsed.seed)
    if not parsed.table:
        train_all(parsed.folder, jobs)
    print(page(trained(parsed.folder, jobs), jobs))


if __name__ == "__main__":
    main()
