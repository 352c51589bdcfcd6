"""What is written down holds no secret, and what is given away names nobody: every byte that is left is searched."""

import logging
import os
import socket
import sys
import zipfile
from dataclasses import replace
from pathlib import Path

import pandas as pd
import pytest
import yaml

from lesion_exp.cli import main
from lesion_exp.config.compose import compose
from lesion_exp.config.freeze import freeze, read_job, relocated
from lesion_exp.privacy import KNOWN_VARIABLE, anonymized, redacted, with_credentials, with_home, without_secrets
from lesion_exp.sweeps.cell import write_json
from lesion_exp.sweeps.plan import plan_sweep
from lesion_exp.tracking.find import find_run
from lesion_exp.tracking.run import TrackedRun
from lesion_exp.tracking.run_writer import RedactingFormatter
from lesion_exp.tracking.store import open_store
from lesion_exp.verbs.bundle.export import export_runs
from tests.tiny import TINY
from tests.untrained_run import untrained_run

PERSON = "planted_person_77"
TOKEN = "planted-token-4711"
MACHINE = "planted-node-9"
PASSWORD = "planted-p@ss/word-12"
SERVER = f"postgresql://{PERSON}:{PASSWORD}@db.example/runs?sslmode=require"
REPOSITORY = str(Path(__file__).resolve().parents[1])


@pytest.fixture(autouse=True)
def planted(tmp_path, monkeypatch):
    """A home folder and a user, with a token and a password in the environment; the project lies in the home."""
    home = tmp_path / "home" / PERSON
    (home / "project").mkdir(parents=True)
    for name in (KNOWN_VARIABLE, "LESION_EXP_TRUST"):
        monkeypatch.delenv(name, raising=False)
    for name, value in {
        "HOME": str(home), "USER": PERSON, "LOGNAME": PERSON, "HOSTNAME": MACHINE, "PLANTED_TOKEN": TOKEN,
        "DB_PASSWORD": PASSWORD,
    }.items():  # fmt: skip
        monkeypatch.setenv(name, value)
    monkeypatch.chdir(home / "project")
    return home


def hits(folder, *words):
    """`file: word` for every word in any file below `folder`, also inside zips, checkpoints and parquet tables."""
    found = []
    for path in sorted(path for path in Path(folder).rglob("*") if path.is_file()):
        contents = {path.name: path.read_bytes()}
        if zipfile.is_zipfile(path):
            with zipfile.ZipFile(path) as archive:
                contents |= {name: archive.read(name) for name in archive.namelist()}
        if path.suffix == ".parquet":
            contents["table"] = pd.read_parquet(path).to_csv().encode()
        found += [
            f"{path.relative_to(folder)} {name}: {word}"
            for name, content in contents.items()
            for word in words
            if word.encode() in content or word.encode() in name.encode()
        ]
    return found


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("https://me:p@ss@host:5000/x", "https://host:5000/x"),
        ("https://token@host/x", "https://host/x"),
        (SERVER, "postgresql://db.example/runs?sslmode=require"),
        ("postgresql+psycopg://me:a/b@host/x", "postgresql+psycopg://host/x"),
        ("mysql://host/x?user=me&password=abc&ssl=1", "mysql://host/x?user=***&password=***&ssl=1"),
        ("it says https://a:b@c/d, and https://e:f@g/h.", "it says https://c/d, and https://g/h."),
        (f"Bearer {TOKEN}", "Bearer ***"),
        (f"password={PASSWORD}", "password=***"),
        ("http://127.0.0.1:5000/a?b=c", "http://127.0.0.1:5000/a?b=c"),
        ("#/runs?a=b&viewStateShareKey=lesion-exp", "#/runs?a=b&viewStateShareKey=lesion-exp"),
        ("http://host/x?a=b&accessKey=abc", "http://host/x?a=b&accessKey=***"),
        ("someone@example.org wrote a: b @ c", "someone@example.org wrote a: b @ c"),
        ("sqlite:////folder/mlflow.db", "sqlite:////folder/mlflow.db"),
    ],
)
def test_credentials_of_addresses_and_values_of_secret_variables_are_left_out(text, expected):
    assert without_secrets(text) == expected
    assert without_secrets({"a": [text, 1, None], text: (True,)}) == {"a": [expected, 1, None], expected: (True,)}


@pytest.mark.parametrize(
    ("name", "value"), [("MY_TOKEN", "true"), ("SORT_KEY", "12345678"), ("PWD", "/folder/x"), ("SHORT_KEY", "word")]
)
def test_ordinary_values_are_no_secrets(monkeypatch, name, value):
    monkeypatch.setenv(name, value)
    assert without_secrets(f"a {value} b") == f"a {value} b"


def test_a_path_in_a_variable_that_is_named_like_a_secret_is_none(monkeypatch, tmp_path):
    monkeypatch.setenv("DATA_KEY", str(tmp_path))
    assert without_secrets(f"{tmp_path}/x") == f"{tmp_path}/x"


def test_the_home_folder_is_a_tilde_where_something_is_kept(planted):
    assert redacted(f"{planted}/data and {planted}, not {planted}_2/x") == f"~/data and ~, not {planted}_2/x"
    assert redacted(f"sqlite:///{planted}/x.db") == "sqlite:///~/x.db"


@pytest.mark.parametrize(
    "text",
    [
        "dataset.root={home}/data",
        "tracking.uri=sqlite:///{home}/x.db",
        "a={{x: {home}, y: '{home}/b'}}",
        "c={home}/a,{home}",
    ],
)
def test_the_home_folder_is_put_back_where_a_tilde_stands_for_it(planted, text):
    written = text.format(home=planted)
    assert with_home({"a": [redacted(written)]}) == {"a": [written]}


@pytest.mark.parametrize("text", ["dataset.filter='~(age > 60)'", "~augmentation.transforms.rotate", "a ~ b", "x~/y"])
def test_a_tilde_that_is_no_home_folder_stays(planted, text):
    assert with_home(text) == text


def test_what_is_published_names_nobody_and_leaves_ordinary_words(monkeypatch):
    monkeypatch.setattr(socket, "gethostname", lambda: "node-17.lab.example")
    text = f"/home/ann/x, C:\\Users\\ann\\y, /scratch/mel/z, mel@node-17 of {PERSON}; test/recall/mel"
    assert anonymized(text, {"mel"}) == "~/x, ~\\y, /scratch/***/z, ***@*** of ***; test/recall/mel"
    picture = "data:image/png;base64,/mel/mel+mel=="
    assert anonymized(f'<img src="{picture}"> /a/mel/b', {"mel"}) == f'<img src="{picture}"> /a/***/b'


def test_a_job_holds_no_credential_and_this_process_still_knows_it(planted, tmp_path, caplog):
    (planted / "conf" / "experiment").mkdir(parents=True)
    (planted / "conf" / "experiment" / "mine.yaml").write_text(
        "# @package _global_\ntracking:\n  run_name: run of ${oc.env:PLANTED_TOKEN}\n  uri: ${oc.env:STORE}\n"
        "tags:\n  by: ${oc.env:PLANTED_TOKEN}\n  password: ${oc.env:DB_PASSWORD}\n"
    )
    os.environ["STORE"] = SERVER
    root = planted / "project"
    overrides = ["experiment=mine", f"tags.at=https://me:{TOKEN}@host/", f"dataset.root={planted}/data"]
    job = freeze(compose([*overrides, "dataset=ham10000"], config_dirs=[planted / "conf"], root=root))
    assert "tags.by contains the value of a variable" in caplog.text
    assert job.config["tracking"]["uri"] == without_secrets(SERVER)
    assert with_credentials(job.config["tracking"]["uri"]) == SERVER
    job.write(tmp_path / "out" / "job.yaml")
    assert not hits(tmp_path / "out", TOKEN, PASSWORD, PERSON, str(planted))
    again = read_job(tmp_path / "out" / "job.yaml")
    assert again.job_hash == job.job_hash
    assert again.config["paths"] == job.config["paths"]
    assert again.config["dataset"]["root"] == f"{planted}/data"
    moved = relocated(again, replace(job.project, store_uri=SERVER), {})
    assert moved.config["tracking"]["uri"] == without_secrets(SERVER)


def test_another_command_finds_the_credential_in_the_environment(monkeypatch):
    plain = without_secrets(SERVER)
    assert with_credentials(plain) == plain
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "postgresql://me:other@another.example/runs")
    assert with_credentials(plain) == plain
    monkeypatch.setenv("MLFLOW_TRACKING_URI", SERVER)
    assert with_credentials(plain) == SERVER


def test_the_ledger_of_a_sweep_holds_no_credential(planted, tmp_path):
    overrides = ["dataset=synthetic", f"tracking.uri='{SERVER}'", f"tags.a={TOKEN}", "seed=1,2"]
    plan = plan_sweep(overrides, root=planted / "project")
    write_json(tmp_path / "sweep.json", {"facts": vars(plan.facts), "error": f"{SERVER} {TOKEN}"})
    assert not hits(tmp_path, TOKEN, PASSWORD)


def test_a_run_writes_neither_into_its_tags_nor_its_log_nor_its_files(planted):
    root = planted / "project"
    store = open_store(None, root)
    params = {"uri": SERVER, "root": str(planted / "data")}
    run = TrackedRun.start(store, "study", f"of {TOKEN}", {"a": SERVER}, params)
    run.set_tags({"b": TOKEN})
    run.log_text(f"{SERVER} {TOKEN}", "a.txt")
    run.log_json({TOKEN: [SERVER]}, "a.json")
    logging.getLogger("lesion_exp").warning("it says %s", SERVER)
    with pytest.raises(RuntimeError), run:
        raise RuntimeError(f"no answer from {SERVER} with {TOKEN} in {planted}/data")
    assert not hits(root, TOKEN, PASSWORD)
    found = find_run(store, run.run_id)
    assert "no answer from postgresql://db.example" in found.tags["error"]
    assert found.params["root"] == "~/data"
    artifacts = store.artifact_dir(found.artifact_uri)
    assert "Traceback" in (artifacts / "log.txt").read_text()
    assert not hits(artifacts, PERSON, str(planted))


def test_a_traceback_is_formatted_without_secrets():
    try:
        raise ValueError(SERVER)
    except ValueError:
        record = logging.LogRecord("a", logging.ERROR, "a.py", 1, "failed with %s", (TOKEN,), sys.exc_info())
    text = RedactingFormatter("%(message)s").format(record)
    assert "ValueError: postgresql://db.example" in text
    assert PASSWORD not in text
    assert TOKEN not in text


def test_a_bundle_of_a_run_of_an_older_version_names_nobody(planted, tmp_path):
    run, config = untrained_run(planted / "project", f"tags.note={planted}/notes")
    artifacts = run.store.artifact_dir(run.artifact_uri)
    (artifacts / "log.txt").write_text(f"read {planted}/data and /home/ann/x by {PERSON} from {SERVER} on {MACHINE}\n")
    job = yaml.safe_load((artifacts / "config" / "job.yaml").read_text())
    job["config"]["tracking"]["uri"] = SERVER  # as versions before wrote it
    (artifacts / "config" / "job.yaml").write_text(yaml.safe_dump(job, sort_keys=False))
    run.store.client.set_tag(run.run_id, "error", f"no file {planted}/data")
    run.store.client.set_tag(run.run_id, "mlflow.user", PERSON)
    (tmp_path / "out").mkdir()
    export_runs([find_run(run.store, run.run_id)], tmp_path / "out" / "run.zip")
    assert not hits(tmp_path / "out", TOKEN, PASSWORD, PERSON, str(planted), "/home/ann", MACHINE)
    with zipfile.ZipFile(tmp_path / "out" / "run.zip") as archive:
        (tmp_path / "job.yaml").write_bytes(archive.read(f"runs/{run.run_id}/artifacts/config/job.yaml"))
    assert read_job(tmp_path / "job.yaml").config["loss"] == config["loss"], "the bundled job can still be run"


@pytest.mark.slow
@pytest.mark.usefixtures("own_process")
def test_no_byte_of_a_sweep_a_bundle_and_a_report_holds_what_was_planted(planted, tmp_path, monkeypatch, capfd):
    (planted / "conf" / "experiment").mkdir(parents=True)
    (planted / "conf" / "experiment" / "mine.yaml").write_text(
        "# @package _global_\ntracking:\n  run_name: run of ${oc.env:PLANTED_TOKEN}\ntags:\n"
        f"  by: ${{oc.env:PLANTED_TOKEN}}\n  at: https://me:{PASSWORD.replace('/', '_')}@host/\n"
    )
    root, out = planted / "project", tmp_path / "out"
    out.mkdir()

    tiny = [text for text in TINY if not text.startswith("experiment=")]
    preset = [
        f"--config-dir={planted / 'conf'}",
        "experiment=mine",
        "backbone=small_cnn",
        *tiny,
        "trainer.max_epochs=1",
    ]
    swept = ["optimizer.lr=1e-3,1e30", "tracking.log_images=false", f"tags.b={TOKEN}"]
    monkeypatch.setenv("PYTHONPATH", REPOSITORY)
    monkeypatch.setenv("OMP_NUM_THREADS", "1")

    def command(*arguments, code=0):
        ended = main(list(arguments))
        shown = capfd.readouterr()
        assert ended == code, shown.err
        assert not [word for word in (TOKEN, "planted-p@ss") if word in shown.out + shown.err]
        return shown.out.split()[-1]

    sweep = command("train", "-m", *preset, *swept, code=1)  # the learning rate of the second cell is too high
    run = command("train", *preset)
    command("report", f"run={run}", f"output={out}/report.html")
    command("report", f"sweep={sweep}", f"output={out}/sweep.html")
    command("bundle", "export", f"run={run}", f"output={out}/run.zip")
    command("bundle", "export", f"run={sweep}", f"output={out}/sweep.zip")
    assert {path.name for path in out.iterdir()} == {"report.html", "sweep.html", "run.zip", "sweep.zip"}
    secrets = (TOKEN, PASSWORD, PASSWORD.replace("/", "_"), "planted-p@ss")
    assert not hits(root, *secrets)
    for folder in (root / "mlruns" / "artifacts", root / "sweeps", out):
        assert not hits(folder, PERSON, str(planted))
    assert not hits(out, MACHINE)
