import json
import subprocess
import sys

from lesion_exp.cli import main
from tests.own_process import restored


def test_a_healthy_project_gives_one_object_and_code_0(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    with restored():
        code = main(["doctor", "trainer=cpu", "--json"])
    captured = capsys.readouterr()
    found = json.loads(captured.out)
    assert found["healthy"], [check for check in found["checks"] if check["state"] == "problem"]
    assert code == 0
    assert {"Python", "packages", "cores", "store of runs"} <= {check["name"] for check in found["checks"]}
    assert all(set(check) == {"name", "state", "text", "remedy"} for check in found["checks"])
    assert "0 problems" in captured.err


def test_a_data_folder_without_its_files_is_a_problem_and_code_1(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    (tmp_path / "photos").mkdir()
    with restored():
        code = main(["doctor", "dataset=ham10000", "dataset.root=photos", "trainer=cpu"])
    captured = capsys.readouterr()
    assert code == 1
    lines = [line for line in captured.out.splitlines() if line.startswith("PROBLEM")]
    assert len(lines) == 1
    assert "data set" in lines[0]
    assert "1 problem," in captured.err


def test_a_readable_data_set_is_counted(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    table = "image_id,image_path,label,lesion_id\n" + "".join(
        f"i{n},i{n}.png,{'mel' if n % 2 else 'nv'},l{n}\n" for n in range(6)
    )
    (tmp_path / "table.csv").write_text(table)
    from PIL import Image

    for number in range(6):
        Image.new("RGB", (8, 8)).save(tmp_path / f"i{number}.png")
    with restored():
        code = main(["doctor", "dataset=csv", "dataset.root=.", "dataset.table=table.csv", "trainer=cpu", "--json"])
    found = {check["name"]: check for check in json.loads(capsys.readouterr().out)["checks"]}
    assert code == 0
    assert "6 images, 2 classes" in found["data set"]["text"]


def test_a_wrong_key_is_a_mistake(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    with restored():
        assert main(["doctor", "datset=ham10000"]) == 2
        assert "did you mean" in capsys.readouterr().err
        assert main(["doctor", "--cfg", "job"]) == 2


def test_memory_and_disks_are_examined_before_anything_heavy_is_imported(tmp_path):
    script = """
import sys
from pathlib import Path

from lesion_exp.config.project import Project
from lesion_exp.verbs.doctor.doctor import examine

folders = {name: Path("new") for name in ("data_cache", "jobs", "sweeps", "live")}
for result in examine({}, Project(Path.cwd(), **folders), with_data=False):
    print(result.name, sorted({"torch", "mlflow", "pandas"} & set(sys.modules)))
    if result.name == "disk of the project":
        break
"""
    done = subprocess.run([sys.executable, "-c", script], cwd=tmp_path, capture_output=True, text=True, check=True)
    lines = done.stdout.splitlines()
    assert {"Python []", "memory []", "disk of the project []"} <= set(lines), lines
