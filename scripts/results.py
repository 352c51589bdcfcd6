"""Trains the presets, tests them, and writes the tables of their results into docs/results.md.

    python scripts/results.py root=DIR                         # trains what the store does not have yet: many hours
    python scripts/results.py root=DIR --rows largest_class probe scratch_8
    python scripts/results.py root=DIR --folds --external DIR  # also five folds of each row, and PH2
    python scripts/results.py root=DIR --table                 # trains nothing

DIR is the folder of HAM10000. A row of the table is a command, and a run belongs to a row if it has the hash of that
command's job. A row with a finished run in the store is not trained again, so the script goes on after an interruption,
and `lesion-exp reproduce run=ID` repeats a row. Rows without a finished run are left out of the table. Times are those
of the machine that the table names; run nothing else on it meanwhile.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean, median
from typing import Any, Final

import pandas as pd

import lesion_exp
from lesion_exp import open_run, runs
from lesion_exp.dataset.path_patterns import as_value
from lesion_exp.image_file import read_image
from lesion_exp.tracking.stored_run import Run
from lesion_exp.trained_runs.printed_table import Entry, PrintedTable
from lesion_exp.trained_runs.trained_run import TrainedRun

PAGE: Final = Path(__file__).parents[1] / "docs" / "results.md"
MARKS: Final = ("<!-- written by scripts/results.py -->\n", "<!-- end of what scripts/results.py writes -->\n")
"""What stands before and after the part of the page that is written."""
FOLDS: Final = ("split=kfold", "split.num_folds=5")
MEMBERS: Final = 3
"""The networks of an ensemble; they differ in their seed."""
METRICS: Final = {
    "accuracy": "accuracy",
    "balanced_accuracy": "balanced accuracy",
    "auroc_macro": "macro AUROC",
    "sensitivity_at_95_specificity/malignant": "malignant: sensitivity at 95% specificity",
    "ece": "ECE",
}
"""The results that are shown, with their headings."""


@dataclass(frozen=True)
class Row:
    """A row of the table: a training, as it is written after `lesion-exp train`."""

    name: str
    what: str
    overrides: tuple[str, ...]
    against: str = ""
    """The row whose difference from this one is tested; empty for none."""
    teacher: str = ""
    """The row whose run the network learns from (`loss.teacher`); empty for none. It stands above."""
    mean_of: str = ""
    """The row whose networks are averaged here, `MEMBERS` of them; empty for a row of single networks."""


LARGEST: Final = Row("largest_class", "always the largest class, nv", ())
"""The row that is imported instead of trained."""
ROWS: Final = (
    LARGEST,
    Row("scratch_8", "ResNet-18 from scratch, 8 epochs", ("experiment=ham10000_cpu", "trainer.max_epochs=8")),
    Row("speedrun", "the same 8 epochs with an adjusted loss, age, sex and site",
        ("experiment=ham10000_speedrun",), "scratch_8"),
    Row("scratch_30", "ResNet-18 from scratch, 30 epochs", ("experiment=ham10000_cpu",), "scratch_8"),
    Row(
        "scratch_60",
        "ResNet-18 from scratch, 60 epochs",
        ("experiment=ham10000_cpu", "trainer.max_epochs=60"),
        "scratch_30",
    ),
    Row("metadata", "the 8 epochs of scratch_8, with age, sex and site",
        ("experiment=ham10000_cpu", "trainer.max_epochs=8", "backbone.metadata=concat"), "scratch_8"),
    Row("mask_crop", "the 8 epochs of scratch_8, cropped to the lesion's mask",
        ("experiment=ham10000_cpu", "trainer.max_epochs=8", "dataset.mask=crop"), "scratch_8"),
    Row("mask_overlay", "the 8 epochs of scratch_8, with the mask's outline drawn",
        ("experiment=ham10000_cpu", "trainer.max_epochs=8", "dataset.mask=overlay"), "scratch_8"),
    Row("probe", "probe of an ImageNet encoder", ("experiment=probe", "dataset=ham10000"), "scratch_8"),
    Row("finetuned_8", "fine-tuned with age, sex and site, 8 epochs at 128 pixels",
        ("experiment=ham10000_finetuned", "image_size=128", "trainer.max_epochs=8"), "scratch_30"),
    Row("finetuned_20", "fine-tuned with age, sex and site, 20 epochs",
        ("experiment=ham10000_finetuned",), "finetuned_8"),
    Row("ensemble", f"the mean of {MEMBERS} networks of finetuned_8, which differ in their seed", (), "finetuned_8",
        mean_of="finetuned_8"),
    Row("distilled", "a network for a phone that learns from that ensemble, with age, sex and site, 12 epochs",
        ("experiment=distill", "dataset=ham10000", "backbone.metadata=concat", "sampler.power=0.75"), "ensemble",
        teacher="ensemble"),
)  # fmt: skip


@dataclass(frozen=True)
class Measured:
    """A row with its runs, one for each seed."""

    row: Row
    run_ids: tuple[str, ...]
    test: Mapping[str, Mapping[str, float]]
    """By metric: `value`, `low`, `high`; of several runs the mean, with an interval over lesions and seeds."""
    minutes: float | None
    images_per_second: float | None
    network: str
    machine: str
    difference: Mapping[str, Any] | None = None
    """The difference in balanced accuracy from `other`: `difference`, `low`, `high`, `p_corrected`."""
    other: str = ""
    """The row that it was compared with: `against`, or where that has no run, the largest class."""


def named(name: str) -> Row:
    """Returns the row `name`."""
    return next(row for row in ROWS if row.name == name)


def job_overrides(row: Row, root: Path, seed: int) -> list[str] | None:
    """Returns the words after `lesion-exp train` that make a run of `row`; None as long as its teacher has no run."""
    words = [*row.overrides, f"dataset.root={as_value(str(root))}", f"seed={seed}", f"tracking.run_name={row.name}"]
    if not row.teacher:
        return words
    found = finished_run(named(row.teacher), root, seed)
    return None if found is None else [*words, f"loss.teacher={found}"]


def job_hash(overrides: Sequence[str]) -> str:
    """Returns the hash of the job that `overrides` make."""
    from lesion_exp.command.arguments import Arguments, compose_job
    from lesion_exp.command.verbs import VERBS

    job = compose_job(Arguments([*overrides], VERBS["train"].own_keys, show_tree=False, from_python=True))
    assert job is not None, "it is None only after --cfg job"
    return job.job_hash


def finished(overrides: Sequence[str] | None) -> pd.Series | None:
    """Returns the most recent finished run of the job that `overrides` make, as a row of `lesion_exp.runs`."""
    if overrides is None:
        return None
    found = runs(f"tags.job_hash = '{job_hash(overrides)}' and attributes.status = 'FINISHED'")
    return None if found.empty else found.iloc[0]


def finished_run(row: Row, root: Path, seed: int) -> str | None:
    """Returns the id of the most recent finished run of `row`; None if there is none, and for the row of imports.

    An ensemble has the same run for every seed.
    """
    if row.mean_of:
        members = [finished_run(named(row.mean_of), root, each) for each in range(MEMBERS)]
        condition = f"tags.members = '{','.join(map(str, members))}' and metrics.`test/balanced_accuracy` >= 0"
        found = pd.DataFrame() if None in members else runs(condition)
        return None if found.empty else str(found.iloc[0]["run_id"])
    if not row.overrides:
        return None
    run = finished(job_overrides(row, root, seed))
    return None if run is None else str(run["run_id"])


def train(overrides: Sequence[str], *flags: str) -> None:
    """Trains in a process of its own, as a user does.

    Raises:
        subprocess.CalledProcessError: the training failed; its output, above, has the reason.
    """
    command = [sys.executable, "-m", "lesion_exp", "train", *flags, *overrides]
    print(f"== lesion-exp {' '.join(command[3:])}", file=sys.stderr)
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)


def make(row: Row, root: Path, seed: int) -> None:
    """Makes the run of `row`, and before it those that it is made from, where the store lacks them."""
    for name in filter(None, (row.teacher, row.mean_of)):
        for each in range(MEMBERS) if row.mean_of else (seed,):
            make(named(name), root, each)
    if finished_run(row, root, seed) is not None:
        return
    if row.mean_of:
        members = [finished_run(named(row.mean_of), root, each) for each in range(MEMBERS)]
        lesion_exp.evaluate([run for run in members if run is not None], ensemble="mean")
    else:
        words = job_overrides(row, root, seed)
        assert words is not None, "its teacher was made above"
        train(words)


def largest_class(like: str) -> str:
    """Returns the id of the run that always predicts the largest class of validation, on the images of the run `like`.

    It is imported once for each split.
    """
    name = f"{LARGEST.name} {open_run(like).run.tags['split_hash']}"
    found = runs(f"attributes.run_name = '{name}' and attributes.status = 'FINISHED'")
    if not found.empty:
        return str(found.iloc[0]["run_id"])
    opened = open_run(like)
    largest = opened.predictions("val")["label"].mode()[0]
    ids = pd.concat([opened.predictions(part)["image_id"] for part in ("val", "test")])
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "largest_class.csv"
        pd.DataFrame({"image_id": ids, "prediction": largest}).to_csv(path, index=False)
        return lesion_exp.import_predictions(path, like=like, name=name, values="labels").run_id


def measured(row: Row, run_ids: Sequence[str], other: str, others: Sequence[str]) -> Measured:
    """Returns the results of the runs of a row, and their difference from the runs `others` of the row `other`."""
    opened = [open_run(run_id) for run_id in run_ids]
    first = opened[0]
    difference = paired_difference(run_ids, others) if others else None
    if len(opened) == 1:
        test = {name: _estimate(first.metrics, f"test/{name}") for name in METRICS}
    else:
        test = {name: {"value": fmean(one.metrics[f"test/{name}"] for one in opened)} for name in METRICS}
        (pooled,) = lesion_exp.compare(*run_ids, part="test").report.to_dict()["pooled"]
        for name, found in pooled["metrics"].items():  # it has no malignant sensitivity
            if name in test:
                test[name] = {"value": found["mean"], "low": found["low"], "high": found["high"]}
    if row is LARGEST:
        return Measured(row, tuple(run_ids), test, None, None, "no network", "", None)
    trained = [open_run(each) for each in first.run.members] or opened
    minutes = median(job_minutes(one.run) for one in trained) * len(trained) / len(opened)
    job = trained[0].frozen_job("a row of trainings")
    rates = [
        one.run.metrics["time/images_per_second"] for one in trained if "time/images_per_second" in one.run.metrics
    ]
    weights = "ImageNet" if trained[0].run.params["backbone.weights"] != "none" else "no"
    return Measured(
        row,
        tuple(run_ids),
        test,
        minutes,
        median(rates) if rates else None,
        f"{trained[0].run.tags['backbone']}, {weights} weights, {job.config['image_size']} px",
        machine_of(trained[0]),
        difference,
        other,
    )


def paired_difference(run_ids: Sequence[str], others: Sequence[str]) -> dict[str, Any]:
    """Returns the difference in balanced accuracy on the test part: of the runs of one job less those of another."""
    report = lesion_exp.compare(*run_ids, *others, part="test").report.to_dict()
    own = next(job for job in report["jobs"] if job["runs"][0] in run_ids)
    return signed(report["pairs"][0], own["letter"])


def difference_in_words(found: Mapping[str, Any]) -> Entry:
    """Returns a `paired_difference` with its interval."""
    return Entry(f"{found['difference']:+z.3f}", f" ({found['low']:+z.3f} to {found['high']:+z.3f})")


def signed(pair: Mapping[str, Any], letter: str) -> dict[str, Any]:
    """Returns the difference in balanced accuracy of a compared pair: of the job `letter` less the other one."""
    found = pair["differences"]["balanced_accuracy"]
    ends = {name: found[name] for name in ("difference", "low", "high")}
    if pair["first"] != letter:
        ends = {"difference": -found["difference"], "low": -found["high"], "high": -found["low"]}
    return {**ends, "p_corrected": found["p_corrected"]}


def pooled_folds(row: Row, root: Path) -> Mapping[str, Mapping[str, float]] | None:
    """Returns the results of the five folds of a row taken together; None if they have not been trained."""
    words = job_overrides(row, root, 0) if row.overrides else None
    first = None if words is None else finished([*words, *FOLDS, "split.fold=0", "test=true"])
    if first is None or first["parent"] is None:
        return None
    metrics = open_run(str(first["parent"])).metrics
    return {name: _estimate(metrics, f"test/{name}") for name in METRICS}


def external(run_id: str, root: Path) -> Mapping[str, Mapping[str, float]]:
    """Returns the results of a run on PH2, whose classes are mapped by the taxonomy."""
    members = open_run(run_id).run.members
    words = ["dataset=ph2", f"dataset.root={as_value(str(root))}"]
    found = lesion_exp.evaluate(members or run_id, *words, ensemble="mean" if members else None).metrics
    return {
        name: {"value": found[name].value, "low": found[name].interval[0], "high": found[name].interval[1]}
        for name in ("accuracy", "auroc/malignant", "sensitivity_at_95_specificity/malignant")
        if name in found
    }


def table(rows: Sequence[Measured]) -> PrintedTable:
    """Returns the results on the test part as a table."""
    entries = [
        [
            Entry(f"`{one.row.name}`: {one.row.what}"),
            Entry(one.network),
            Entry("" if one.minutes is None else f"{one.minutes:.1f}"),
            Entry("" if one.images_per_second is None else f"{one.images_per_second:.0f}"),
            *(estimate_in_words(one.test.get(name)) for name in METRICS),
            _difference_in_words(one),
        ]
        for one in rows
    ]
    head = ["training", "network", "minutes", "images/s", *METRICS.values(), "difference in balanced accuracy"]
    return PrintedTable(head, [entries], 2, [])


def written_into(text: str, part: str, marks: tuple[str, str] = MARKS) -> str:
    """Returns the page `text` with `part` between its `marks`, in the place of what was there.

    Raises:
        ValueError: the page lacks a mark.
    """
    before, first, rest = text.partition(marks[0])
    _, last, after = rest.partition(marks[1])
    if not (first and last):
        raise ValueError(f"expected a page with the lines {' and '.join(marks)}, got one without them; add them")
    return f"{before}{first}\n{part}\n{last}{after}"


def page(
    rows: Sequence[Measured],
    folds: Mapping[str, Mapping[str, Mapping[str, float]]],
    outside: Mapping[str, Mapping[str, Mapping[str, float]]],
) -> str:
    """Returns the written part of the page: the tables, and the command of each row."""
    machines = sorted({one.machine for one in rows if one.machine})
    tested = next(open_run(one.run_ids[0]) for one in rows if one.machine)
    split = tested.run.tags["split_hash"]
    images = len(tested.predictions("test"))
    height, width = read_image(tested.data().loaded.table["image_path"].iloc[0]).shape[:2]
    missing = [row.name for row in ROWS if row.name not in {one.row.name for one in rows}]
    parts = [
        "`scripts/results.py` writes this part of the page from finished runs. Each row is a command, listed below; "
        "`lesion-exp reproduce run=ID` repeats a run. Training uses the training part alone, the best epoch is chosen "
        "on the validation part, and the test part is read once.",
        f"Measured on: {'; '.join(machines)}. Minutes are those of the whole run: start, training, evaluation, "
        f"pictures, and the pause of a run that was stopped. The image files have {width} x {height} pixels.",
        f"### The test part of the grouped split\n\nSplit {split}, {images:,} test images. The intervals are 95% "
        "intervals over lesions. A difference is that from the row that its last words name, paired over lesions, with "
        "the p-value of `lesion-exp compare`. It is corrected for the metrics, and the interval is not, so that an "
        "interval without 0 may stand beside a large p; neither is corrected for the number of rows. "
        "[Statistics](statistics.md) describes both. Where the row that a difference is meant from was not trained, it "
        "is that from the largest class.",
        table(rows).markdown().strip(),
    ]
    if folds:
        parts.append(
            "### Five grouped folds\n\nEach lesion is tested once; the five test parts are evaluated together."
        )
        parts.append(_small_table(rows, folds, METRICS).markdown().strip())
    if outside:
        heads = {"accuracy": "accuracy", "auroc/malignant": "melanoma against nevi: AUROC",
                 "sensitivity_at_95_specificity/malignant": "sensitivity at 95% specificity"}  # fmt: skip
        parts.append(
            "### PH2 as an external test\n\nThe 200 images of PH2 come from another clinic, and no run has seen one. "
            "Nevi of PH2 are nv; a prediction of one of the other five classes is an error."
        )
        parts.append(_small_table(rows, outside, heads).markdown().strip())
    listed = "\n".join(_commands(one.row) for one in rows if one.row is not LARGEST)
    parts.append(f"### Commands\n\n```bash\n{listed}\n```")
    if missing:
        parts.append(f"The script also has rows that were not trained for this page: {', '.join(missing)}.")
    return "\n\n".join(parts) + "\n"


def main(arguments: Sequence[str] | None = None) -> None:
    """Trains the chosen rows where the store has no run of them, and writes the page."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("root", type=as_root, help="root=DIR: the folder of HAM10000")
    parser.add_argument("--rows", nargs="+", choices=[row.name for row in ROWS], help="rows to train; default: all")
    parser.add_argument("--seeds", type=int, default=1, help="runs of each row")
    parser.add_argument("--folds", action="store_true", help="also train five folds of each row")
    parser.add_argument("--external", type=Path, help="folder of PH2, for an external test")
    parser.add_argument("--table", action="store_true", help="train nothing")
    parser.add_argument("--output", type=Path, default=PAGE, help="the page, which has the two marks")
    parsed = parser.parse_args(arguments)
    chosen = [row for row in ROWS if row is not LARGEST and (parsed.rows is None or row.name in parsed.rows)]
    if not parsed.table:
        for row in chosen:
            for seed in range(parsed.seeds):
                make(row, parsed.root, seed)
            words = job_overrides(row, parsed.root, 0) if row.overrides and not row.teacher else None
            if parsed.folds and words and pooled_folds(row, parsed.root) is None:
                train([*words, *FOLDS, "split.fold=0,1,2,3,4", "test=true"], "-m")
    found = dict(_with_runs(parsed.root, parsed.seeds))
    if not found:
        parser.exit(2, "expected finished runs of these rows in the store, got none; leave --table out to train them\n")
    found = {LARGEST.name: [largest_class(next(iter(found.values()))[0])], **found}
    rows = []
    for row in ROWS:
        if row.name in found:
            other = row.against if row.against in found else LARGEST.name
            rows.append(measured(row, found[row.name], other, () if row is LARGEST else found[other]))
    folds = {row.name: results for row in ROWS if (results := pooled_folds(row, parsed.root))}
    outside = {
        one.row.name: external(one.run_ids[0], parsed.external)
        for one in rows
        if parsed.external is not None and one.machine
    }
    whole = written_into(parsed.output.read_text(encoding="utf-8"), page(rows, folds, outside))
    parsed.output.write_text(whole, encoding="utf-8")
    print(f"written: {parsed.output}", file=sys.stderr)


def _commands(row: Row) -> str:
    """The command that makes a run of `row`, below a remark with its name."""
    if row.mean_of:
        letters = [chr(ord("A") + number) for number in range(MEMBERS)]
        return (
            f"# {row.name}; {', '.join(letters)} are the runs of {row.mean_of} with seed=0 to seed={MEMBERS - 1}\n"
            f"lesion-exp evaluate 'run=[{','.join(letters)}]' ensemble=mean"
        )
    words = [*row.overrides, "dataset.root=DIR"]
    if not row.teacher:
        return f"# {row.name}\nlesion-exp train {' '.join(words)}"
    return f"# {row.name}; RUN is the run of {row.teacher}\nlesion-exp train {' '.join(words)} loss.teacher=RUN"


def _with_runs(root: Path, seeds: int) -> Iterator[tuple[str, list[str]]]:
    """Each row that has finished runs of the seeds, with their ids."""
    for row in ROWS:
        found = [finished_run(row, root, seed) for seed in range(1 if row.mean_of else seeds)]
        ids = [run for run in found if run is not None]
        if ids:
            yield row.name, ids


def as_root(text: str) -> Path:
    if not text.startswith("root=") or not Path(text[5:]).is_dir():
        raise argparse.ArgumentTypeError(f"expected root=DIR, the folder of HAM10000, got {text}")
    return Path(text[5:]).absolute()


def _estimate(metrics: Mapping[str, float], name: str) -> dict[str, float]:
    keys = {"value": name, "low": f"{name}_low", "high": f"{name}_high"}
    return {key: metrics[text] for key, text in keys.items() if text in metrics}


def job_minutes(run: Run) -> float:
    """Returns how long a run took, from its start to its end."""
    info = run.store.client.get_run(run.run_id).info
    return float(info.end_time - info.start_time) / 60_000


def machine_of(run: TrainedRun) -> str:
    """Returns the processors, or the number of GPUs, on which a run was trained."""
    folder = run.artifact("environment")
    hardware = json.loads((folder / "hardware.json").read_text())
    threads = json.loads((folder / "python.json").read_text())["torch_num_threads"]
    gpus = hardware["gpus"]
    on_cpu = f"{threads} threads of {hardware['cpu']} ({', '.join(hardware['instructions'])})"
    return f"{len(gpus)} GPU, {on_cpu}" if gpus else on_cpu


def estimate_in_words(estimate: Mapping[str, float] | None) -> Entry:
    """Returns a value with its interval; empty if there is none."""
    if not estimate or "value" not in estimate:
        return Entry("")
    ends = f" ({estimate['low']:.3f} to {estimate['high']:.3f})" if "low" in estimate and "high" in estimate else ""
    return Entry(f"{estimate['value']:.3f}", ends)


def _difference_in_words(one: Measured) -> Entry:
    if one.difference is None:
        return Entry("")
    found = one.difference
    p_value = "not tested" if found["p_corrected"] is None else _p_in_words(found["p_corrected"])
    ends = f" ({found['low']:+z.3f} to {found['high']:+z.3f}), {p_value}, from {one.other}"
    return Entry(f"{found['difference']:+z.3f}", ends)


def _p_in_words(p_value: float) -> str:
    return "p < 0.001" if p_value < 0.001 else f"p = {p_value:.3f}"


def _small_table(
    rows: Sequence[Measured], results: Mapping[str, Mapping[str, Mapping[str, float]]], heads: Mapping[str, str]
) -> PrintedTable:
    entries = [
        [
            Entry(f"`{one.row.name}`: {one.row.what}"),
            *(estimate_in_words(results[one.row.name].get(name)) for name in heads),
        ]
        for one in rows
        if one.row.name in results
    ]
    return PrintedTable(["training", *heads.values()], [entries], 1, [])


if __name__ == "__main__":
    main()
