import hashlib
import json
import stat
import zipfile

import pytest

from lesion_exp.bundle import layout
from lesion_exp.bundle.contents import open_bundle
from lesion_exp.errors import DataError


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
    with pytest.raises(DataError, match="stands twice"):
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
