"""The published schemas accept every shipped YAML, and refuse typing errors in them."""

import json
import random
from collections import Counter
from pathlib import Path

import pytest
from jsonschema import Draft7Validator, Draft202012Validator

from lesion_exp.config.compose import compose
from lesion_exp.config.json_schema import document, in_lines, published
from lesion_exp.config.option_tree import load_yaml, summary_of
from lesion_exp.config.shipped_conf import PRESET_GROUPS, conf_dir, default_options, document_names, option_names
from lesion_exp.errors import ConfigError
from tests.config.typos import KINDS, all_typos

CONF = conf_dir()
YAMLS = sorted(CONF.rglob("*.yaml"))
NAMES = document_names([CONF])
NUM_TYPOS = 100


@pytest.fixture(scope="module")
def validators():
    return {name: Draft202012Validator(json.loads(published(name).read_text("utf-8"))) for name in NAMES}


def name_of(path):
    """The schema of a shipped YAML."""
    group = path.parent.relative_to(CONF).as_posix()
    return "config" if group == "." else "preset" if group in PRESET_GROUPS else group.replace("/", ".")


def preset(text, tmp_path):
    path = tmp_path / "preset.yaml"
    path.write_text(text, "utf-8")
    return load_yaml(path)


@pytest.mark.parametrize("name", NAMES)
def test_what_is_published_is_what_the_code_and_the_yamls_say(name):
    assert published(name).read_text("utf-8") == in_lines(document(name, [CONF])), "make schemas writes it anew"


def test_no_schema_of_a_group_that_is_gone_is_published():
    assert {path.name for path in published("preset").parent.iterdir()} == {published(name).name for name in NAMES}


def test_the_schemas_are_schemas_of_both_drafts(validators):
    for name in NAMES:
        Draft202012Validator.check_schema(validators[name].schema)
        Draft7Validator.check_schema({**validators[name].schema, "$schema": "http://json-schema.org/draft-07/schema#"})


@pytest.mark.parametrize("path", YAMLS, ids=lambda path: path.relative_to(CONF).as_posix())
def test_every_shipped_yaml_validates(validators, path):
    errors = [f"{list(error.absolute_path)}: {error.message}" for error in
              validators[name_of(path)].iter_errors(load_yaml(path))]  # fmt: skip
    assert errors == []


@pytest.mark.parametrize("name", ["demo", "cv5", "ham10000_cpu", "pretrain"])
def test_composed_presets_validate(validators, tmp_path, name):
    needed = ["dataset.root=DIR"] if name == "ham10000_cpu" else []
    config = dict(compose([f"experiment={name}", *needed], root=tmp_path).config)
    config["dataset"].pop("_target_")
    errors = [f"{list(error.absolute_path)}: {error.message}" for error in validators["preset"].iter_errors(config)]
    assert errors == []


def test_typing_errors_do_not_validate(validators):
    """100 drawn ones, with figures in the output; and of all possible ones no more than a handful."""
    found = all_typos(YAMLS, seed=0)
    drawn = random.Random(0).sample(found, NUM_TYPOS)
    accepted = [typo for typo in drawn if validators[name_of(typo.path)].is_valid(typo.content)]
    counts = Counter(typo.kind for typo in drawn)
    print(f"{NUM_TYPOS - len(accepted)} of {NUM_TYPOS} drawn of {len(found)} possible typing errors refused: ", end="")
    print(", ".join(f"{kind} {counts[kind]}" for kind in KINDS))
    assert set(counts) == set(KINDS)
    assert [(typo.path.name, typo.what) for typo in accepted] == []


def test_a_summary_does_not_end_in_an_abbreviation(tmp_path):
    path = tmp_path / "focal.yaml"
    path.write_text("# Focal loss (Lin et al. 2017): easy images count less. More words.\ngamma: 2\n", "utf-8")
    assert summary_of(path) == "Focal loss (Lin et al. 2017): easy images count less."


@pytest.mark.slow
@pytest.mark.long
def test_no_possible_typing_error_validates(validators):
    found = all_typos(YAMLS, seed=1)
    accepted = [typo for typo in found if validators[name_of(typo.path)].is_valid(typo.content)]
    print(f"{len(found) - len(accepted)} of {len(found)} refused")
    assert [(typo.path.name, typo.kind, typo.what) for typo in accepted] == []


def test_a_list_of_defaults_offers_every_option_of_every_group(validators):
    schema = validators["preset"].schema
    pair = schema["properties"]["defaults"]["items"]["anyOf"][1]["properties"]
    for group in set(default_options(CONF)) - set(PRESET_GROUPS):
        offered = pair[f"override /{group}"]
        assert [name for name in offered["enum"] if name is not None] == option_names(group, [CONF])
        assert all(f"{name}" in offered["description"] for name in option_names(group, [CONF]))


def test_comments_are_descriptions(validators):
    definitions = validators["loss"].schema["$defs"]
    assert definitions["loss.gamma"]["description"] == "focusing exponent, >= 0; 0 is the cross-entropy"


@pytest.mark.parametrize(
    ("text", "valid"),
    [
        ("defaults:\n  - override /loss: focal\nloss:\n  gamma: 1\n", True),
        ("defaults:\n  - override /loss: cross_entropy\nloss:\n  gamma: 1\n", False),
        ("loss:\n  gamma: 1\n", True),  # the command may choose loss=focal
        ("loss:\n  gamma: ${seed}\n", True),
        ("optimizer:\n  _target_: torch.optim.RAdam\n  decoupled_weight_decay: true\n", True),
        ("optimizer:\n  _target_: torch.optim.RAdam\n  nesterov: true\n", False),
        ("optimizer:\n  _target_: my_package.Mine\n  anything: 1\n", True),
        ("optimizer:\n  _target_: torch.optim.LBFGS\n", False),
        ("loss:\n  _target_: torch.optim.SGD\n", False),
        ("augmentation:\n  transforms:\n    rotate: null\n", True),
        ("augmentation:\n  transforms:\n    rotate:\n      p: 0.3\n", True),
        ("augmentation:\n  transforms:\n    rotate:\n      limt: 3\n", False),
        ("augmentation:\n  transforms:\n    mine:\n      p: 0.3\n", False),
        ("augmentation:\n  transforms:\n    mine:\n      _target_: albumentations.Rotate\n      p: 0.3\n", True),
        ("defaults:\n  - override /augmentation/mix: mixup\n", True),
        ("defaults:\n  - /augmentation/transform@augmentation.transforms.hair: hair\n", True),
        ("defaults:\n  - loss: focal\n", False),
        ("defaults:\n  - /loss: focal\n", False),  # Hydra refuses a second option of a group without override
        ("defaults:\n  - /loss@loss.aux: focal\n", True),
        ("tags:\n  cohort: pilot\n", True),
        ("trainer:\n  max_epochs: -1\n  max_steps: 100\n", True),
        ("trainer:\n  max_epochs: 0\n", False),
        ("image_size: native\n", True),
        ("loss:\n  pos_weight: 2.5\n", True),
        ("backbone:\n  tune: last:2\n", True),
        ("backbone:\n  tune: last:N\n", False),
        ("backbone:\n  preprocessing:\n    mean: [0.5, 0.5, 0.5]\n", True),
        ("backbone:\n  preprocessing:\n    men: [0.5, 0.5, 0.5]\n", False),
        ("metrics:\n  kappa:\n    _target_: torchmetrics.classification.MulticlassCohenKappa\n", True),
        ("search:\n  space:\n    optimizer.lr: [1.0e-3, 1.0e-4]\n", True),
    ],
)
def test_a_preset_of_ones_own_is_judged(validators, tmp_path, text, valid):
    assert validators["preset"].is_valid(preset(text, tmp_path)) == valid


def test_options_of_ones_own_folder_are_known_to_schemas_that_are_made_with_it(validators, tmp_path):
    (tmp_path / "loss").mkdir()
    (tmp_path / "loss" / "margin.yaml").write_text("# Mine.\n_target_: my_package.Margin\nmargin: 0.2  # of logits\n")
    own = Draft202012Validator(document("preset", [CONF, Path(tmp_path)]))
    chosen = preset("defaults:\n  - override /loss: margin\nloss:\n  margin: 0.3\n", tmp_path)
    wrong = preset("defaults:\n  - override /loss: margin\nloss:\n  magrin: 0.3\n", tmp_path)
    assert not validators["preset"].is_valid(chosen)
    assert own.is_valid(chosen)
    assert not own.is_valid(wrong)


def test_a_schema_that_does_not_exist_is_refused():
    with pytest.raises(
        ConfigError, match="expected the name of a schema, got 'los'; the schemas are preset, config, augm"
    ):
        document("los", [CONF])
