from pathlib import Path
from unittest.mock import Mock

import pytest

from lesion_exp.errors import ConfigError
from lesion_exp.training.trainer import keep_profile, profiler_in


@pytest.mark.parametrize("name", ["simple", "advanced"])
def test_what_a_profiler_measured_is_kept_with_the_run(name: str, tmp_path: Path) -> None:
    profiler = profiler_in(tmp_path, name)
    with profiler.profile("training_step"):
        sum(range(1000))
    profiler.describe()
    run = Mock()
    keep_profile(run, tmp_path)
    logged = {call.args[1]: call.args[0] for call in run.log_text.call_args_list}
    assert "profile/profile.txt" in logged
    assert "Profiler Report" in logged["profile/profile.txt"]


def test_without_a_profiler_nothing_is_kept(tmp_path: Path) -> None:
    assert profiler_in(tmp_path, None) is None
    run = Mock()
    keep_profile(run, tmp_path)
    run.log_text.assert_not_called()


@pytest.mark.parametrize("value", ["simpel", "xla", {"_target_": "os.system"}, ["simple"], True])
def test_what_is_no_profilers_name_is_refused(value: object, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="one of simple, advanced, pytorch or null"):
        profiler_in(tmp_path, value)
