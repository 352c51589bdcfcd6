import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch
import torchvision

from lesion_exp.config.compose import compose
from lesion_exp.config.freeze import freeze, job_hash, read_job
from lesion_exp.config.shipped_conf import conf_dir, documented_keys, option_names
from lesion_exp.errors import ConfigError

IMAGENET = {"mean": [0.485, 0.456, 0.406], "std": [0.229, 0.224, 0.225], "interpolation": "bilinear", "crop_share": 1.0}
KEYS = tuple(IMAGENET)


def composed(*overrides):
    return compose(overrides, root=Path("/project")).config


def done(config):
    return {key: config["augmentation"][key] for key in KEYS}


def test_a_network_from_scratch_has_imagenets_statistics_and_nothing_heavy_is_imported():
    assert done(composed()) == IMAGENET
    assert composed()["backbone"]["preprocessing"] is None
    program = (
        "import sys, pathlib; from lesion_exp.config.compose import compose; compose([], root=pathlib.Path('/p')); "
        "sys.exit(any(name in sys.modules for name in ('torch', 'torchvision', 'timm', 'pandas')))"
    )
    assert subprocess.run([sys.executable, "-c", program], check=False).returncode == 0


def test_the_weights_of_a_backbone_bring_their_own_and_are_recorded():
    config = composed("backbone=efficientnet_v2_s", "backbone.name=efficientnet_v2_l", "backbone.weights=imagenet")
    own = {"mean": [0.5] * 3, "std": [0.5] * 3, "interpolation": "bicubic", "crop_share": 1.0}
    assert done(config) == own
    assert config["backbone"]["preprocessing"] == {**own, "size": 480}
    crop = config["augmentation"]["transforms"]["crop"]
    assert (crop["fill"], crop["crop_share"]) == ([0.5] * 3, 1.0), "what refers to them follows"


@pytest.mark.parametrize(
    ("overrides", "changed"),
    [
        (["augmentation.mean=[0.1,0.2,0.3]"], {"mean": [0.1, 0.2, 0.3]}),
        (["augmentation.interpolation=bicubic", "augmentation.crop_share=0.5"],
         {"interpolation": "bicubic", "crop_share": 0.5}),
        (["augmentation.fit=pad"], {"crop_share": 1.0}),
        (["augmentation.fit=squash"], {"crop_share": 1.0}),
        (["augmentation.std=train"], {"std": "train"}),
        (["backbone.preprocessing.std=[1,1,1]"], {"std": [1.0, 1.0, 1.0]}),
        (["backbone.preprocessing={std: [1, 1, 1], crop_share: 0.8}"], {"std": [1.0, 1.0, 1.0], "crop_share": 0.8}),
        (["backbone.weights=imagenet:IMAGENET1K_V1"], {"crop_share": 0.875}),
    ],
)  # fmt: skip
def test_a_value_that_is_given_wins_and_the_others_follow_the_weights(overrides, changed):
    usual = {**IMAGENET, "crop_share": round(224 / 232, 6)}
    assert done(composed("backbone=resnet50", "backbone.weights=imagenet", *overrides)) == {**usual, **changed}


def test_the_native_size_of_the_weights_can_be_asked_for():
    config = composed("backbone=efficientnet_v2_s", "backbone.weights=imagenet", "image_size=native")
    assert config["image_size"] == config["augmentation"]["image_size"] == 384
    with pytest.raises(ConfigError, match="image_size=224"):
        composed("image_size=native")


@pytest.mark.parametrize(
    ("overrides", "says"),
    [
        (["augmentation.mean=0.5"], "augmentation.mean as three values"),
        (["augmentation.mean=[0.5,0.5]"], "augmentation.mean as three values"),
        (["augmentation.mean=dataset"], "augmentation.mean as three values"),
        (["augmentation.std=[0,1,1]"], "augmentation.std as three values above 0"),
        (["augmentation.interpolation=cubic"], "bicubic"),
        (["augmentation.crop_share=0"], "augmentation.crop_share"),
        (["backbone.preprocessing.men=[0,0,0]"], "did you mean 'mean'"),
        (["backbone.preprocessing=clip"], "keys below backbone.preprocessing"),
        (["backbone.weights=imagenet:V7"], "IMAGENET1K_V1"),
    ],
)
def test_what_cannot_be_used_is_refused_before_any_data_is_read(overrides, says):
    with pytest.raises(ConfigError, match=says):
        composed(*overrides)


def test_a_file_says_what_it_was_trained_with(tmp_path, caplog):
    from safetensors.torch import save_file

    card = {"preprocessing": {"mean": [0.1, 0.2, 0.3], "std": [0.4, 0.5, 0.6], "image_size": 96}}
    state = torchvision.models.resnet18().state_dict()
    save_file({"backbone.w": torch.zeros(1)}, str(tmp_path / "own.safetensors"), {"lesion_exp": json.dumps(card)})
    torch.save({"state_dict": {}, "lesion_exp": card}, tmp_path / "best.ckpt")
    for name in ("own.safetensors", "best.ckpt"):
        config = composed(f"backbone.weights={tmp_path / name}", "image_size=native")
        assert done(config) == {**IMAGENET, **{key: card["preprocessing"][key] for key in ("mean", "std")}}
        assert config["image_size"] == 96
    torch.save(state, tmp_path / "plain.pth")
    assert done(composed(f"backbone.weights={tmp_path / 'plain.pth'}"))["crop_share"] == 0.875, "as torchvision's own"
    (tmp_path / "preprocessor_config.json").write_text(json.dumps({"image_mean": [0.5] * 3, "image_std": [0.5] * 3}))
    assert done(composed(f"backbone.weights={tmp_path / 'plain.pth'}"))["mean"] == [0.5] * 3, "a file beside it says so"
    (tmp_path / "preprocessor_config.json").unlink()
    composed("backbone=small_cnn", f"backbone.weights={tmp_path / 'plain.pth'}")
    assert "backbone.preprocessing='{mean:" in caplog.text


def test_a_relative_file_is_read_in_the_folder_of_the_first_command(tmp_path, monkeypatch):
    here, elsewhere = tmp_path / "here", tmp_path / "elsewhere"
    for folder, mean in ((here, 0.1), (elsewhere, 0.9)):
        folder.mkdir()
        prepared = {"mean": [mean] * 3, "std": [0.5] * 3, "image_size": 96}
        card = {"preprocessing": prepared, "pretrained": {"licence": f"of {mean}"}}
        torch.save({"state_dict": {}, "lesion_exp": card}, folder / "a.ckpt")
    monkeypatch.chdir(elsewhere)
    overrides = ["backbone.weights=a.ckpt", "image_size=native"]
    config = compose(overrides, root=tmp_path, folder=here).config
    assert (done(config)["mean"], config["backbone"]["licence"]) == ([0.1] * 3, "of 0.1")
    assert config["backbone"]["weights"] == str(here / "a.ckpt")
    assert done(compose(overrides, root=tmp_path).config)["mean"] == [0.9] * 3


def test_jobs_of_older_versions_keep_their_hash_and_their_values(tmp_path):
    job = freeze(compose(["backbone=resnet50", "augmentation=heavy"], root=Path("/project")))
    older = json.loads(json.dumps(job.config))
    for key in ("interpolation", "crop_share"):
        del older["augmentation"][key]
    del older["augmentation"]["transforms"]["crop"]["crop_share"]
    for key in ("preprocessing", "weights_partial", "licence", "tune", "head", "knn", "lora"):
        del older["backbone"][key]
    assert job_hash(older, {}) == job.job_hash == freeze(compose(job.overrides, root=Path("/elsewhere"))).job_hash
    older["backbone"]["weights"] = "imagenet"
    explicit = type(job)(older, job.overrides, job_hash(older, {}), {})
    explicit.write(tmp_path / "job.yaml")
    assert read_job(tmp_path / "job.yaml").config["augmentation"] == older["augmentation"]
    changed = json.loads(json.dumps(job.config))
    changed["augmentation"]["interpolation"] = "bicubic"
    assert job_hash(changed, {}) != job.job_hash


def test_whose_preprocessing_is_assumed_for_a_file_that_states_none_is_told(tmp_path, caplog):
    pytest.importorskip("timm", reason="the extra timm is not installed")
    caplog.set_level("INFO")
    vit = ("backbone=timm", "backbone.name=vit_base_patch16_224", "image_size=224")
    known = composed(*vit, f"backbone.weights={tmp_path / 'mae_pretrain_vit_base.pth'}")
    assert done(known)["mean"] == IMAGENET["mean"]
    assert "assumed" not in caplog.text
    mine = f"backbone.weights={tmp_path / 'mine.pth'}"
    stated = composed(*vit, mine, "backbone.preprocessing={mean: [0.1, 0.2, 0.3], std: [1, 1, 1]}")
    assert done(stated)["mean"] == [0.1, 0.2, 0.3]
    assert "assumed" not in caplog.text
    assert done(composed(*vit, mine))["mean"] == [0.5] * 3
    assert "mine.pth is not known, so that of vit_base_patch16_224.augreg2_in21k_ft_in1k is assumed" in caplog.text
    assert "the weights are assumed to have been trained with mean [0.5, 0.5, 0.5]" in caplog.text


@pytest.mark.parametrize(
    ("overrides", "says"),
    [
        (["backbone=timm", "backbone.name=resnet50", "backbone.weights=imagenet:tv_in1k"],
         r"got imagenet:tv_in1k; set backbone\.name=resnet50\.tv_in1k backbone\.weights=imagenet"),
        (["backbone=efficientnet_lite0", "backbone.weights=imagenet:IMAGENET1K_V1"], "tf_efficientnet_lite0.in1k"),
        (["backbone=timm", "backbone.name=resnet50.a1_in1", "backbone.weights=imagenet"], "resnet50.a1_in1k"),
        (["backbone=torchvision", "backbone.name=resnet19", "backbone.weights=imagenet"], "resnet18"),
    ],
)  # fmt: skip
def test_weights_that_a_library_does_not_have_are_refused_when_the_job_is_composed(overrides, says):
    pytest.importorskip("timm", reason="the extra timm is not installed")
    with pytest.raises(ConfigError, match=says):
        composed(*overrides)


@pytest.mark.parametrize(
    ("overrides", "licence"),
    [
        (["backbone=efficientnet_lite0", "backbone.weights=imagenet"], "apache-2.0"),
        (["backbone=timm", "backbone.name=resnet50.fb_swsl_ig1b_ft_in1k", "backbone.weights=imagenet"], "cc-by-nc-4.0"),
        (["backbone=resnet18", "backbone.weights=imagenet"], "not stated by torchvision (bsd-3-clause)"),
        (["backbone=resnet18"], None),
        (["backbone=resnet18", "backbone.weights=imagenet", "backbone.licence=mine"], "mine"),
    ],
)
def test_the_licence_of_weights_is_recorded_and_counts_in_no_hash(overrides, licence):
    if "timm" in overrides[0] or "lite" in overrides[0]:
        pytest.importorskip("timm")
    job = freeze(compose(overrides, root=Path.cwd()))
    assert job.config["backbone"]["licence"] == licence
    without = {**job.config, "backbone": {**job.config["backbone"], "licence": None}}
    assert job_hash(without, job.files) == job.job_hash


def test_the_licence_of_weights_is_inherited_by_those_who_start_from_them(tmp_path, caplog):
    card = {"classes": [], "pretrained": {"weights": "hub:lab/encoder", "licence": "cc-by-nc-nd-4.0"}}
    torch.save({"state_dict": {}, "lesion_exp": card}, tmp_path / "best.ckpt")
    torch.save({"state_dict": {}, "lesion_exp": {**card, "pretrained": None}}, tmp_path / "scratch.ckpt")
    (tmp_path / "README.md").write_text("---\nlicense: mit\n---\n", encoding="utf-8")
    started = composed(f"backbone.weights={tmp_path / 'best.ckpt'}")
    assert started["backbone"]["licence"] == "cc-by-nc-nd-4.0", "its own card, not what lies beside it"
    assert "best.ckpt has the licence cc-by-nc-nd-4.0" in caplog.text
    assert composed(f"backbone.weights={tmp_path / 'scratch.ckpt'}")["backbone"]["licence"] is None


def test_the_licence_beside_a_file_is_recorded_and_counts_in_no_hash(tmp_path, caplog):
    torch.save(torchvision.models.resnet18().state_dict(), tmp_path / "plain.pth")
    overrides = [f"backbone.weights={tmp_path / 'plain.pth'}"]
    without = freeze(compose(overrides, root=tmp_path))
    assert without.config["backbone"]["licence"] is None
    (tmp_path / "README.md").write_bytes(b"---\nlicense: cc-by-nc-nd-4.0\n---\nCaf\xe9")
    job = freeze(compose(overrides, root=tmp_path))
    assert job.config["backbone"]["licence"] == "cc-by-nc-nd-4.0"
    assert "plain.pth has the licence cc-by-nc-nd-4.0" in caplog.text
    assert job.job_hash == without.job_hash
    older = replace(job, job_hash=job_hash(job.config, job.files, licence_of_file=True))
    assert older.job_hash != job.job_hash
    for kept in (job, older):
        kept.write(tmp_path / "job.yaml")
        assert read_job(tmp_path / "job.yaml").job_hash == job.job_hash


def test_imagenet_weights_are_refused_before_data_are_read_where_there_are_none(tmp_path):
    for option in option_names("backbone", [conf_dir()]):
        target = documented_keys(conf_dir(), {"backbone": option}).get("backbone._target_", ("",))[0]
        if target.startswith("lesion_exp.backbone.") and ".torchvision." not in target and ".timm." not in target:
            said = f"run:ID for backbone={option}, which has no ImageNet weights, got imagenet; choose"
            with pytest.raises(ConfigError, match=said):
                compose([f"backbone={option}", "backbone.weights=imagenet"], root=tmp_path)
