"""A frozen encoder is computed once, and a run that reads its features is the run that reads images."""

from __future__ import annotations

from importlib.metadata import version

import pytest

from lesion_exp.augmentation.fixed_views import FixedView
from lesion_exp.augmentation.pipeline import AugmentationPipeline
from lesion_exp.config.freeze import Job
from lesion_exp.config.instantiate import instantiate
from lesion_exp.config.registered import TRUST_VARIABLE
from lesion_exp.model.network import library_version
from lesion_exp.tracking.find import find_run
from lesion_exp.tracking.stored_run import Run
from lesion_exp.training import frozen_features
from lesion_exp.training import run as run_module
from lesion_exp.training.build import build
from lesion_exp.training.data import load_data, split_data
from lesion_exp.training.run import train
from lesion_exp.training.trainer import build_trainer

pytestmark = pytest.mark.usefixtures("no_pictures")

CACHED = ("augmentation=none", "backbone.tune=head")
FROZEN = (*CACHED, "backbone.metadata=concat", "backbone.dropout=0.2", "evaluation.tta=flips8")
"""What comes after the features, and an evaluation that needs images."""


def trained(job: Job) -> Run:
    return find_run(job.project.store, train(job).run_id)


def results(run: Run) -> dict[str, float]:
    return {name: value for name, value in run.metrics.items() if not name.startswith(("time/", "system/"))}


@pytest.fixture
def computed(monkeypatch):
    """Names of the features that were computed, not found."""
    keys = []
    real = frozen_features._batches

    def counted(*arguments):
        keys.append(len(keys))
        return real(*arguments)

    monkeypatch.setattr(frozen_features, "_batches", counted)
    return keys


def without_cache(job: Job, monkeypatch: pytest.MonkeyPatch) -> Run:
    """A run that computes the features of each step anew, from images."""
    with monkeypatch.context() as patched:
        patched.setattr(run_module, "cached_features", lambda *_: None)
        return trained(job)


@pytest.mark.slow
def test_cold_warm_and_no_cache_give_the_same_weights_and_metrics(tiny_job, tmp_path, computed, monkeypatch):
    job = tiny_job(*FROZEN, "tracking.log_model=false", root=tmp_path)
    cold = trained(job)
    assert len(computed) == 8, "the eight views of evaluation.tta"
    assert len(list((tmp_path / "data_cache" / "features").glob("*/features.bin"))) == 8
    warm = trained(job)
    assert len(computed) == 8, "the second run finds them"
    without = without_cache(job, monkeypatch)
    hashes = [run.tags["weights_hash"] for run in (cold, warm, without)]
    assert hashes == [hashes[0]] * 3
    assert results(cold) == results(warm)
    assert results(cold) == pytest.approx(results(without), abs=1e-5)
    assert results(cold)["val/loss"] > 0
    plain = trained(tiny_job(*FROZEN, "evaluation.tta=none", "tracking.log_model=false", root=tmp_path))
    assert len(computed) == 8, "the unchanged images are the first of the eight views"
    assert plain.tags["weights_hash"] == hashes[0], "the views of an evaluation train nothing"
    assert results(plain)["test/loss"] != pytest.approx(results(cold)["test/loss"], abs=1e-5)


VIEWS = {
    "flips8": ("augmentation=none", "augmentation.views=flips8"),
    "draws": ("augmentation=light", "augmentation.views=3"),
}


@pytest.mark.slow
@pytest.mark.parametrize("kind", VIEWS)
def test_a_fixed_set_of_views_is_computed_once(kind, tiny_job, tmp_path, computed, monkeypatch):
    more = ("sampler=shuffle", "loss=cross_entropy", "tracking.log_model=false", "trainer.max_epochs=3")
    job = tiny_job(*FROZEN, *VIEWS[kind], *more, root=tmp_path)
    cold = trained(job)
    count = {"flips8": 8, "draws": 8 + 3}[kind]
    assert len(computed) == count
    warm, without = trained(job), without_cache(job, monkeypatch)
    hashes = [run.tags["weights_hash"] for run in (cold, warm, without)]
    assert hashes == [hashes[0]] * 3
    assert results(cold) == results(warm)
    assert results(cold) == pytest.approx(results(without), abs=1e-5)
    others = ("seed=1", "sampler=weighted", "loss=focal", "backbone.head=mlp", "loader.batch_size=16")
    start = trained(tiny_job(*FROZEN, *VIEWS[kind], *more, *others[1:], root=tmp_path))
    assert len(computed) == count, "heads, losses and samplers share them"
    fixed = trained(tiny_job(*FROZEN, *more, root=tmp_path))
    assert fixed.tags["weights_hash"] not in (hashes[0], start.tags["weights_hash"]), "the views do something"


def test_features_belong_to_weights_pixels_and_precision_and_to_nothing_else(tiny_job, tmp_path, monkeypatch):
    plain = tiny_job(*CACHED).config
    split = split_data(plain, load_data(plain))

    def key(*overrides: str) -> str:
        config = tiny_job(*CACHED, *overrides).config
        trainer = build_trainer(config["trainer"], False, tmp_path, [])
        facts = frozen_features._facts(config, build(config, split), trainer, frozen_features.BATCH_SIZE)
        return frozen_features._key(facts, config, None)

    others = [
        "seed=1",
        "augmentation.fit=squash",
        "augmentation.mean=[0.5,0.5,0.5]",
        "augmentation/transform@augmentation.preprocess.grey=shades_of_gray",
        "backbone.attention=se",
        "dataset.mask=crop",
        "trainer.precision=bf16-mixed",
    ]
    keys = [key(), *(key(f"+{each}" if "@" in each else each) for each in others)]
    assert len(set(keys)) == len(keys)
    assert key("loss=focal", "sampler=shuffle", "loader.batch_size=16", "backbone.dropout=0.5") == keys[0]
    assert key("backbone.metadata=concat", "split.seed=1", "optimizer=sgd") == keys[0]
    assert key("augmentation.views=flips8") == keys[0]

    def view_key(view: FixedView | None, *overrides: str) -> str:
        config = tiny_job(*CACHED, *overrides).config
        return frozen_features._key({}, config, view)

    views = [None, *(FixedView(flip, number) for flip in (True, False) for number in (1, 2))]
    of_views = [view_key(view, "augmentation=light", "augmentation.views=4") for view in views]
    assert len(set(of_views)) == len(of_views)
    assert of_views == [view_key(view, "augmentation=light", "augmentation.views=5", "seed=1") for view in views]
    weaker = [view_key(view, "augmentation=light", "augmentation.transforms.flip.p=0.5") for view in views]
    assert [ours == theirs for ours, theirs in zip(of_views, weaker, strict=True)] == [True] * 3 + [False] * 2
    monkeypatch.setattr(frozen_features, "library_version", lambda node: "torchvision 99.0")
    assert key() != keys[0], "another version of the library may compute other features from the same weights"


def test_the_version_of_the_library_is_that_of_the_networks_own():
    def of(target: str) -> str | None:
        return library_version({"_target_": target})

    assert of("lesion_exp.backbone.torchvision.torchvision_backbone") == f"torchvision {version('torchvision')}"
    assert of("lesion_exp.backbone.small_cnn.small_cnn") is None
    assert of("mine.torchvision.network") is None


def test_features_of_own_code_belong_to_that_code_and_others_to_none(tiny_job, tmp_path, monkeypatch):
    config = tiny_job(*CACHED).config
    split = split_data(config, load_data(config))
    built, trainer = build(config, split), build_trainer(config["trainer"], False, tmp_path, [])
    module = tmp_path / "encoder_of_the_test.py"
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setenv(TRUST_VARIABLE, "encoder_of_the_test")
    own = {"_target_": "encoder_of_the_test.made"}
    augmentation = config["augmentation"]
    configs = {
        "shipped": config,
        "loss": {**config, "loss": own},
        "network": {**config, "backbone": {**config["backbone"], **own}},
        "preprocess": {**config, "augmentation": {**augmentation, "preprocess": {"own": own}}},
        "drawn": {**config, "augmentation": {**augmentation, "transforms": {"own": own}}},
        "pipeline": {**config, "augmentation": {**augmentation, **own}},
    }

    def keys(factor: int) -> dict[str, list[str]]:
        module.write_text(f"made = lambda images: {factor} * images\n")
        found = {}
        for name, each in configs.items():
            facts = frozen_features._facts(each, built, trainer, frozen_features.BATCH_SIZE)
            found[name] = [frozen_features._key(facts, each, view) for view in (None, FixedView(False, 1))]
        return found

    before, after = keys(1), keys(2)
    assert before["loss"] == before["shipped"], "no key of shipped options has changed"
    assert before["pipeline"][0] != before["shipped"][0], "it may show other pixels"
    same = {name: [old == new for old, new in zip(before[name], after[name], strict=True)] for name in configs}
    both, none = [True, True], [False, False]
    of_the_user = {"network": none, "preprocess": none, "pipeline": none}
    assert same == {"shipped": both, "loss": both, "drawn": [True, False], **of_the_user}


def test_only_what_is_fixed_is_cached(tiny_job):
    def can_cache(*overrides: str) -> bool:
        config = tiny_job(*overrides).config
        pipeline: AugmentationPipeline = instantiate(config["augmentation"], "augmentation")
        return frozen_features.can_cache(config, pipeline)

    assert can_cache("augmentation=none", "backbone.tune=head")
    assert can_cache("augmentation=colour_constancy", "backbone.tune=head") == (
        not tiny_job("augmentation=colour_constancy").config["augmentation"]["transforms"]
    )
    assert not can_cache("augmentation=none")
    assert not can_cache("augmentation=none", "backbone.tune=last:1")
    assert not can_cache("augmentation=light", "backbone.tune=head")
    assert not can_cache("augmentation=none", "augmentation/mix=mixup", "backbone.tune=head")
    assert can_cache("augmentation=light", "augmentation.views=4", "backbone.tune=head")
    assert can_cache("augmentation=none", "augmentation.views=flips8", "backbone.tune=head")
    assert not can_cache("augmentation=light", "augmentation.views=4")
    assert not can_cache("augmentation=light", "augmentation.views=4", "augmentation/mix=mixup", "backbone.tune=head")
