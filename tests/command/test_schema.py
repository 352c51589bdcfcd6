import json

import pytest

from lesion_exp.cli import main
from lesion_exp.config.json_schema import document_names, published
from lesion_exp.config.shipped_conf import conf_dir
from tests.own_process import restored


@pytest.fixture(autouse=True)
def elsewhere(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with restored():
        yield


@pytest.mark.parametrize(("words", "name"), [([], "preset"), (["loss"], "loss")])
def test_one_is_printed(capsys, words, name):
    assert main(["schema", *words]) == 0
    assert capsys.readouterr().out == published(name).read_text("utf-8")


def test_all_are_written_and_it_is_said_how_editors_use_them(tmp_path, capsys):
    assert main(["schema", "output=schemas"]) == 0
    names = {path.name.partition(".schema")[0] for path in (tmp_path / "schemas").iterdir()}
    assert names == set(document_names([conf_dir()]))
    said = capsys.readouterr().out
    assert f"# yaml-language-server: $schema={tmp_path}/schemas/preset.schema.json" in said
    assert "PyCharm" in said


def test_options_of_ones_own_folder_are_in_them(tmp_path, capsys):
    (tmp_path / "mine" / "sampler").mkdir(parents=True)
    (tmp_path / "mine" / "sampler" / "often.yaml").write_text("_target_: my_package.Often\n")
    assert main(["schema", "--config-dir", "mine", "preset"]) == 0
    assert "often" in json.dumps(json.loads(capsys.readouterr().out)["properties"]["defaults"])


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["los"], "expected the name of a schema, got 'los'"),
        (["loss", "split"], "expected one name of a schema"),
        (["loss", "output=schemas"], "expected one name of a schema"),
        (["seed=1"], "expected the name of a schema or output=DIR, got seed=1"),
    ],
)
def test_other_words_are_refused(capsys, words, said):
    assert main(["schema", *words]) == 2
    assert said in capsys.readouterr().err
