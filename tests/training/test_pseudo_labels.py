"""Pseudo-labelled images join the training part alone, count by their weight, and are known to the audit."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pandas as pd
import pytest

from lesion_exp.cli import main
from lesion_exp.config.compose import compose
from lesion_exp.config.freeze import freeze, job_hash
from lesion_exp.errors import ConfigError, LeakageError
from lesion_exp.tracking.find import find_run
from lesion_exp.training.build import build
from lesion_exp.training.check_training import check_training
from lesion_exp.training.data import CROSSING, MAY_CROSS, load_data, split_data
from lesion_exp.training.run import train
from tests.tiny import TINY

pytestmark = pytest.mark.usefixtures("no_pictures")

QUIET = ("trainer.max_epochs=1", "tracking.log_images=false", "tracking.log_model=false", "test=false")


@pytest.fixture(scope="module")
def project(tiny_job, tmp_path_factory):
    """A labelled half of a generated data set, and the other half as a folder of images without labels."""
    root = tmp_path_factory.mktemp("halves")
    job = tiny_job(*QUIET, root=root)
    table = load_data(job.config).table
    lesions = sorted(table["lesion_id"].dropna().unique())
    unlabelled = table[table["lesion_id"].isin(lesions[::3])]
    clinic = root / "clinic"
    clinic.mkdir()
    for path in unlabelled["image_path"]:
        shutil.copy(path, clinic)
    shown = table[~table["image_id"].isin(unlabelled["image_id"])][["image_id", "label", "lesion_id", "patient_id"]]
    images = root / "images"
    images.mkdir()
    for path in table["image_path"]:
        shutil.copy(path, images)
    (images / "t.csv").write_text(shown.to_csv(index=False))
    both = pd.concat([shown, unlabelled[["image_id", "lesion_id", "patient_id"]]])
    (images / "all.csv").write_text(both.to_csv(index=False))
    return root, unlabelled


@pytest.fixture(scope="module")
def job_of(project):
    """Makes jobs on the table of the labelled images, or with `table="all.csv"` on that of all."""
    root, _ = project

    def make(*overrides, table="t.csv"):
        data = ("dataset=csv", f"dataset.root={root / 'images'}", f"dataset.table={table}")
        small = [text for text in TINY if not text.startswith("dataset.")]
        return freeze(compose([*small, *QUIET, *data, *overrides], root=root))

    return make


def written(path: Path, rows: pd.DataFrame, folder: Path, run_id: str = "unknown") -> Path:
    frame = pd.DataFrame(
        {
            "image_id": rows["image_id"],
            "image_path": [str(folder / Path(name).name) for name in rows["image_path"]],
            "label": rows["label"],
            "confidence": 0.93,
            "run_id": run_id,
            "weights_hash": "w",
            "calibration": "temperature",
            "threshold": 0.9,
        }
    )
    path.write_text(frame.to_csv(index=False))
    return path


def split_of(job):
    return split_data(job.config, load_data(job.config))


@pytest.fixture(scope="module")
def plain(job_of):
    return split_of(job_of())


def with_labels(job_of, path, *overrides, table="t.csv"):
    return job_of(f"dataset.pseudo_labels={path}", "dataset.pseudo_weight=0.5", *overrides, table=table)


def test_the_split_of_the_labelled_images_stays_and_the_others_are_trained_on(project, job_of, plain, tmp_path):
    root, unlabelled = project
    job = with_labels(job_of, written(tmp_path / "p.csv", unlabelled, root / "clinic"))
    split = split_of(job)
    pseudo = split.table[split.table["pseudo_run"].notna()]
    assert 0 < len(pseudo) <= len(unlabelled)
    assert set(pseudo["split"]) == {"train"}
    assert split.split_hash == plain.split_hash
    assert split.audit.passed
    assert split.audit.parts == plain.audit.parts
    facts = split.audit.to_dict()["pseudo_labels"]
    assert facts["images"] == len(pseudo) == sum(facts["counts"].values())
    assert facts["counts"] == {name: int(count) for name, count in pseudo["label"].value_counts().sort_index().items()}
    assert facts["thresholds"] == dict.fromkeys(sorted(set(unlabelled["label"])), 0.9)
    assert "pseudo-labels: " in split.audit.summary()
    assert "pseudo_labels" not in plain.audit.to_dict()


def test_what_belongs_to_validation_or_test_is_never_trained_on(project, job_of, plain, tmp_path):
    """A file that names images of validation and test, copies of them, and other images of their lesions."""
    root, _ = project
    held_out = plain.table[plain.table["split"] != "train"]
    copies = root / "copies"
    copies.mkdir(exist_ok=True)
    for path in held_out["image_path"]:
        shutil.copy(path, copies / f"copy_{Path(path).name}")
    by_name = written(tmp_path / "names.csv", held_out, root / "images")
    renamed = held_out.assign(image_path=[f"copy_{Path(path).name}" for path in held_out["image_path"]])
    copied = pd.read_csv(written(tmp_path / "copies.csv", renamed, copies))
    known = pd.concat([pd.read_csv(by_name), copied.assign(image_id="copy_" + copied["image_id"].astype(str))])
    shown = plain.table[plain.table["split"] == "train"].head(1)
    extra = root / "clinic" / Path(project[1]["image_path"].iloc[0]).name
    of_test_lesion = known.head(1).assign(
        image_id="another", image_path=str(extra), lesion_id=held_out["lesion_id"].dropna().iloc[0]
    )
    fresh = known.head(1).assign(
        image_id="fresh", image_path=str(root / "clinic" / Path(project[1]["image_path"].iloc[-1]).name)
    )
    path = tmp_path / "all.csv"
    path.write_text(pd.concat([known, of_test_lesion, fresh]).to_csv(index=False))
    split = split_of(with_labels(job_of, path))
    pseudo = split.table[split.table["pseudo_run"].notna()]
    assert set(pseudo["image_id"]) <= {"pseudo/fresh"}
    assert split.audit.passed
    left_out = split.audit.pseudo_labels["left_out"]
    assert left_out["they have a label already"] == len(held_out)
    assert left_out[CROSSING] == len(held_out) + 1
    assert len(shown)


def test_rows_without_a_label_keep_their_ids_and_those_below_the_threshold_are_counted(
    project, job_of, plain, tmp_path
):
    root, unlabelled = project
    half = unlabelled.iloc[::2]
    path = written(tmp_path / "p.csv", half, root / "images")
    split = split_of(with_labels(job_of, path, table="all.csv"))
    pseudo = split.table[split.table["pseudo_run"].notna()].set_index("image_id")
    assert set(pseudo.index) <= set(half["image_id"])
    known = half.set_index("image_id").loc[pseudo.index]
    assert pseudo["lesion_id"].tolist() == known["lesion_id"].tolist()
    assert pseudo["label"].tolist() == known["label"].tolist()
    assert split.split_hash == plain.split_hash
    counted = split.audit.pseudo_labels["left_out"]
    assert counted["neither the data set nor the file has a label for them"] == len(unlabelled) - len(half)


def test_weights_reach_batches_and_counts_of_classes(project, job_of, plain, tmp_path):
    root, unlabelled = project
    job = with_labels(job_of, written(tmp_path / "p.csv", unlabelled, root / "clinic"))
    split = split_of(job)
    data = build(job.config, split).datamodule
    rows, dataset = data.parts["train"], data.dataset("train", training=True)
    weights = [float(dataset[(0, position)]["weight"]) for position in range(len(rows))]
    assert weights == rows["sample_weight"].tolist()
    assert set(weights) == {0.5, 1.0}
    assert "weight" not in data.dataset("val")[(0, 0)]
    before = build(job_of().config, plain).datamodule.class_counts()
    added = split.table[split.table["pseudo_run"].notna()]["label"].value_counts()
    expected = [count + 0.5 * added.get(name, 0) for name, count in zip(split.classes, before, strict=True)]
    assert data.class_counts() == [round(count) for count in expected]
    path = {"_target_": "lesion_exp.optimizer.logistic_path.LogisticPath", "decay_norms_and_biases": False}
    others = {"optimizer": path, "loss": {"_target_": "torch.nn.CrossEntropyLoss"}}
    for group, node in others.items():
        config = {**job.config, group: node}
        with pytest.raises(ConfigError, match=r"dataset\.pseudo_weight"):
            check_training(config, split)


def test_binary_targets_take_diagnoses_and_their_own_classes(project, job_of, tmp_path):
    root, unlabelled = project
    path = written(tmp_path / "p.csv", unlabelled, root / "clinic")
    split = split_of(with_labels(job_of, path, "task.target=malignant"))
    pseudo = split.table[split.table["pseudo_run"].notna()]
    assert set(pseudo["label"]) == {"benign", "malignant"}
    assert pseudo["diagnosis"].notna().all()
    binary = unlabelled.assign(label=["malignant" if label in ("mel", "bcc", "akiec") else "benign"
                                      for label in unlabelled["label"]])  # fmt: skip
    path = written(tmp_path / "b.csv", binary, root / "clinic")
    again = split_of(with_labels(job_of, path, "task.target=malignant"))
    found = again.table[again.table["pseudo_run"].notna()]
    assert found.set_index("image_id")["label"].to_dict() == pseudo.set_index("image_id")["label"].to_dict()


def test_another_file_is_other_data_and_an_older_job_has_the_hash_it_had(project, job_of, plain, tmp_path):
    root, unlabelled = project
    path = written(tmp_path / "p.csv", unlabelled, root / "clinic")
    job = with_labels(job_of, path)
    split = split_of(job)
    data = split.loaded.data
    assert {name: digest for name, digest in data.parts.items() if name != "pseudo_labels"} == plain.loaded.data.parts
    assert plain.loaded.data.differences(data.tags()) == ["pseudo-labels"]
    assert data.differences(plain.loaded.data.tags()) == ["pseudo-labels"]
    assert data.differences(data.tags()) == []
    path.write_text(path.read_text().replace("0.93", "0.94"))
    assert split_of(job).loaded.data.differences(data.tags()) == ["pseudo-labels"]
    with pytest.raises(ConfigError, match=r"the file of dataset\.pseudo_labels with the content"):
        job.check_files()
    bare = job_of()
    config = {**bare.config, "dataset": {k: v for k, v in bare.config["dataset"].items() if "pseudo" not in k}}
    assert job_hash(config, {}) == bare.job_hash


@pytest.mark.slow
def test_predictions_become_pseudo_labels_and_weight_0_is_absence(project, job_of, tmp_path, monkeypatch, own_process,
                                                                  capsys):  # fmt: skip
    """The way of a user: a run, its predictions on a folder, a run with them."""
    root, _ = project
    base = job_of()
    teacher = train(base).run_id
    monkeypatch.chdir(root)
    given = [f"run={teacher}", f"input={root / 'clinic'}", f"output={tmp_path / 'o.csv'}", "threshold=0.1"]
    path = tmp_path / "p.csv"
    assert main(["predict", *given, f"pseudo_labels={path}", "--json"]) == 0
    summary = json.loads(capsys.readouterr().out)
    rows, predicted = pd.read_csv(path), pd.read_csv(tmp_path / "o.csv")
    best = predicted[[name for name in predicted if name.startswith("p_")]].max(axis=1)
    assert len(rows) == int((best >= 0.1).sum()) == sum(summary["pseudo_counts"].values())
    assert set(rows["run_id"]) == {teacher}
    assert set(rows["calibration"]) == {"none"}
    assert any("uncalibrated" in text for text in summary["warnings"])
    assert json.loads((tmp_path / "o_facts.json").read_text())["pseudo_labels"]["counts"] == summary["pseudo_counts"]

    run = find_run(base.project.store, train(with_labels(job_of, path)).run_id)
    audit = json.loads(run.fetch("split/audit.json").read_text())
    assert audit["crossings"]["seen_by_labeller"]["count"] == 0
    assert audit["pseudo_labels"]["run_id"] == [teacher]
    manifest = pd.read_parquet(run.fetch("split/manifest.parquet"))
    assert set(manifest[manifest["pseudo_run"].notna()]["split"]) == {"train"}
    assert len(pd.read_parquet(run.fetch("predictions/val.parquet"))) == audit["parts"]["val"]["images"]
    with pytest.raises(LeakageError, match="that the run of the pseudo-labels was trained on"):
        train(with_labels(job_of, path, "split.seed=4"))

    def weights(job):
        return find_run(job.project.store, train(job).run_id).tags["weights_hash"]

    nothing = job_of(f"dataset.pseudo_labels={path}", "dataset.pseudo_weight=0")
    before = find_run(base.project.store, teacher).tags["weights_hash"]
    assert weights(nothing) == before != run.tags["weights_hash"]


def test_ids_without_the_name_of_a_set_are_those_of_its_test_part_too(project, job_of, tmp_path):
    """A file that was predicted for one clinic, for a training on this clinic among other sets, and the reverse."""
    root, unlabelled = project
    sets = f"{{clinic: {{set: csv, root: {root / 'images'}, table: t.csv}}}}"
    small = [text for text in TINY if not text.startswith("dataset.")]
    given = [*small, *QUIET, "dataset=combined", f"dataset.sets={sets}"]
    plain = split_of(freeze(compose(given, root=root)))
    held_out = plain.table[plain.table["split"] != "train"]
    of_set = held_out["lesion_id"].dropna().iloc[0]
    bare = of_set.removeprefix("clinic/")
    assert of_set == f"clinic/{bare}"
    path = tmp_path / "p.csv"

    def written_with(first):
        written(path, unlabelled, root / "clinic")
        rows = pd.read_csv(path, dtype=str).assign(lesion_id=None)
        rows.loc[0, "lesion_id"] = first
        path.write_text(rows.to_csv(index=False))
        return rows["image_id"][0]

    name = f"pseudo/{written_with(bare)}"
    split = split_of(freeze(compose([*given, f"dataset.pseudo_labels={path}"], root=root)))
    assert name not in set(split.table["image_id"])
    assert split.audit.pseudo_labels["left_out"][MAY_CROSS] == 1
    assert split.audit.passed
    held_out = split_of(job_of()).table.query("split != 'train'")
    written_with(f"clinic/{held_out['lesion_id'].dropna().iloc[0]}")
    again = split_of(with_labels(job_of, path))
    assert name not in set(again.table["image_id"])
    assert again.audit.pseudo_labels["left_out"][MAY_CROSS] == 1


def test_a_binary_target_takes_diagnoses_that_the_data_set_lacks(project, job_of, tmp_path):
    root, unlabelled = project
    strange = unlabelled.assign(label=["scc", *["nv"] * (len(unlabelled) - 1)])
    path = written(tmp_path / "p.csv", strange, root / "clinic")
    split = split_of(with_labels(job_of, path, "task.target=malignant"))
    pseudo = split.table[split.table["pseudo_run"].notna()].set_index("diagnosis")["label"]
    assert pseudo["scc"] == "malignant"
    assert set(pseudo["nv"]) == {"benign"}


def test_a_training_with_masks_reads_those_that_the_file_names(project, job_of, tmp_path):
    root, unlabelled = project
    masks = dict(zip(unlabelled["image_id"], unlabelled["mask_path"], strict=True))
    path = written(tmp_path / "p.csv", unlabelled, root / "clinic")
    pd.read_csv(path).assign(mask_path=list(masks.values())).to_csv(path, index=False)
    table = pd.read_csv(root / "images" / "t.csv")
    whole = load_data(job_of(f"dataset.pseudo_labels={path}").config).table
    drawn = Path(unlabelled["mask_path"].iloc[0])
    places = [
        str(drawn.with_name(drawn.name.replace(unlabelled["image_id"].iloc[0], name))) for name in table["image_id"]
    ]
    table.assign(mask_path=places).to_csv(root / "images" / "masked.csv", index=False)
    job = with_labels(job_of, path, "dataset.mask=channel", table="masked.csv")
    loaded = load_data(job.config).table
    assert len(loaded) == len(whole)
    new = loaded[loaded["pseudo_run"].notna()]
    assert new["mask_path"].tolist() == [masks[name.removeprefix("pseudo/")] for name in new["image_id"]]
