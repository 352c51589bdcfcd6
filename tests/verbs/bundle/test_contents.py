import contextlib
import hashlib
import json
import os
import stat
import zipfile

import pytest

from lesion_exp.errors import DataError
from lesion_exp.verbs.bundle import layout
from lesion_exp.verbs.bundle.contents import open_bundle


@pytest.fixture
def bundle(whole_bundle, tmp_path):
    """A file with the bundle of one run, and the run's id."""
    content, run_id = whole_bundle
    path = tmp_path / "run.zip"
    path.write_bytes(content)
    return path, run_id


def opened(path, **options):
    """The ids of the runs in a bundle that was opened, and so checked."""
    with open_bundle(path, **options) as bundle:
        return [run.origin_id for run in bundle.runs]


def test_a_bundle_holds_what_it_lists(bundle):
    path, run_id = bundle
    with open_bundle(path) as held:
        (run,) = held.runs
        assert (run.origin_id, run.artifacts) == (run_id, ("checkpoints/best.ckpt", "config/job.yaml"))
        names = [name for name, _, _, _ in held.metrics(run)]
        assert names == ["train/loss", "val/accuracy", "val/accuracy", "val/auroc/mel"]
        assert held.artifact(run, "config/job.yaml").read() == b"format: 1\n"


def rewrite(path, change):
    """The bundle with `change` applied to its members, a mapping of name to bytes, and its list of digests left."""
    with zipfile.ZipFile(path) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    change(members)
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in members.items():
            archive.writestr(name, content)


def relist(members):
    """Lists the members as they are now, as somebody would who knows the format."""
    manifest = json.loads(members[layout.MANIFEST])
    manifest["members"] = {
        name: {"bytes": len(content), "sha256": hashlib.sha256(content).hexdigest()}
        for name, content in members.items()
        if name != layout.MANIFEST
    }
    members[layout.MANIFEST] = json.dumps(manifest).encode()


TAMPERED = {
    "artifact": ("artifacts/config/job.yaml", b"format: 2\n"),
    "checkpoint": ("artifacts/checkpoints/best.ckpt", bytes(range(256)) * 49 + bytes(256)),
    "metrics": ("metrics.jsonl", None),
}


@pytest.mark.parametrize("what", TAMPERED)
def test_a_tampered_member_is_refused_by_its_digest(bundle, what):
    path, run_id = bundle
    part, content = TAMPERED[what]
    name = f"runs/{run_id}/{part}"

    def change(members):
        members[name] = content or members[name].replace(b"0.5", b"0.9")

    rewrite(path, change)
    with pytest.raises(DataError, match=f"expected {name}.*another digest"):
        opened(path)


@pytest.mark.parametrize("relisted", [True, False])
@pytest.mark.parametrize(
    "evil",
    [
        "../evil",
        "/tmp/evil",
        "runs/{id}/artifacts/../../../../evil",
        "runs/{id}/artifacts/a/../../evil",
        "runs/{id}/artifacts//evil",
        "runs/{id}/artifacts/./evil",
        "runs/{id}/artifacts/..\\evil",
        "runs/{id}/artifacts/C:evil",
        "runs/{id}/artifacts/a\nb",
        "runs/{id}/evil",
        "runs/../artifacts/evil",
        "runs/{id}/artifacts/config/job.yaml/evil",
        "runs/{id}/artifacts/",
        "evil",
    ],
)
def test_a_member_cannot_leave_its_run(bundle, evil, relisted):
    path, run_id = bundle

    def change(members):
        members[evil.format(id=run_id)] = b"evil"
        if relisted:
            relist(members)

    rewrite(path, change)
    with pytest.raises(DataError, match="expected plain files that lie below their run"):
        opened(path)


def test_a_link_is_refused(bundle):
    path, run_id = bundle
    with zipfile.ZipFile(path, "a") as archive:
        info = zipfile.ZipInfo(f"runs/{run_id}/artifacts/link")
        info.external_attr = (stat.S_IFLNK | 0o777) << 16
        archive.writestr(info, "/etc/passwd")
    with pytest.raises(DataError, match="expected plain files"):
        opened(path)


def test_members_that_are_not_listed_missing_or_doubled_are_refused(bundle):
    path, run_id = bundle
    whole = path.read_bytes()
    name = f"runs/{run_id}/artifacts/config/job.yaml"
    for change in (lambda members: members.pop(name), lambda members: members.update({f"{name}.more": b"x"})):
        path.write_bytes(whole)
        rewrite(path, change)
        with pytest.raises(DataError, match="missing, added or have"):
            opened(path)
    path.write_bytes(whole)
    with pytest.warns(UserWarning, match="Duplicate"), zipfile.ZipFile(path, "a") as archive:
        archive.writestr(name, b"format: 1\n")
    with pytest.raises(DataError, match="occurs twice"):
        opened(path)


def test_a_bundle_that_is_too_large_is_refused_before_it_is_unpacked(bundle):
    path, _ = bundle
    with pytest.raises(DataError, match=r"at most 1e-06 GiB.*max_gib=1"):
        opened(path, largest_gib=1e-6)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda run: run.update(status="RUNNING"), "a run that ended"),
        (lambda run: run.update(run_id="0" * 32), "a run that ended"),
        (lambda run: run.update(params=[]), "params"),
        (lambda run: run["tags"].update(dataset=5), "texts and times"),
        (lambda run: run["links"].update(reproduces={}), "texts and times"),
        (lambda run: run.update(start_time=-1), "texts and times"),
        (lambda run: run.update(inputs=["x"]), "texts and times"),
    ],
)
def test_a_run_of_another_form_is_refused_even_with_its_digest(bundle, change, said):
    path, run_id = bundle

    def tamper(members):
        name = f"runs/{run_id}/run.json"
        described = json.loads(members[name])
        change(described)
        members[name] = json.dumps(described).encode()
        relist(members)

    rewrite(path, tamper)
    with pytest.raises(DataError, match=said):
        opened(path)


@pytest.mark.parametrize("line", [b"{}", b"[1]", b'["a", 1.5, 0, 0]', b'["a", 1, 0, "x"]', b"x" * 20_000, b"\xff"])
def test_metrics_of_another_form_are_refused(bundle, line):
    path, run_id = bundle

    def tamper(members):
        members[f"runs/{run_id}/metrics.jsonl"] = line
        relist(members)

    rewrite(path, tamper)
    with pytest.raises(DataError, match=r"expected \[metric, step, timestamp, value\]"):
        opened(path)


@pytest.mark.parametrize(
    ("manifest", "said"),
    [
        (b"[]", "an object"),
        (b"{", "cannot be parsed"),
        (b'{"format": 2, "made_by": "lesion_exp 9"}', "lesion_exp 9"),
        (b'{"format": 1, "runs": ["../x"], "members": {}}', "to list runs"),
        (b'{"format": 1, "runs": ["' + b"0" * 32 + b'"], "members": {}}', "to list runs"),
    ],
)
def test_another_manifest_is_refused(bundle, manifest, said):
    path, _ = bundle
    rewrite(path, lambda members: members.update({layout.MANIFEST: manifest}))
    with pytest.raises(DataError, match=said):
        opened(path)


def test_what_is_no_bundle_is_refused(tmp_path):
    path = tmp_path / "run.zip"
    with pytest.raises(DataError, match="cannot be read"):
        opened(path)
    path.write_bytes(b"not a zip")
    with pytest.raises(DataError, match="damaged, or none"):
        opened(path)
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("a.txt", "a")
    with pytest.raises(DataError, match=r"without bundle\.json"):
        opened(path)


def test_a_cut_file_is_refused(bundle):
    path, _ = bundle
    content = path.read_bytes()
    path.write_bytes(content[: len(content) // 2])
    with pytest.raises(DataError, match="damaged"):
        opened(path)


def with_run(path, run_id, **changes):
    """The bundle with other values in its `run.json`, listed as somebody would who knows the format."""

    def change(members):
        name = f"runs/{run_id}/run.json"
        members[name] = json.dumps({**json.loads(members[name]), **changes}).encode()
        relist(members)

    rewrite(path, change)


INPUT = {"name": "n", "digest": "d", "source_type": "local", "source": "{}"}


@pytest.mark.parametrize(
    "changes",
    [
        {"params": {"a": "x" * 6001}}, {"params": {"../a": "x"}}, {"params": {"a\n": "x"}}, {"params": {"": "x"}},
        {"params": {"a" * 251: "x"}}, {"params": {"a": "\ud800"}}, {"params": {"a": "\0"}}, {"params": {"a//b": "x"}},
        {"tags": {"a": "x" * 8001}}, {"tags": {"=cmd|": "x"}}, {"tags": {"mlflow.parentRunId": "0" * 32}},
        {"tags": {"bundle_content": "x"}}, {"name": "x" * 251}, {"name": " "}, {"name": "\udc00"},
        {"experiment": ""}, {"experiment": "x" * 501}, {"start_time": True}, {"start_time": -1}, {"end_time": 2**60},
        {"inputs": [{**INPUT, "digest": "x" * 37}]}, {"inputs": [{**INPUT, "schema": {"a": 1}}]},
        {"inputs": [{**INPUT, "tags": ["a"]}]}, {"inputs": [{**INPUT, "tags": {"a": 1}}]}, {"inputs": [7]},
        {"links": {"a": 1}}, {"links": []}, {"status": "RUNNING"}, {"params": {"a": None}},
    ],
)  # fmt: skip
def test_what_a_store_would_refuse_is_refused_before_anything_is_written(bundle, changes):
    path, run_id = bundle
    with_run(path, run_id, **changes)
    with pytest.raises(DataError, match=r"expected .* in runs/|expected .*run\.json"):
        opened(path)


@pytest.mark.parametrize(
    "line",
    [b"{}", b'["a", 1, 2]', b'["a", 1, -2, 0.5]', b'["a", true, 2, 0.5]', b'["../a", 1, 2, 0.5]', b'[["a"], 1, 2, 0.5]',
     b'["a", 1, 2, true]', b'["a", 1, 2, null]', b'["a", 1, 2, "x"]', b'["a", 1, 2, 1' + b"0" * 400 + b"]", b"[" * 9000,
     b'["' + b"a" * 251 + b'", 1, 2, 0.5]', b"\xff", b'{"a": 1, "b": 2, "c": 3, "d": 4}'],
)  # fmt: skip
def test_a_line_of_metrics_that_no_store_takes_is_refused(bundle, line):
    path, run_id = bundle

    def change(members):
        members[f"runs/{run_id}/metrics.jsonl"] += line + b"\n"
        relist(members)

    rewrite(path, change)
    with pytest.raises(DataError, match="metric"):
        opened(path)


def test_a_name_that_no_disk_holds_is_refused(bundle):
    path, run_id = bundle

    def change(members):
        members[f"runs/{run_id}/artifacts/" + 128 * "\u00e9"] = b"x"
        relist(members)

    rewrite(path, change)
    with pytest.raises(DataError, match="expected plain files"):
        opened(path)


@pytest.mark.parametrize("method", [zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
def test_a_manifest_that_is_packed_otherwise_is_refused(bundle, method):
    path, _ = bundle
    with zipfile.ZipFile(path) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in members.items():
            archive.writestr(name, content, method if name == layout.MANIFEST else None)
    with pytest.raises(DataError, match=r"expected bundle\.json"):
        opened(path)


def test_every_single_byte_of_the_zips_own_structure_may_be_wrong(bundle):
    path, _ = bundle
    whole = path.read_bytes()
    with zipfile.ZipFile(path) as archive:
        start = archive.start_dir
    for place in range(start, len(whole)):
        broken = bytearray(whole)
        broken[place] ^= 0xFF
        path.write_bytes(broken)
        with contextlib.suppress(DataError):
            opened(path)  # a byte that means nothing, or a refusal


def test_a_pipe_and_a_folder_are_no_bundles(tmp_path):
    os.mkfifo(tmp_path / "pipe.zip")
    for path in (tmp_path / "pipe.zip", tmp_path):
        with pytest.raises(DataError, match="got a folder, a pipe or a device"):
            opened(path)
