from types import SimpleNamespace

import pytest
import torch
from torch import nn

from lesion_exp.config.own_code import code_tags
from lesion_exp.config.registered import TRUST_VARIABLE
from lesion_exp.errors import ConfigError
from lesion_exp.verbs.evaluate.ensemble_run import _code_tags
from lesion_exp.verbs.evaluate.soup import mean_checkpoint, mean_state, recompute_batch_norm, soup


def state(seed):
    torch.manual_seed(seed)
    network = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4))
    network(torch.rand(8, 3, 6, 6))
    return network.state_dict()


def test_the_mean_of_a_network_and_itself_is_the_network():
    one = state(0)
    mean = mean_state([one, one, one])
    assert all(torch.equal(mean[name], one[name]) and mean[name].dtype == one[name].dtype for name in one)


def test_weights_are_averaged_and_counters_kept():
    first, second = state(0), state(1)
    mean = mean_state([first, second])
    torch.testing.assert_close(mean["0.weight"], (first["0.weight"] + second["0.weight"]) / 2)
    assert mean["1.num_batches_tracked"] == 1


def test_networks_of_other_layers_or_classes_are_refused(tmp_path):
    paths = [tmp_path / f"{number}.ckpt" for number in range(3)]
    card = {"classes": ["a", "b"]}
    torch.save({"state_dict": {"w": torch.ones(2)}, "lesion_exp": card}, paths[0])
    torch.save({"state_dict": {"w": torch.ones(3)}, "lesion_exp": card}, paths[1])
    torch.save({"state_dict": {"w": torch.zeros(2)}, "lesion_exp": {"classes": ["a", "c"]}}, paths[2])
    with pytest.raises(ConfigError, match=r"w: \(2,\) and \(3,\)"):
        mean_checkpoint(paths[:2])
    with pytest.raises(ConfigError, match="same classes"):
        mean_checkpoint([paths[0], paths[2]])


def test_networks_of_other_features_have_no_mean(tmp_path):
    paths = [tmp_path / f"{number}.ckpt" for number in range(3)]
    for path, card in zip(paths, ({}, {"class_token": False}, {"class_token": True}), strict=True):
        torch.save({"state_dict": {"w": torch.ones(2)}, "lesion_exp": {"classes": ["a", "b"], **card}}, path)
    mean_checkpoint(paths[:2])
    with pytest.raises(ConfigError, match="one of the runs 1 and 2 gives its class token"):
        mean_checkpoint(paths[1:])


def test_images_that_networks_remember_have_no_mean(tmp_path):
    path = tmp_path / "knn.ckpt"
    torch.save({"state_dict": {"backbone.head.memory": torch.ones(2, 2)}, "lesion_exp": {"classes": ["a", "b"]}}, path)
    with pytest.raises(ConfigError, match="use ensemble=mean"):
        mean_checkpoint([path, path])


def test_batch_norm_has_the_statistics_of_the_training_images():
    class Network(nn.Module):
        def __init__(self):
            super().__init__()
            self.norm = nn.BatchNorm2d(3, momentum=0.1)

        def forward(self, batch):
            return self.norm(batch["image"])

    images = torch.rand(24, 3, 5, 5, generator=torch.Generator().manual_seed(0)) * 7
    batches = [{"image": part, "index": torch.arange(8)} for part in images.split(8)]
    network = Network()
    assert recompute_batch_norm(network, SimpleNamespace(evaluation_dataloader=lambda part: batches)) == 1
    torch.testing.assert_close(network.norm.running_mean, images.mean(dim=(0, 2, 3)))
    expected = torch.stack([part.var(dim=(0, 2, 3)) for part in images.split(8)]).mean(dim=0)
    torch.testing.assert_close(network.norm.running_var, expected)
    assert not network.training
    assert network.norm.momentum == 0.1
    assert recompute_batch_norm(nn.Linear(2, 2), None) == 0


def test_a_soup_has_the_states_of_the_users_code_of_its_members_and_its_own(tmp_path, monkeypatch):
    module = tmp_path / "soup_networks_of_the_test.py"
    module.write_text("one = 1\n")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setenv(TRUST_VARIABLE, module.stem)
    config = {"backbone": {"_target_": f"{module.stem}.network"}}
    ((name, now),) = code_tags(config).items()

    def of(*states):
        runs = [SimpleNamespace(tags={} if state is None else {name: state}) for state in states]
        return _code_tags([SimpleNamespace(run=run, job_config=lambda _: config) for run in runs])

    assert of(now, now) == {name: now}
    assert of("1", "1 and 2") == {name: f"1 and 2 and {now}"}
    assert of("1", now, None) == {name: f"1 and {now}"}
    assert of(None, None) == {}, "an earlier version recorded none"


@pytest.mark.parametrize(("key", "other"), [("view", "clinical"), ("mask", "crop")])
def test_networks_of_other_photographs_have_no_mean(tmp_path, key, other):
    """Their layers are alike, so that the weights alone do not tell."""
    own = {"view": "dermoscopic", "mask": "none"}
    members = [
        SimpleNamespace(run=SimpleNamespace(tags={}), job_config=lambda _, node=node: {"dataset": node})
        for node in (own, {**own, key: other})
    ]
    with pytest.raises(ConfigError, match=rf"the same dataset\.{key} .* {own[key]}, {other}: .* use ensemble=mean"):
        soup(members, SimpleNamespace(dataset=None), tmp_path)
