import json

import pytest

from lesion_exp.cli import main
from lesion_exp.config.json_schema import published
from lesion_exp.config.shipped_conf import conf_dir, document_names
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


def test_each_option_of_a_list_of_defaults_is_read(tmp_path, capsys):
    (tmp_path / "mine" / "sampler").mkdir(parents=True)
    (tmp_path / "mine" / "sampler" / "often.yaml").write_text("defaults: [weighted, _self_, /loss@of_it: [focal]]\n")
    (tmp_path / "mine" / "sampler" / "here.yaml").write_text("defaults: [/sampler/often@_here_, _self_]\nown: 1\n")
    assert main(["schema", "--config-dir", "mine", "sampler"]) == 0
    found = json.loads(capsys.readouterr().out)["$defs"]
    assert "gamma" in json.dumps(found["sampler.of_it"])


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("defaults: [wieghted]\n", "expected an option of sampler below defaults in {file}, got 'wieghted'; did you "
                                   "mean 'weighted'"),
        ("defaults: [/loss@aux: fokal]\n", "expected an option of loss below defaults in {file}, got {{'/loss@aux': "
                                           "'fokal'}}; did you mean 'focal'"),
        ("defaults: [/loss@aux: [focal, fokal]]\n", "expected an option of loss below defaults in {file}"),
        ("defaults: [/los@aux: focal]\n", "expected an option of los below defaults in {file}, got {{'/los@aux': "
                                          "'focal'}}; did you mean 'loss'"),
        ("defaults: [often]\n", "expected options that do not build on this file below defaults in {file}, "
                                "got 'often'"),
        ("defaults: weighted\n", "expected a list below defaults in {file}, got 'weighted'; write - weighted"),
        ("defaults: [3]\n", "expected an option, or one group with its option, as each entry of defaults in {file}"),
        ("power: [1\n", "expected YAML in {file}, but it cannot be parsed: "),
        ("power: a: b\n", "expected YAML in {file}, but it cannot be parsed: "),
        ("power: \xff\n", "expected YAML in {file}, but it cannot be parsed: "),
    ],
)  # fmt: skip
def test_a_mistake_in_ones_own_file_is_told(tmp_path, capsys, text, said):
    file = tmp_path / "mine" / "sampler" / "often.yaml"
    file.parent.mkdir(parents=True)
    file.write_text(text, "latin-1")
    assert main(["schema", "--config-dir", "mine", "sampler"]) == 2
    assert said.format(file=file) in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["los"], "expected the name of a schema, got 'los'"),
        (["loss", "split"], "expected one name of a schema"),
        (["loss", "output=schemas"], "expected one name of a schema"),
        (["seed=1"], "expected the name of a schema or output=DIR, got seed=1"),
        (["output=file/schemas"], "file is a file; set another output="),
    ],
)
def test_other_words_are_refused(tmp_path, capsys, words, said):
    (tmp_path / "file").touch()
    assert main(["schema", *words]) == 2
    assert said in capsys.readouterr().err
