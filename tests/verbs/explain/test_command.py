import pytest

from lesion_exp.cli import main
from lesion_exp.command.arguments import Arguments
from lesion_exp.command.explain import _settings
from lesion_exp.config.shipped_conf import conf_dir
from lesion_exp.verbs.explain.request import method_names
from tests.refusal import assert_refused


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ([], "run="),
        (["run=latest", "part=train"], "val or test"),
        (["run=latest", "checkpoint=first"], "best or last"),
        (["run=latest", "count=0"], "count"),
        (["run=latest", "images=many"], "images"),
        (["run=latest", "seed=1"], "seed=1"),
        (["run=latest", "method=gradcam"], "'grad_cam'"),
        (["run=latest", "method=occlusion,occlusion"], "twice"),
        (["run=latest", "occlusion.window=0.1"], "occlusion"),
        (["run=latest", "method=occlusion", "occlusion.windw=0.1"], "'window'"),
        (["run=latest", "method=occlusion", "occlusion.window=[0.1"], "occlusion.window"),
        (["run=latest", "tracking.log_images=perhaps"], "true or false"),
        (["method=list", "run=latest"], "alone"),
    ],
)
def test_a_mistake_is_one_message_and_2(arguments, said, store, monkeypatch, capsys):
    store.client.create_run(store.experiment_id("tests"))
    monkeypatch.chdir(store.root)
    assert_refused(capsys, ["explain", *arguments], said)


def test_a_setting_with_an_exponent_is_a_number():
    found = _settings(Arguments(["occlusion.window=2e-1", "occlusion.stride=0.5"]), [conf_dir()])
    assert found == {"occlusion": {"window": 0.2, "stride": 0.5}}


def test_the_methods_are_listed(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert main(["explain", "method=list"]) == 0
    shown = capsys.readouterr().out
    assert [line.split()[0] for line in shown.splitlines()] == method_names([conf_dir()])
