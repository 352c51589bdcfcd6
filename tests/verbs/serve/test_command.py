import shutil

import pytest

from lesion_exp.cli import main
from tests.refusal import assert_refused


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ([], "run="),
        (["run=latest", "port=http"], "whole number"),
        (["run=latest", "port=70000"], "65535"),
        (["run=latest", "timeout_s=soon"], "timeout_s"),
        (["run=latest", "queue=0"], "queue"),
        (["run=latest", "checkpoint=first"], "best or last"),
        (["run=latest", "conformal=raps"], "lac or aps"),
        (["run=latest", "seed=1"], "seed=1"),
    ],
)
def test_a_mistake_is_one_message_and_2(arguments, said, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert_refused(capsys, ["serve", *arguments], said)


def test_a_calibration_that_is_none_is_named(project, monkeypatch, capsys, free_port):
    root, run = project
    monkeypatch.chdir(root)
    assert_refused(capsys, ["serve", f"run={run.run_id}", f"port={free_port}", "calibration=platt"], "calibration")


def test_a_port_that_is_taken_is_refused_before_anything_is_loaded(project, monkeypatch, capsys):
    import socket

    root, run = project
    monkeypatch.chdir(root)
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        assert_refused(capsys, ["serve", f"run={run.run_id}", f"port={port}"], f"port={port + 1}")


def test_conformal_sets_need_the_best_weights_whatever_their_file_is_called(
    project, file_of, monkeypatch, capsys, free_port
):
    root, _ = project
    monkeypatch.chdir(root)
    monkeypatch.setattr("lesion_exp.verbs.serve.server.serve", lambda run, options, *_: print(options.conformal))
    command = ["serve", f"port={free_port}", "conformal=lac"]
    assert_refused(capsys, [*command, f"run={file_of(changed=True)}"], "with other weights")
    assert main([*command, f"run={file_of(changed=False)}"]) == 0
    assert capsys.readouterr().out == "lac\n"


@pytest.mark.parametrize("changed", [True, False])
def test_the_last_weights_have_conformal_sets_where_they_are_the_best(
    project, file_of, monkeypatch, capsys, free_port, changed
):
    root, run = project
    monkeypatch.chdir(root)
    monkeypatch.setattr("lesion_exp.verbs.serve.server.serve", lambda run, options, *_: print(options.conformal))
    last = run.fetch("checkpoints/best.ckpt").with_name("last.ckpt")
    command = ["serve", f"run={run.run_id}", f"port={free_port}", "conformal=lac", "checkpoint=last"]
    try:
        shutil.copy(file_of(changed=changed), last)
        if changed:
            assert_refused(capsys, command, "with checkpoint=last; leave conformal= out")
        else:
            assert main(command) == 0
            assert capsys.readouterr().out == "lac\n"
    finally:
        last.unlink()
