"""What somebody wants explained, and how: options of `explain`."""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Literal

import yaml

from lesion_exp.choices import EVALUATED_PARTS, WEIGHTS
from lesion_exp.config.instantiate import check_installed, instantiate, resolve_target
from lesion_exp.config.shipped_conf import option_names
from lesion_exp.errors import ConfigError, check_choice
from lesion_exp.option import Truth, check_options, choice, option, whole

if TYPE_CHECKING:
    from lesion_exp.explanation.explainer import Explainer
    from lesion_exp.trained_runs.trained_run import WhichWeights

Part = Literal["val", "test"]
PASSES: Final = 10_000
"""Forward passes of a method, by which the number of images behind its figures is chosen where nobody says it."""
FEWEST: Final = 20
DEFAULT_METHODS: Final = ("grad_cam", "grad_cam_plus_plus", "integrated_gradients")
"""What `explain` shows where nothing else is said."""


@dataclass(frozen=True)
class ExplanationRequest:
    """What `explain` is asked for."""

    methods: Mapping[str, Explainer]
    part: Part | None = option(
        None, choice(EVALUATED_PARTS), "the part; without it, test if the run has read it, else val"
    )
    count: int = option(6, whole(example="8"), "images a row of a gallery")
    images: int | None = option(
        None, whole(example="500"), "images behind the figures, drawn from the part; without it, by the method's cost"
    )
    checkpoint: WhichWeights = option("best", choice(WEIGHTS, path_too=True), "which of the run's weights")
    data_root: Path | None = None
    log_images: bool = option(
        True,
        Truth(),
        "false: no galleries, so that pictures of patients stay out of the store (also where the run's config says so)",
        key="tracking.log_images",
    )

    def __post_init__(self) -> None:
        """Refuses values that an option does not take.

        Raises:
            ConfigError: one of the keys.
        """
        check_options(self)

    def num_images(self, explainer: Explainer) -> int:
        """How many images the figures of a method are about, unless the part has fewer."""
        return max(PASSES // explainer.passes, FEWEST) if self.images is None else self.images


GROUP: Final = "explanation"


def method_names(folders: Sequence[Path]) -> list[str]:
    """The methods that `folders` (the shipped configs, then the user's own) describe."""
    return option_names(GROUP, folders)


def make_explainer(name: str, folders: Sequence[Path], settings: Mapping[str, Any] | None = None) -> Explainer:
    """The method `name`, with `settings` instead of the values in its YAML.

    Raises:
        ConfigError: an unknown name or setting, a value that it does not take, or a package that is not installed.
    """
    from lesion_exp.explanation.explainer import Explainer  # heavy

    node = {**_node(name, folders), **(settings or {})}
    check_installed({GROUP: node})
    made = instantiate(node, GROUP)
    if not isinstance(made, Explainer):
        raise ConfigError(
            f"expected a subclass of lesion_exp.explanation.explainer.Explainer as target of {name}, got "
            f"{node['_target_']}"
        )
    return made


def about(name: str, folders: Sequence[Path]) -> str:
    """What the method does, in one sentence."""
    target = resolve_target(_node(name, folders)["_target_"], GROUP)
    text = sys.modules[target.__module__].__doc__ or target.__doc__ or ""
    return text.strip().partition("\n")[0]


def is_installed(name: str, folders: Sequence[Path]) -> bool:
    """Whether the package that the method needs, if any, is there."""
    target = resolve_target(_node(name, folders)["_target_"], GROUP)
    package = getattr(sys.modules[target.__module__], "PACKAGE", None)
    return package is None or importlib.util.find_spec(package) is not None


def _node(name: str, folders: Sequence[Path]) -> dict[str, Any]:
    files = [folder / GROUP / f"{name}.yaml" for folder in folders]
    found = [file for file in files if file.is_file()]
    check_choice("method", name, method_names(folders))
    node: dict[str, Any] = yaml.safe_load(found[-1].read_text("utf-8"))
    return node
