import math
from pathlib import Path

import pytest

from lesion_exp.errors import ConfigError
from lesion_exp.sweeps.search.grid import GridSearch
from lesion_exp.sweeps.search.random import RandomSearch
from lesion_exp.sweeps.search.search import Dimension, GroupOptions, split_overrides

OPTIONS = GroupOptions([Path("conf").absolute()])
METRIC = {"metric": "val/balanced_accuracy", "direction": "maximize"}


def dimensions(*overrides, space=None):
    return split_overrides(overrides, OPTIONS, space or {})[1]


def random_search(num_cells=50, seed=0):
    return RandomSearch(**METRIC, num_cells=num_cells, seed=seed)


@pytest.mark.parametrize(
    ("text", "values"),
    [
        ("seed=1,2,3", ("1", "2", "3")),
        ("seed=range(1,4)", ("1", "2", "3")),
        ("seed=choice(5,6)", ("5", "6")),
        ("loss=glob(*f*,exclude=*soft*)", ("focal",)),
        ("trainer.devices=[0],[1]", ("[0]", "[1]")),
        ("dataset.filter='age > 0, sex','age > 9'", ("'age > 0, sex'", "'age > 9'")),
        ("+tags.a=x,y", ("x", "y")),
    ],
)
def test_values_in_hydras_grammar(text, values):
    assert [dimension.values for dimension in dimensions(text)] == [values]


def test_a_glob_leaves_out_what_needs_a_value_that_the_command_does_not_give(caplog):
    caplog.set_level("INFO")
    options = GroupOptions(OPTIONS.folders)
    for _ in range(2):  # as a plan of a sweep does
        _, (losses,) = split_overrides(["loss=glob(*)"], options, {})
    assert "distill" not in losses.values
    assert {"cross_entropy", "focal", "ldam"} < set(losses.values)
    assert caplog.messages == ["loss=glob(..) leaves out distill (which needs loss.teacher=VALUE)"]
    assert dimensions("loss=glob(dist*)", "loss.teacher=latest")[0].values == ("distill",)
    assert "distill" not in dimensions("loss@loss.labels=glob(*)", "loss.teacher=latest")[0].values
    assert {"ham10000", "ph2"} < set(dimensions("dataset=glob(*)")[0].values), "data are found by their name, too"
    assert dimensions("loss=focal,distill")[0].values == ("focal", "distill"), "a list is what the user wants"
    with pytest.raises(ConfigError, match=r"got distill \(which needs loss\.teacher=VALUE\) by loss=glob"):
        dimensions("loss=glob(dist*)")


@pytest.mark.parametrize(
    ("text", "given", "remedy"),
    [
        ("loss=glob(*)", "loss.teacher=latest", ("loss=distill", "loss.teacher=VALUE")),
        ("backbone=glob(*)", "backbone.name=resnet18", ("backbone=timm,torchvision", "backbone.name=VALUE")),
    ],
)
def test_a_value_that_not_all_options_of_a_glob_take_is_refused_with_a_sweep_that_takes_it(text, given, remedy):
    with pytest.raises(ConfigError, match=r"no key that some options of .* alone need") as caught:
        dimensions(text, given)
    assert str(caught.value).endswith(" ".join(remedy))
    if "," in remedy[0]:
        assert dimensions(*remedy)[0].values == ("timm", "torchvision")
    else:
        assert dimensions(*remedy) == []


def test_one_value_is_no_dimension():
    fixed, found = split_overrides(["seed=1", "loss=focal,soft_f1"], OPTIONS, {})
    assert fixed == ["seed=1"]
    assert [dimension.key for dimension in found] == ["loss"]


def test_the_plus_stays_with_the_key():
    assert dimensions("+tags.a=x,y")[0].override("x") == "+tags.a=x"


def test_a_space_in_yaml_is_read_like_the_command_line():
    nested = dimensions(space={"optimizer": {"lr": "tag(log, interval(1e-4, 1e-1))"}, "seed": [1, 2]})
    flat = dimensions(space={"optimizer.lr": "tag(log, interval(1e-4, 1e-1))", "seed": "1,2"})
    assert (
        nested == flat == [Dimension("optimizer.lr", low=1e-4, high=1e-1, is_log=True), Dimension("seed", ("1", "2"))]
    )


def test_the_command_line_wins_over_the_space():
    fixed, found = split_overrides(["seed=7"], OPTIONS, {"seed": "1,2", "loss": "focal,soft_f1"})
    assert fixed == ["seed=7"]
    assert [dimension.key for dimension in found] == ["loss"]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("optimizer.lr=interval(2,1)", "from a smaller to a larger"),
        ("optimizer.lr=tag(log,interval(0,1))", "above 0"),
        ("optimizer.lr=tag(fast,interval(1,2))", "log as the only tag"),
        ("loss=glob(nothing*)", "at least one value"),
        ("nonsense=glob(*)", "config group"),
    ],
)
def test_values_that_make_no_sense_are_refused(text, words):
    with pytest.raises(ConfigError, match=words):
        dimensions(text)


def test_a_key_with_values_twice_is_refused():
    with pytest.raises(ConfigError, match="once"):
        dimensions("seed=1,2", "seed=3,4")


def test_a_grid_is_the_product_with_the_last_key_fastest():
    cells = GridSearch(**METRIC).all_cells(dimensions("loss=focal,soft_f1", "seed=1,2"))
    assert cells == [
        ("loss=focal", "seed=1"),
        ("loss=focal", "seed=2"),
        ("loss=soft_f1", "seed=1"),
        ("loss=soft_f1", "seed=2"),
    ]


def test_a_grid_refuses_what_it_cannot_count():
    with pytest.raises(ConfigError, match="search=random"):
        GridSearch(**METRIC).all_cells(dimensions("optimizer.lr=interval(1e-4,1e-1)"))
    with pytest.raises(ConfigError, match="at most 10,000"):
        GridSearch(**METRIC).all_cells(dimensions("seed=range(0,101)", "split.seed=range(0,101)"))


def test_random_cells_lie_in_their_bounds_and_differ():
    cells = random_search().all_cells(
        dimensions("optimizer.lr=tag(log,interval(1e-5,1e-1))", "image_size=int(interval(32,64))", "loss=focal,soft_f1")
    )
    assert len(set(cells)) == len(cells) == 50
    rates = [float(lr.partition("=")[2]) for lr, _, _ in cells]
    sizes = [size.partition("=")[2] for _, size, _ in cells]
    assert all(1e-5 <= rate <= 1e-1 for rate in rates)
    assert all(size.isdigit() and 32 <= int(size) <= 64 for size in sizes)
    middle = math.exp(sum(map(math.log, rates)) / len(rates))
    assert 2e-4 < middle < 5e-3, "the logarithm is drawn evenly, so the middle is near 1e-3, not near 0.05"


def test_the_same_seed_draws_the_same_cells():
    found = dimensions("optimizer.lr=interval(0.1,1)")
    assert random_search().all_cells(found) == random_search().all_cells(found)
    assert random_search().all_cells(found) != random_search(seed=1).all_cells(found)


def test_random_stops_where_there_are_no_more_different_cells_and_says_so(caplog):
    found = dimensions("loss=focal,soft_f1", "seed=1,2")
    assert len(random_search().all_cells(found)) == 4
    assert "search.num_cells=50 asks for more cells" in caplog.text
    assert "4 cells are tried" in caplog.text
    caplog.clear()
    assert len(random_search(num_cells=4).all_cells(found)) == 4
    assert not caplog.text


@pytest.mark.parametrize("metric", ["test/balanced_accuracy", "train/loss", ["val/loss", "test/loss"]])
def test_only_validation_may_choose(metric):
    direction = ["maximize"] * (1 if isinstance(metric, str) else len(metric))
    with pytest.raises(ConfigError, match="a metric of validation"):
        GridSearch(metric=metric, direction=direction)


def test_every_metric_has_a_direction():
    with pytest.raises(ConfigError, match="a direction for each"):
        GridSearch(metric=["val/loss", "val/accuracy"], direction="minimize")
    with pytest.raises(ConfigError, match="one of maximize, minimize"):
        GridSearch(metric="val/loss", direction="smaller")
