"""The rules on planted facts, speeds and budgets."""

from dataclasses import replace

import pytest

from lesion_exp.errors import ConfigError
from lesion_exp.verbs.plan.candidate import Speed
from lesion_exp.verbs.plan.facts import DataFacts, Machine, Situation
from lesion_exp.verbs.plan.rules import Decision, decide, fallbacks, ladder, next_measured, store_side, wanted_epochs
from lesion_exp.verbs.plan.timing import EPOCH_SECONDS, SHARE_OF_BUDGET, times

HAM = DataFacts(
    dataset="ham10000",
    split="grouped",
    images=10_015,
    lesions=7_470,
    patients=None,
    counts={"akiec": 229, "bcc": 360, "bkl": 769, "df": 80, "mel": 779, "nv": 4694, "vasc": 99},
    groups={"akiec": 228, "bcc": 327, "bkl": 727, "df": 73, "mel": 614, "nv": 5403, "vasc": 98},
    parts={"train": 7010, "val": 1502, "test": 1503},
    width=600,
    height=450,
    masks=0.0,
    missing={"age": 0.01, "sex": 0.01, "site": 0.5},
    near_duplicates=100,
    sources={},
)
PH2 = replace(
    HAM,
    dataset="ph2",
    images=200,
    lesions=None,
    counts={"atypical_nevus": 56, "common_nevus": 56, "mel": 28},
    groups={"atypical_nevus": 80, "common_nevus": 80, "mel": 40},
    parts={"train": 140, "val": 30, "test": 30},
    masks=1.0,
)
CPU = Machine("CPU with 2 threads", False, 0, "bf16-mixed", 16 * 2**30)
GPU = Machine("NVIDIA H200", True, 1, "bf16-mixed", 130 * 2**30)


def situation(facts=HAM, hours=1.0, machine=CPU, has_weights=True):
    return Situation(facts, machine, has_weights, reading=5.0, budget=3600 * hours)


def speed_of(candidate, scale=1.0):
    """As on two threads: 180 images/s at 128 pixels for EfficientNet-Lite0, in proportion to the pixels."""
    factor = {"small_cnn": 20.0, "resnet18": 0.8, "efficientnet_lite2": 0.5, "resnet50": 0.2}.get(
        candidate.backbone, 1.0
    )
    training = scale * factor * 180 * (128 / candidate.image_size) ** 2 * (2.5 if candidate.tune == "last:4" else 1)
    return Speed(candidate, 0.0 if candidate.is_probe else training, 3 * training)


def planned(where: Situation, scale=1.0, failed=()) -> Decision:
    speeds = []
    while (candidate := next_measured(where, speeds, failed)) is not None:
        speeds.append(speed_of(candidate, scale))
    return decide(where, speeds)


def value(decision, key):
    found = [choice.value for choice in decision.choices if choice.key == key]
    assert len(found) <= 1
    return found[0] if found else None


@pytest.mark.parametrize("hours", [0.2, 0.35, 0.5, 1.0, 2.0, 6.0])
@pytest.mark.parametrize("facts", [HAM, PH2, replace(HAM, images=3000, parts={"train": 2100, "val": 450, "test": 450})])
@pytest.mark.parametrize("machine", [CPU, GPU])
@pytest.mark.parametrize("has_weights", [True, False])
def test_a_plan_fits_its_budget_and_has_a_reason_for_each_choice(hours, facts, machine, has_weights):
    found = planned(situation(facts, hours, machine, has_weights), 50 if machine.on_gpu else 1)
    assert 0 < found.total_seconds <= SHARE_OF_BUDGET * 3600 * hours
    assert found.epochs == value(found, "trainer.max_epochs") >= 1
    assert all(choice.reason for choice in found.choices if choice.key != "split.num_folds")
    assert len({choice.key for choice in found.choices}) == len(found.choices)


def test_more_time_goes_into_a_larger_size_and_then_into_seeds():
    sizes = [value(planned(situation(hours=hours)), "image_size") for hours in (0.25, 0.6, 4.0)]
    assert sizes == sorted(sizes)
    assert (sizes[0], sizes[-1]) == (128, 224)
    long = planned(situation(hours=8.0))
    assert long.seeds > 1
    assert long.epochs == wanted_epochs(HAM, long.candidate).most
    assert value(long, "search.space.seed") == list(range(long.seeds))
    assert value(long, "test") is True
    assert planned(situation(hours=0.6)).seeds == 1


def test_images_are_not_enlarged_beyond_their_longer_side():
    small = replace(HAM, width=200, height=150)
    assert [each.image_size for each in ladder(situation(small))] == [128, 160, 192]
    assert [each.image_size for each in ladder(situation(replace(HAM, width=28, height=28)))] == [128]


@pytest.mark.parametrize("hours", [0.05, 0.5, 5])
@pytest.mark.parametrize("machine", [CPU, GPU])
@pytest.mark.parametrize("has_weights", [True, False])
def test_the_store_has_enough_pixels_for_every_network(hours, machine, has_weights):
    where = situation(hours=hours, machine=machine, has_weights=has_weights)
    side = store_side(machine.on_gpu, has_weights, where.budget)
    assert max(each.image_size for each in (*ladder(where), *fallbacks(where))) <= side


def test_small_budgets_get_a_part_of_the_network_then_a_probe_and_then_an_answer():
    partly = planned(situation(hours=0.1))
    assert value(partly, "backbone.tune") == "last:4"
    probe = planned(situation(hours=0.05))
    assert probe.candidate.is_probe
    assert value(probe, "optimizer") == "logistic_path"
    assert value(probe, "evaluation.tta") == "none"
    with pytest.raises(
        ConfigError, match=r"expected hours= of at least 0\.\d+ .* got 0\.01; set hours=0\.\d+"
    ) as refused:
        planned(situation(hours=0.01))
    least = float(str(refused.value).partition("set hours=")[2].partition(",")[0])
    assert planned(situation(hours=least)).total_seconds <= 3600 * least  # the remedy works


def test_the_remedy_for_a_small_budget_works_without_weights_too():
    for facts in (HAM, PH2):
        with pytest.raises(ConfigError) as refused:
            planned(situation(facts, 0.001, has_weights=False))
        least = float(str(refused.value).partition("set hours=")[2].partition(",")[0])
        assert planned(situation(facts, least, has_weights=False)).epochs >= 1


def test_without_weights_a_network_is_trained_from_scratch():
    found = planned(situation(has_weights=False))
    assert value(found, "backbone") == "resnet18"
    assert value(found, "backbone.weights") == "none"
    assert value(found, "optimizer.lr") == 2e-3
    assert value(found, "augmentation.mix.mixup_alpha") is None
    assert planned(situation(hours=0.1, has_weights=False)).candidate.backbone == "small_cnn"


def test_few_images_get_folds_and_stronger_regularisation():
    found = planned(situation(PH2))
    assert (found.folds, value(found, "split"), value(found, "split.num_folds")) == (5, "kfold", 5)
    assert value(found, "search.space.split.fold") == [0, 1, 2, 3, 4]
    assert value(found, "augmentation") == "heavy"
    assert value(found, "loss.label_smoothing") == 0.1
    assert value(found, "augmentation.mix.mixup_alpha") == 0.4
    many = planned(situation())
    assert (many.folds, value(many, "split"), value(many, "augmentation")) == (1, None, "standard")
    assert value(many, "loss.label_smoothing") is None


def test_folds_need_groups_of_each_class_and_a_split_that_nobody_chose():
    assert planned(situation(replace(PH2, groups={"mel": 4, "nv": 90}))).folds == 3
    assert planned(situation(replace(PH2, groups={"mel": 3, "nv": 90}))).folds == 1
    assert planned(situation(replace(PH2, split="official"))).folds == 1
    assert planned(situation(replace(PH2, is_split_chosen=True))).folds == 1  # also the one that is the default


def test_a_budget_without_time_for_folds_says_so():
    found = planned(situation(PH2, hours=0.02))
    assert found.folds == 1
    assert any(offer.startswith("split=kfold: a test part of 30 images") for offer in found.offers)


@pytest.mark.parametrize(("counts", "has_weights", "sampler", "power", "loss", "tau"), [
    ({"mel": 100, "nv": 150}, True, "shuffle", None, "cross_entropy", None),
    ({"mel": 10, "nv": 150}, True, "weighted", 0.75, "logit_adjusted", 0.4),
    ({"mel": 10, "nv": 150}, False, "weighted", 0.5, "cross_entropy", None),
])  # fmt: skip
def test_rare_classes_are_drawn_more_often_where_there_are_any(counts, has_weights, sampler, power, loss, tau):
    found = planned(situation(replace(HAM, counts=counts), has_weights=has_weights))
    assert (value(found, "sampler"), value(found, "sampler.power")) == (sampler, power)
    assert (value(found, "loss"), value(found, "loss.tau")) == (loss, tau)


def test_mixup_is_for_trainings_long_enough_to_overfit():
    slow = planned(situation(hours=0.15), scale=0.9)
    assert value(slow, "trainer.max_epochs") <= 10
    assert value(slow, "augmentation.mix.mixup_alpha") is None
    assert value(planned(situation()), "augmentation.mix.mixup_alpha") == 0.4


def test_masks_and_metadata_are_offered_only_where_there_are_enough():
    assert any("dataset.mask" in offer for offer in planned(situation(PH2)).offers)
    assert not any("dataset.mask" in offer for offer in planned(situation(replace(PH2, masks=0.99))).offers)
    [offer] = [text for text in planned(situation()).offers if text.startswith("backbone.metadata")]
    assert offer.startswith("backbone.metadata=concat: age, sex known for most images (on HAM10000 a run had")
    nothing = replace(HAM, missing=dict.fromkeys(("age", "sex", "site"), 1.0))
    assert planned(situation(nothing)).offers == ()
    several = planned(situation(replace(HAM, sources={"a": 9, "b": 9})))
    assert any("sampler=by_source" in offer for offer in several.offers)


def test_a_gpu_gets_larger_networks_and_one_device():
    found = planned(situation(machine=GPU), scale=50)
    assert found.candidate.backbone == "efficientnet_lite2"
    assert found.candidate.image_size == 260
    assert value(found, "trainer.devices") is None
    assert value(planned(situation(machine=replace(GPU, num_gpus=4)), scale=50), "trainer.devices") == 1
    assert planned(situation(machine=GPU, has_weights=False), scale=50).candidate.backbone == "resnet50"


def test_what_does_not_fit_into_memory_is_not_chosen():
    where = situation(machine=GPU)
    first, second, _ = ladder(where)
    found = planned(where, 50, failed=(second,))
    assert found.candidate == first
    every = (*ladder(where), *fallbacks(where))
    assert next_measured(where, [], every) is None
    assert value(planned(situation(machine=replace(CPU, memory=2**30))), "loader.batch_size") == 32


def test_larger_networks_are_measured_only_if_the_smaller_one_has_time():
    where = situation(hours=0.25)
    first = next_measured(where, [])
    assert first.image_size == 128
    assert next_measured(where, [speed_of(first, 0.6)]) is None  # a fair number of epochs, not all
    assert next_measured(where, [speed_of(first, 10)]).image_size == 160
    assert next_measured(where, [speed_of(first, 0.1)]).tune == "last:4"


def test_the_time_counts_every_piece_of_work():
    speed = Speed(ladder(situation())[0], training=100.0, evaluation=300.0)
    seconds = times(situation(), speed, epochs=10, runs=1)
    assert seconds["training"] == pytest.approx(10 * (70.10 + EPOCH_SECONDS))
    assert seconds["validation"] == pytest.approx(10 * 1502 / 300)
    assert seconds["prediction"] == pytest.approx(8 * 3005 / 300)
    busy = situation(machine=replace(CPU, slowdown=3.0))
    assert times(busy, speed, 10, 1)["start"] - 5 == pytest.approx(3 * (seconds["start"] - 5))
    twice = times(situation(), speed, epochs=10, runs=2)
    assert twice["training"] == pytest.approx(2 * seconds["training"])
    assert twice["start"] == seconds["start"]
