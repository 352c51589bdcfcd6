"""Whether a run can predict new images, which is known before torch is imported."""

from __future__ import annotations

from lesion_exp.choices import STACKED
from lesion_exp.config.project import Project
from lesion_exp.errors import ConfigError
from lesion_exp.tracking.stored_run import Run
from lesion_exp.trained_runs.trained_run import WhichWeights, check_weights, trained_run


def is_stacked(run: Run) -> bool:
    """Returns whether `run` is a stacked ensemble."""
    return run.tags.get("kind") == "ensemble" and run.tags.get("ensemble") == STACKED


def check_predicts(run: Run, checkpoint: WhichWeights, project: Project) -> None:
    """Checks that `run` can predict with the weights `checkpoint`, without opening them.

    Raises:
        ConfigError: it has no network, or has not finished and `checkpoint` is no file.
    """
    if is_stacked(run):
        return
    _check_is_no_mean(run)
    check_weights(trained_run(run, project), checkpoint)


def _check_is_no_mean(run: Run) -> None:
    """Checks that `run` is no ensemble of predictions, whose networks are those of other runs.

    Raises:
        ConfigError: it is one.
    """
    members = [member[:8] for member in run.members]
    if run.tags.get("kind") != "ensemble" or not members:
        return
    method = run.tags.get("ensemble", "mean")
    together = "mean" if method == "pooled" else method
    raise ConfigError(
        f"expected a run with a network, got {run.run_id} ({run.name}), which combines the predictions of others "
        f"({method}) and predicts no new images by itself; predict with one of its runs, such as run={members[0]}, or "
        f"evaluate all of them on a labelled data set: lesion-exp evaluate 'run=[{','.join(members)}]' "
        f"ensemble={together} dataset=NAME dataset.root=DIR"
    )
