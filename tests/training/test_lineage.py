"""What teachers and initial weights have seen is found through all runs behind them; the unknown is told."""

from types import SimpleNamespace

import pandas as pd
import pytest

from lesion_exp.dataset.id_origin import with_id_origin
from lesion_exp.errors import ConfigError, LeakageError
from lesion_exp.split.audit import Audit
from lesion_exp.split.manifest import manifest, split_hash
from lesion_exp.split.seen_before import LABELS, seen_again, seen_rows
from lesion_exp.training.data import SplitData, load_data, split_data
from lesion_exp.training.lineage import with_lineage
from lesion_exp.training.seen_before import UNKNOWN_TEXT, inherited, seen_by, warn_of_same_ids, with_inherited
from lesion_exp.verbs.evaluate import evaluated_runs
from lesion_exp.verbs.evaluate.request import SHARED_KEYS, EvaluationRequest
from tests.split.test_seen_before import table_of

PRETRAINING = {"loss": {}, "pretrain": {"parts": "train"}}
PROBED = "best/val/knn_balanced_accuracy"


@pytest.fixture
def add(tmp_path, monkeypatch):
    """Adds a run to a store: its split, the config of its job, its metrics and tags, what was seen before it."""
    runs = {}

    def find(_, name):
        if name not in runs:
            raise ConfigError(name)
        return runs[name]

    def add(name, rows, config=None, before=None, metrics=(), **tags):
        named = rows.assign(row_id=rows["image_id"], label="nv")
        tables = {"split/manifest.parquet": manifest(named), "split/seen_before.parquet": before}
        paths = {path: tmp_path / f"{name}_{path[6:]}" for path, table in tables.items() if table is not None}
        for path, place in paths.items():
            tables[path].to_parquet(place)
        tags |= {"split_hash": split_hash(named)}
        run = SimpleNamespace(run_id=name, tags=tags, metrics=dict.fromkeys(metrics, 0.5), fetch=paths.get)
        run.config, run.members = {"dataset": {"name": "clinic"}, **(config or {"loss": {}})}, []
        runs[name] = run
        return run

    project = SimpleNamespace(from_config=lambda _: SimpleNamespace(store=None))
    for module in ("lineage", "seen_before"):
        monkeypatch.setattr(f"lesion_exp.training.{module}.find_run", find)
        monkeypatch.setattr(f"lesion_exp.training.{module}.job_of", lambda run: SimpleNamespace(config=run.config))
        monkeypatch.setattr(f"lesion_exp.training.{module}.Project", project)
    return add


def config_of(teacher=None, weights_run=None, dataset=None):
    loss = {} if teacher is None else {"teacher": teacher, "teacher_weights": "0" * 16}
    return {
        "dataset": dataset or {"name": "clinic"},
        "loss": loss,
        "backbone": {"weights_run": weights_run},
        "split": {"allow_leakage": False},
    }


def table_in(folder):
    return {"name": "clinic", "_target_": "lesion_exp.dataset.csv.read_csv", "root": folder, "table": "cases.csv"}


def split_of(rows):
    audit = Audit({}, {}, {}, {}, {}, len(rows), {}, 0)
    return SplitData(None, rows, audit, "hash", leaky=False, classes=("nv",))


def of_patients(source="clinic"):
    return table_of(source).assign(patient_id=["P0", "P0", "P0", "P0", "P1", "P1"])


def alone():
    """Images of which no two show the same lesion or patient."""
    return table_of().assign(lesion_id=None)


def other_lesion(mine, row, name="I9"):
    """Another lesion of the patient of a row, in training."""
    return mine.iloc[[row]].assign(image_id=name, lesion_id=f"L{name}", sha256=name, phash=99, split="train")


def test_a_patient_whose_labels_were_learned_is_a_leak_for_teachers_and_weights_alike(add):
    mine = of_patients()
    add("first", other_lesion(mine, 5))
    with pytest.raises(LeakageError, match=r"2 images of validation or test that the teacher was trained on \(I4, I5"):
        with_lineage(config_of(teacher="first"), split_of(mine))
    with pytest.raises(LeakageError, match="2 of 4 test images with their labels"):
        with_inherited(config_of(weights_run="first"), split_of(mine))


def test_a_teacher_of_a_combined_set_is_matched_by_ids_without_their_prefix(add):
    mine = of_patients("ham10000")
    prefixed = {key: f"ham10000/{mine[key].iloc[4]}" for key in ("lesion_id", "patient_id")}
    add("first", other_lesion(mine, 4).assign(**prefixed))
    with pytest.raises(LeakageError, match=r"the teacher was trained on \(I4, I5\)"):
        with_lineage(config_of(teacher="first"), split_of(mine))


def test_equal_ids_are_the_same_patient_in_one_folder_and_doubtful_in_two(add, caplog):
    mine = of_patients("csv")
    add("first", other_lesion(mine, 5), {"loss": {}, "dataset": table_in("/data/a")})
    with pytest.raises(LeakageError, match="2 of 4 test images with their labels"):
        with_inherited(config_of(weights_run="first", dataset=table_in("/data/a")), split_of(mine))
    with pytest.raises(LeakageError, match=r"the teacher was trained on \(I4, I5\)"):
        with_lineage(config_of(teacher="first", dataset=table_in("/data/a")), split_of(mine))
    assert not caplog.messages
    for checked in (
        with_inherited(config_of(weights_run="first", dataset=table_in("/data/b")), split_of(mine))[0],
        with_lineage(config_of(teacher="first", dataset=table_in("/data/b")), split_of(mine)),
    ):
        assert (checked.leaky, checked.audit.warnings) == (False, [])
        assert "2 of the 5 images to be evaluated have the id" in caplog.messages.pop()


def test_what_a_teacher_was_pretrained_on_is_told(add):
    mine = alone()
    pretraining = add("pretraining", mine.assign(split="train"), PRETRAINING)
    add("first", mine, before=seen_by(pretraining))
    split = with_lineage(config_of(teacher="first"), split_of(mine))
    assert not split.leaky
    (warning,) = split.audit.warnings
    assert "have seen 4 of 4 test images without labels, 1 of 1 validation images without labels" in warning
    assert "transductive" in warning
    clean = add("clean", mine, before=seen_by(add("same_split", mine, PRETRAINING)))
    assert with_lineage(config_of(teacher=clean.run_id), split_of(mine)).audit.warnings == []


def test_test_images_by_which_a_pretraining_was_probed_are_told(add):
    mine = alone()
    add("probed", mine.assign(split=["train", "val", "val", "train", "train", "test"]), PRETRAINING, metrics=[PROBED])
    add("blind", mine.assign(split=["train", "val", "val", "train", "train", "test"]), PRETRAINING)
    split, found = with_inherited(config_of(weights_run="probed"), split_of(mine))
    assert not split.leaky
    assert "1 of 4 test images in the choice of the best epoch of a pretraining" in found.in_words
    assert "choice" not in inherited(config_of(weights_run="blind"), split_of(mine)).in_words


def test_weights_of_a_lost_run_stay_unknown_for_all_that_come_after(add):
    mine = alone()
    _, found = with_inherited(config_of(weights_run="lost"), split_of(mine))
    assert found.in_words == UNKNOWN_TEXT
    add("second", mine, seen_before=found.in_words)
    split, again = with_inherited(config_of(weights_run="second"), split_of(mine))
    assert again.in_words == UNKNOWN_TEXT
    assert any(UNKNOWN_TEXT in text for text in split.audit.warnings)
    taught = with_lineage(config_of(teacher="second"), split_of(mine))
    assert any(UNKNOWN_TEXT in text for text in taught.audit.warnings)


def test_labels_that_the_weights_before_a_run_knew_make_another_data_set_leaky(add, monkeypatch):
    mine = alone()
    first = add("first", mine.assign(split="train"))
    others = table_of("archive", "X").assign(sha256=list("abcdef"), phash=range(90, 96))
    second = add("second", others, before=seen_by(first))
    predicted = elsewhere(second, mine, monkeypatch)
    with pytest.raises(LeakageError, match="6 of its 6 images"):
        predicted()
    assert predicted(allow_leakage=True)


def test_other_images_of_a_trained_lesion_or_patient_make_another_data_set_leaky(add, monkeypatch):
    mine = of_patients()
    predicted = elsewhere(add("first", other_lesion(mine, 5)), mine, monkeypatch)
    with pytest.raises(
        LeakageError, match=r"0 of its 6 images(.|\n)*and 2 show a lesion or a patient(.|\n)*I4(.|\n)*I5"
    ):
        predicted()
    assert predicted(allow_leakage=True)
    strangers = mine.assign(patient_id=None, lesion_id=[f"M{number}" for number in range(6)])
    assert not elsewhere(add("second", other_lesion(mine, 5)), strangers, monkeypatch)()


def test_equal_ids_in_two_tables_of_one_folder_are_refused_with_what_to_do_if_they_are_of_other_patients(
    add, monkeypatch
):
    mine = of_patients()
    first = add("first", other_lesion(mine, 5))
    own = {"name": "csv", "_target_": "lesion_exp.dataset.csv.read_csv", "root": "/data"}
    said = "if equal ids mean other patients here(.|\n)*put each table with its images into a folder of its own"
    with pytest.raises(LeakageError, match=said):
        elsewhere(first, mine, monkeypatch, own)()
    with pytest.raises(LeakageError) as error:
        elsewhere(first, mine, monkeypatch)()
    assert "folder of its own" not in str(error.value)
    with pytest.raises(LeakageError) as error:
        elsewhere(add("second", mine.assign(split="train")), mine, monkeypatch, own)()
    assert "6 of its 6 images" in str(error.value)
    assert "folder of its own" not in str(error.value)


def elsewhere(run, table, monkeypatch, dataset=None):
    """A function that evaluates `run` on the data set `table`, and returns whether the result is leaky."""
    loaded = SimpleNamespace(table=table.assign(label=["nv", "mel"] * 3), store=None)
    monkeypatch.setattr(evaluated_runs, "load_data", lambda _: loaded)
    trained = SimpleNamespace(
        run=run,
        job_config=lambda _: {"dataset": dict.fromkeys(SHARED_KEYS)},
        network=lambda: SimpleNamespace(classes=("mel", "nv"), predict=lambda *_: pd.DataFrame()),
    )
    request = {
        "part": "test",
        "evaluation": {"ensemble": "mean", "calibration": "none"},
        "dataset": dataset or {"name": "others"},
    }

    def predicted(**given):
        return evaluated_runs.predictions_elsewhere(trained, EvaluationRequest(**request, **given))[1]

    return predicted


def test_folds_that_read_other_files_belong_to_another_cross_validation(monkeypatch):
    config = {"split": {"_target_": "kfold", "fold": 0, "num_folds": 2}, "dataset": {"pseudo_labels": "FILE"}}
    runs = {}
    for name, fold, digest in (("mine0", 0, "a"), ("theirs1", 1, "b"), ("mine1", 1, "a")):
        run = SimpleNamespace(run_id=name, name=name, store=None, params={}, fetch=lambda _: "job.yaml")
        split = {**config["split"], "fold": fold}
        run.job = SimpleNamespace(config={**config, "split": split}, files={"dataset.pseudo_labels": digest})
        runs[name] = run
    monkeypatch.setattr(evaluated_runs, "job_of", lambda run: run.job)
    monkeypatch.setattr(evaluated_runs, "runs_where", lambda *_: [runs["theirs1"], runs["mine1"], runs["mine0"]])
    assert [run.run_id for run in evaluated_runs.fold_runs(runs["mine0"])] == ["mine0", "mine1"]
    monkeypatch.setattr(evaluated_runs, "runs_where", lambda *_: [runs["theirs1"], runs["mine0"]])
    with pytest.raises(ConfigError, match="there is none of fold 1"):
        evaluated_runs.fold_runs(runs["mine0"])


def test_a_share_of_the_training_part_is_of_the_same_split_and_its_images_are_found_again(tiny_job):
    jobs = [tiny_job(f"split.train_share={share}") for share in (1.0, 0.5, 0.2)]
    loaded = load_data(jobs[0].config)
    splits = [split_data(job.config, loaded) for job in jobs]
    assert len({split.split_hash for split in splits}) == 1, "reads of the test part count together"
    assert len(splits[0].table) > len(splits[1].table) > len(splits[2].table)
    kept = manifest(splits[2].table, splits[2].split_hash)
    images, _ = seen_again(splits[0].table, seen_rows(kept, ("train",), splits[2].split_hash, "run", LABELS))
    trained = splits[2].table.query("split == 'train'")["image_id"]
    assert set(splits[0].table.loc[images, "image_id"]) == set(trained)


def test_equal_ids_that_a_reader_of_ones_own_gives_in_two_folders_are_told_and_are_no_leak(caplog):
    def read(root, **changed):
        rows = table_of("photos").assign(**changed)
        return with_id_origin(rows, {"_target_": "my_package.read_photos", "root": root})

    node = {"_target_": "my_package.read_photos", "root": "/clinic_b"}
    others = {"sha256": [f"other {number}" for number in range(6)], "phash": range(90, 96)}
    seen = seen_rows(read("/clinic_a", **others), ("train",), "0" * 16, "run1", LABELS)
    images, related = seen_again(read("/clinic_b"), seen)
    assert not images.any()
    assert not related.any()
    warn_of_same_ids(read("/clinic_b"), seen, node)
    (said,) = caplog.messages
    assert "have the id of a lesion or a patient that run run1 has seen in data of another folder" in said
    assert seen_again(read("/clinic_a"), seen)[1].any(), "in one folder they are the same lesions"
    same = seen_rows(read("/clinic_a"), ("train",), "0" * 16, "run1", LABELS)
    assert seen_again(read("/clinic_b"), same)[0].any(), "the same image is found in any folder"
