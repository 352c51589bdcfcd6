"""Networks that earlier versions trained are restored as they were."""

from types import SimpleNamespace

import pytest
import torch

from lesion_exp.errors import ConfigError
from lesion_exp.model.model_card import completed, model_card
from lesion_exp.model.restore import restore
from lesion_exp.task import NetworkTask

DINOV3 = ("backbone=timm", "backbone.name=vit_small_patch16_dinov3")


def test_features_of_dinov3_are_the_mean_of_its_patches_if_an_earlier_version_trained_it(untrained, tmp_path):
    pytest.importorskip("timm", reason="the extra timm is not installed")
    config, path = untrained(*DINOV3)
    content = torch.load(path, weights_only=True)
    now = model_card(config, ("bcc", "mel", "nv"), None, None)
    before = {key: value for key, value in now.items() if key != "class_token"}
    kept = completed(before, config, "r", {})  # as when its model is completed by this version
    images = torch.randn(2, 3, 32, 32, generator=torch.Generator().manual_seed(1))
    for card, is_token in ((now, True), (before, False), (kept, False), (content["lesion_exp"], False)):
        torch.save({**content, "lesion_exp": card}, tmp_path / "best.ckpt")
        backbone = restore(config, tmp_path / "best.ckpt").classifier.backbone.eval()
        with torch.inference_mode():
            tokens = backbone.body.network.forward_features(images)
            expected = tokens[:, 0] if is_token else tokens[:, 5:].mean(dim=1)
            torch.testing.assert_close(backbone.encode(images), expected)


def test_a_network_whose_features_were_others_does_not_go_on():
    task = SimpleNamespace(options=SimpleNamespace(card={"class_token": True}), global_rank=1)
    NetworkTask.on_load_checkpoint(task, {"lesion_exp": {"class_token": True}})
    with pytest.raises(ConfigError, match="trained with the mean over the patches"):
        NetworkTask.on_load_checkpoint(task, {"lesion_exp": {}})


def test_a_size_that_is_refused_now_is_kept_by_a_network_that_was_trained_with_it(untrained, caplog):
    config, path = untrained("backbone=swin_t", "image_size=32")
    older = {**config, "image_size": 34}
    backbone = restore(older, path).classifier.backbone.eval()
    assert "ignores the right and lower edge of its images of 34 pixels" in caplog.text
    images = torch.randn(1, 3, 34, 34, generator=torch.Generator().manual_seed(1))
    changed = images.clone()
    changed[..., 32:, :] = changed[..., 32:] = 9.0
    with torch.inference_mode():
        assert torch.equal(backbone.encode(images), backbone.encode(changed))
