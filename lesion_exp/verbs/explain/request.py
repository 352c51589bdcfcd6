"""The request of an explanation, which has the options of `explain`, and the methods that it can name."""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Literal

import yaml

from lesion_exp.choices import EVALUATED_PARTS, WEIGHTS
from lesion_exp.config.instantiate import check_installed, instantiate, needed_package, resolve_target
from lesion_exp.config.registered import TARGET
from lesion_exp.config.shipped_conf import option_names
from lesion_exp.errors import ConfigError, check_choice, nearest
from lesion_exp.option import Truth, check_options, choice, option, whole

if TYPE_CHECKING:
    from lesion_exp.explanation.explainer import Explainer
    from lesion_exp.trained_runs.trained_run import WhichWeights

Part = Literal["val", "test"]
PASSES: Final = 10_000
"""The forward passes of a method, from which the default number of measured images follows."""
FEWEST: Final = 20
"""The least default number of measured images."""
DEFAULT_METHODS: Final = ("grad_cam", "grad_cam_plus_plus", "integrated_gradients")
"""The default methods of `explain`."""
GROUP: Final = "explanation"
"""The config group of the methods."""


@dataclass(frozen=True)
class ExplanationRequest:
    """What to explain, and how."""

    methods: Mapping[str, Explainer]
    part: Part | None = option(
        None, choice(EVALUATED_PARTS), "the part; without it, test if the run has evaluated it, else val"
    )
    count: int = option(6, whole(example="8"), "number of images in a row of a gallery")
    images: int | None = option(
        None,
        whole(example="500"),
        "number of measured images, drawn from the part; without it, the number depends on the method's cost",
    )
    checkpoint: WhichWeights = option("best", choice(WEIGHTS, path_too=True), "which weights of the run")
    log_images: bool = option(
        True,
        Truth(),
        "false: no galleries, so that images of patients stay out of the store (as with this key in the run's config)",
        key="tracking.log_images",
    )
    places: Mapping[str, Path] = field(default_factory=dict)
    """Where data of the run are now that have moved, by the keys of its job, see `MovedData`."""

    def __post_init__(self) -> None:
        """Checks the values of the options.

        Raises:
            ConfigError: an option does not accept its value.
        """
        check_options(self)

    def num_images(self, explainer: Explainer) -> int:
        """Returns the number of images that are measured with a method, if the part has as many."""
        return max(PASSES // explainer.passes, FEWEST) if self.images is None else self.images


def method_names(folders: Sequence[Path]) -> list[str]:
    """Returns the names of the methods in `folders`: the shipped configs, then the user's own."""
    return option_names(GROUP, folders)


def make_explainer(name: str, folders: Sequence[Path], settings: Mapping[str, Any] | None = None) -> Explainer:
    """Returns the method `name`, with `settings` replacing values of its YAML.

    Raises:
        ConfigError: the name or a setting is unknown, a value is out of range, or a package is not installed.
    """
    from lesion_exp.explanation.explainer import Explainer  # heavy

    node = method_node(name, folders, settings)
    made = instantiate(node, GROUP)
    if not isinstance(made, Explainer):
        raise ConfigError(
            f"expected a subclass of lesion_exp.explanation.explainer.Explainer as _target_ of method={name}, got "
            f"{node['_target_']}; derive the class from Explainer"
        )
    return made


def method_node(name: str, folders: Sequence[Path], settings: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """Returns the config node of the method `name`, with `settings` replacing values of its YAML; imports no method.

    Raises:
        ConfigError: the name or a setting is unknown, or a package is not installed.
    """
    node = _node(name, folders)
    known = [key for key in node if key != TARGET]
    for key in settings or {}:
        if key not in known and str(node[TARGET]).startswith("lesion_exp."):
            raise ConfigError(f"expected a setting of method={name}, got {name}.{key}; {nearest(key, known)}")
    node |= settings or {}
    check_installed({GROUP: node})
    return node


def about(name: str, folders: Sequence[Path]) -> str:
    """Returns a description of the method: the first line of the docstring of its module or class."""
    target = resolve_target(_node(name, folders)[TARGET], GROUP)
    text = sys.modules[target.__module__].__doc__ or target.__doc__ or ""
    return text.strip().partition("\n")[0]


def is_installed(name: str, folders: Sequence[Path]) -> bool:
    """Returns whether the package that the method needs, if any, is installed."""
    package = needed_package(str(_node(name, folders)[TARGET]).rpartition(".")[0])
    return package is None or importlib.util.find_spec(package) is not None


def _node(name: str, folders: Sequence[Path]) -> dict[str, Any]:
    files = [folder / GROUP / f"{name}.yaml" for folder in folders]
    found = [file for file in files if file.is_file()]
    check_choice("method", name, method_names(folders))
    node: dict[str, Any] = yaml.safe_load(found[-1].read_text("utf-8"))
    return node
