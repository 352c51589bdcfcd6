import inspect
from pathlib import Path

from omegaconf import OmegaConf

from lesion_exp.tracking.run import TrackedRun
from lesion_exp.tracking.store import open_store

CONF = Path(__file__).parents[2] / "conf"


def test_every_tracking_key_is_known_to_who_takes_it() -> None:
    config = OmegaConf.load(CONF / "tracking" / "default.yaml")
    recording = {
        name
        for name, parameter in inspect.signature(TrackedRun).parameters.items()
        if parameter.kind is inspect.Parameter.KEYWORD_ONLY and name != "spool"
    }
    assert set(config) == {"uri", "experiment", "run_name", "log_images", "log_model"} | recording
    assert "uri" in inspect.signature(open_store).parameters
    defaults = inspect.signature(TrackedRun).parameters
    assert all(config[name] == defaults[name].default for name in recording)


def test_paths_follow_the_root() -> None:
    config = OmegaConf.create({"paths": OmegaConf.load(CONF / "paths" / "default.yaml")})
    assert OmegaConf.is_missing(config.paths, "root")
    config.paths.root = "/project"
    assert OmegaConf.to_container(config.paths, resolve=True) == {
        "root": "/project",
        "data_cache": "/project/data_cache",
        "live": "/project/mlruns/live",
        "jobs": "/project/jobs",
        "sweeps": "/project/sweeps",
    }
