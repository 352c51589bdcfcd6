import json
from pathlib import Path

import pytest
import torch
import torchvision
from safetensors.torch import save_file

from lesion_exp.backbone.hub import hub_weights
from lesion_exp.backbone.options import InputsAndOutputs
from lesion_exp.config.compose import compose
from lesion_exp.config.freeze import freeze, read_job
from lesion_exp.errors import ConfigError
from lesion_exp.model.model_card import pretrained
from lesion_exp.model.network import make_backbone
from lesion_exp.training.seen_before import maker_of
from tests.backbone.test_backbones import build, node

huggingface_hub = pytest.importorskip("huggingface_hub", reason="huggingface_hub is not installed (it comes with timm)")
COMMIT = "0123456789abcdef0123456789abcdef01234567"
CARD = "---\nlicense: cc-by-nc-nd-4.0\ntags: [dermatology]\n---\n# An encoder\n"


@pytest.fixture
def model(tmp_path, monkeypatch):
    """The folder of a model of the hub, in the place of what would be fetched, and the calls that asked for it."""
    folder = tmp_path / "snapshots" / COMMIT
    folder.mkdir(parents=True)
    save_file(torchvision.models.resnet18().state_dict(), str(folder / "model.safetensors"))
    (folder / "README.md").write_text(CARD)
    (folder / "preprocessor_config.json").write_text('{"image_mean": [0.5, 0.5, 0.5], "image_std": [0.5, 0.5, 0.5]}')
    calls = []

    def fetched(name, revision, allow_patterns):
        calls.append((name, revision))
        assert not any(pattern.endswith(".py") for pattern in allow_patterns)
        return str(folder)

    monkeypatch.setattr(huggingface_hub, "snapshot_download", fetched)
    return folder, calls


def test_revision_licence_and_preprocessing_are_recorded_and_the_weights_are_read(model, tmp_path, caplog):
    folder, calls = model
    job = freeze(compose(["backbone.weights=hub:lab/encoder@main"], root=tmp_path))
    job.write(tmp_path / "job.yaml")
    kept = read_job(tmp_path / "job.yaml").config["backbone"]
    assert kept["weights"] == f"hub:lab/encoder@{COMMIT}", "a branch moves, a commit does not"
    assert calls[0] == ("lab/encoder", "main")
    assert kept["licence"] == "cc-by-nc-nd-4.0"
    assert "licence cc-by-nc-nd-4.0" in caplog.text
    assert job.config["augmentation"]["mean"] == [0.5, 0.5, 0.5]
    assert pretrained(kept)["licence"] == "cc-by-nc-nd-4.0"
    assert pretrained(kept)["weights"] == kept["weights"]
    ours = build("resnet18", weights=kept["weights"])
    assert calls[-1] == ("lab/encoder", COMMIT)
    expected = huggingface_file(folder)["conv1.weight"]
    assert torch.equal(ours.body.network.conv1.weight, expected)


def huggingface_file(folder):
    from safetensors.torch import load_file

    return load_file(str(folder / "model.safetensors"))


def test_one_of_several_files_is_named(model):
    folder, _ = model
    (folder / "model.safetensors").rename(folder / "a.safetensors")
    assert hub_weights("hub:lab/encoder").file == folder / "a.safetensors"
    torch.save({}, folder / "b.pth")
    with pytest.raises(ConfigError, match=r"(?s)hub:lab/encoder:FILE.*a\.safetensors.*b\.pth"):
        hub_weights("hub:lab/encoder")
    found = hub_weights("hub:lab/encoder@v1:b.pth")
    assert (found.spec, found.file) == (f"hub:lab/encoder@{COMMIT}:b.pth", folder / "b.pth")
    with pytest.raises(ConfigError, match=r"(?s)c\.pth; choose one of:.*b\.pth"):
        hub_weights("hub:lab/encoder:c.pth")


@pytest.mark.parametrize(
    ("card", "licence"),
    [("# no head", "not stated"), ("---\nlicense: other\nlicense_name: dinov3\n---\n", "dinov3"),
     ("---\n: [\n---\n", "not stated"), ("", "not stated")],
)  # fmt: skip
def test_the_licence_is_what_the_card_states(model, card, licence):
    (model[0] / "README.md").write_text(card)
    assert hub_weights("hub:lab/encoder").licence == licence


def test_without_a_network_the_message_says_how_to_fetch_them(monkeypatch):
    def no_network(*_, **__):
        raise OSError("network is unreachable\nmore")

    monkeypatch.setattr(huggingface_hub, "snapshot_download", no_network)
    with pytest.raises(ConfigError, match=r"unreachable; .*hf download lab/encoder --revision v1 --local-dir DIR"):
        compose(["backbone.weights=hub:lab/encoder@v1"], root=Path("/project"))


def test_a_file_of_this_project_says_its_classes_and_its_run_also_from_the_hub(model, caplog):
    folder, _ = model
    caplog.set_level("INFO")
    trained = build("resnet18", num_classes=2)
    state = {f"backbone.{name}": tensor.contiguous() for name, tensor in trained.state_dict().items()}
    card = {"lesion_exp": json.dumps({"classes": ["mel", "nv"], "run_id": "0" * 32})}
    save_file(state, str(folder / "model.safetensors"), metadata=card)
    weights = f"hub:lab/encoder@{COMMIT}"

    def head_of(*classes):
        made = make_backbone(node("resnet18", weights=weights), InputsAndOutputs(2, 64, classes=classes))
        assert torch.equal(made.body.network.conv1.weight, trained.body.network.conv1.weight)
        return made.head.weight

    assert torch.equal(head_of("mel", "nv"), trained.head.weight)
    assert not torch.equal(head_of("bcc", "nv"), trained.head.weight)
    assert "its classes are mel, nv and those of this run are bcc, nv" in caplog.text
    assert maker_of(weights) == "0" * 32


@pytest.mark.parametrize("weights", ["hub:encoder", "hub:a/b/c", "hub:", "hub:a/b@"])
def test_what_names_nothing_is_refused(weights):
    with pytest.raises(ConfigError, match="hub:OWNER/NAME@REVISION"):
        hub_weights(weights)
