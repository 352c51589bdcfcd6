"""Checks the types and ranges of config values before anything heavy is imported."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from typing import Any, Final

from lesion_exp.backbone.options import check_tune
from lesion_exp.choices import CHOICES
from lesion_exp.config.habits import better_hint
from lesion_exp.config.shipped_conf import conf_dir
from lesion_exp.errors import ConfigError, check_choice, nearest
from lesion_exp.option import Devices
from lesion_exp.pretrain import chosen_parts
from lesion_exp.value_range import RANGES, check_range

LEAST: Final[Mapping[str, float]] = {
    "image_size": 16,
    "loader.batch_size": 1,
    "loader.num_workers": 0,
    "loader.evaluation_batch_size": 1,
    "trainer.max_epochs": 1,
    "trainer.max_steps": 1,
    "trainer.accumulate_grad_batches": 1,
    "trainer.num_nodes": 1,
    "trainer.log_every_n_steps": 1,
    "trainer.check_val_every_n_epoch": 1,
    "pretrain.probe_every": 1,
    "pretrain.probe_neighbours": 1,
    "pretrain.num_views": 2,
    "pretrain.hidden_dim": 1,
    "pretrain.output_dim": 1,
    "pretrain.decoder_dim": 1,
    "pretrain.decoder_depth": 1,
    "pretrain.decoder_heads": 1,
    "pretrain.warmup_epochs": 0,
    "pretrain.freeze_last_layer": 0,
    "split.share_seed": 0,
    "trainer.early_stopping.patience": 1,
    "dataset.limit": 1,
    "dataset.mask_margin": 0,
    "dataset.store_size": 16,
    "backbone.width": 1,
    "backbone.knn.k": 1,
    "backbone.lora.rank": 1,
    "optimizer.weight_decay": 0,
    "evaluation.bootstrap_draws": 100,
    "trainer.limit_val_batches": 0,
    "seed": 0,
    "split.seed": 0,
    "dataset.seed": 0,
}
ABOVE_ZERO: Final = (
    "backbone.knn.temperature",
    "backbone.lora.alpha",
    "optimizer.lr",
    "trainer.gradient_clip_val",
    "trainer.limit_train_batches",
    "trainer.val_check_interval",
)
BETWEEN: Final[Mapping[str, tuple[float, float]]] = {
    "trainer.ema_decay": (0.0, 1.0),
    "evaluation.conformal_alpha": (0.0, 1.0),
}
_USUAL: Final = {
    "dataset.limit": 100,
    "dataset.store_size": 256,
    "loader.evaluation_batch_size": 32,
    "trainer.early_stopping.patience": 10,
    "trainer.limit_val_batches": 10,
    "trainer.ema_decay": 0.999,
    "trainer.max_steps": 1000,
}
"""Examples for keys whose default is not a number."""
ENDLESS_KEYS: Final = ("trainer.max_epochs", "trainer.max_steps")
"""Keys for which -1 means no limit."""
NEVER_NULL: Final = (
    "seed",
    "split.seed",
    "dataset.seed",
    "image_size",
    "test",
    "tags",
    "loader.batch_size",
    "loader.num_workers",
    "trainer.max_epochs",
    "optimizer.lr",
    "tracking.experiment",
    "tracking.log_model",
)
"""Keys that every run reads, in which null would have a hidden meaning (an unseeded run, a library's default)."""
NAMES: Final = ("tracking.experiment", "tracking.run_name")
"""Keys that name something in MLflow."""
WORDS: Final[Mapping[str, tuple[str, ...]]] = {
    "test": ("auto",),
    "tracking.log_model": ("auto",),
    "loader.num_workers": ("auto",),
    "trainer.devices": ("auto",),
    "trainer.channels_last": ("auto",),
    "dataset.store_size": ("auto", "none"),
    "trainer.deterministic": ("warn",),
}
"""Keys whose value is a number or a truth value, and the words that may stand in its place."""
TRUTH_VALUES: Final = ("test", "tracking.log_model")
"""The keys of `WORDS` whose value is a truth value and not a number."""
TRAINER_ARGUMENTS: Final = (
    "accelerator", "strategy", "devices", "num_nodes", "precision", "fast_dev_run", "max_epochs", "min_epochs",
    "max_steps", "min_steps", "max_time", "limit_train_batches", "limit_val_batches", "limit_predict_batches",
    "overfit_batches", "val_check_interval", "check_val_every_n_epoch", "log_every_n_steps", "accumulate_grad_batches",
    "gradient_clip_val", "gradient_clip_algorithm", "deterministic", "benchmark", "inference_mode", "profiler",
    "detect_anomaly", "sync_batchnorm", "reload_dataloaders_every_n_epochs",
)  # fmt: skip
"""Arguments of Lightning's Trainer that a config may set; this package sets the others."""
INTERNAL_TAGS: Final = frozenset(
    {
        "dataset", "backbone", "sampler", "loss", "kind", "job_hash", "split_hash", "dataset_fingerprint", "leaky",
        "git_commit", "git_dirty", "git_changes", "own_configs", "extends", "reproduces", "reproduction", "sweep_id",
        "sweep_cell", "weights_hash", "pruned", "test_readings", "error", "shortcuts", "members", "ensemble",
        "bundle_run_id", "bundle_content", "bundle_incomplete", "choice", "over seeds", "val", "test", "leaks",
        "metric_modes", "pretraining", "seen_before", "like",
    }
)  # fmt: skip
"""Tags that this package writes to its runs, and reads when it searches for runs."""
INTERNAL_TAG_PREFIXES: Final = ("mlflow.", "data.", "version.", "own_code.")
"""Prefixes of further tags of this kind."""
_NAMES: Final = {
    bool: "true or false",
    int: "a whole number",
    float: "a number",
    str: "text",
    list: "a list",
    dict: "keys",
}
FREE: Final = ("dataset.sets", "dataset.columns", "dataset.labels", "dataset.class_shares", "tags.")
"""Beginnings of keys whose last part is a name of the user's choice."""
ANY_KIND: Final = frozenset(
    {
        "loss.pos_weight",
        "pretrain.parts",
        "trainer.devices",
        "trainer.strategy",
        "trainer.precision",
        "optimizer.weight_decay",
    }
)
"""Keys whose default does not show which types they accept."""
_DEVICES: Final = Devices()
_NUMBER_OR_TEXT: Final = frozenset({"loss.pos_weight"})
"""The keys among them that accept a number or a word."""


def check_values(config: Mapping[str, Any], reference: Mapping[str, Any]) -> None:
    """Checks that every value of `config` has the type of the shipped default in `reference`, and is in its range.

    If the default is null or a reference (`${...}`), any value is accepted here; the code that reads it checks it.

    Raises:
        ConfigError: a value has the wrong type or is out of range.
    """
    defaults = dict(_leaves(reference, ""))
    values = dict(_leaves(config, ""))
    for key, value in values.items():
        if key in defaults and not key.startswith(FREE):
            _check_kind(key, value, defaults[key])
        if key in CHOICES:
            check_choice(key, value, CHOICES[key])
        if key == "backbone.tune":
            check_tune(value)
        if key == "pretrain.parts":
            chosen_parts(value)
        if key == "trainer.devices" and isinstance(value, bool | list) and not _DEVICES.accepts(value):
            raise ConfigError(f"expected {key} to be {_DEVICES.expected}, got {value!r}; for example {key}=[0,1]")
        _check_size(key, value, defaults.get(key))
        if key in NAMES and value is not None and (isinstance(value, list | Mapping) or not str(value).strip()):
            raise ConfigError(f"expected a name in {key}, got {value!r}; leave it out to use the default")
    _check_ranges(values)
    if values.get("trainer.find_batch_size") and ".class_balanced_batches." in str(values.get("sampler._target_")):
        raise ConfigError(
            "expected trainer.find_batch_size=false with sampler=class_balanced_batches, which sets the size of its "
            "batches itself; find the size with sampler=shuffle, then set loader.batch_size"
        )
    _check_end(values)
    check_tags(config.get("tags") or {})
    for key in NEVER_NULL:
        if key in defaults and values.get(key) is None:
            raise ConfigError(f"expected a value for {key}, got null; leave it out of the command to use the default")


def check_tags(tags: Mapping[str, Any]) -> None:
    """Checks that no tag of the user has the name of a tag that this package writes.

    Raises:
        ConfigError: a tag has such a name.
    """
    for key, _ in _leaves(tags, ""):
        if key in INTERNAL_TAGS or key.startswith(INTERNAL_TAG_PREFIXES):
            raise ConfigError(
                f"expected a tag that lesion_exp does not write itself, got tags.{key}, by which runs are found and "
                f"compared; choose another name, such as tags.my_{key.replace('.', '_')}"
            )


def check_known_keys(config: Mapping[str, Any], shipped: Mapping[str, Any]) -> None:
    """Checks that every key of `config` exists, because a preset of the user may contain others.

    `shipped` maps each key of the top level to its shipped value. For mappings the keys inside are compared as well.
    Nodes with a `_target_` are compared with its signature later.

    Raises:
        ConfigError: a key of the top level, of `trainer`, or of a node in `shipped` does not exist.
    """
    for key, value in config.items():
        if key not in shipped:
            hint = better_hint(key, "" if isinstance(value, Mapping) else str(value), nearest(key, shipped), conf_dir())
            raise ConfigError(f"expected a key of the config, got {key}; {hint}")
        known = shipped[key]
        if key != "tags" and isinstance(known, Mapping) and isinstance(value, Mapping):
            for name in value:
                if name not in known:
                    hint = better_hint(f"{key}.{name}", str(value[name]), nearest(name, known), conf_dir())
                    raise ConfigError(f"expected a key of {key}, got {key}.{name}; {hint}")


def _leaves(node: Any, prefix: str) -> Iterator[tuple[str, Any]]:
    for key, value in node.items():
        yield f"{prefix}{key}", value
        if isinstance(value, Mapping):
            yield from _leaves(value, f"{prefix}{key}.")


def _check_kind(key: str, value: Any, default: Any) -> None:
    if key in _NUMBER_OR_TEXT and (isinstance(value, bool) or not isinstance(value, int | float | str)):
        raise ConfigError(f"expected {key} to be a number or a text, got {value!r}; for example {key}={default}")
    if (
        key in ANY_KIND
        or value is None
        or default is None
        or (isinstance(default, str) and ("${" in default or default == "???"))
    ):
        return
    words = WORDS.get(key, ())
    if words:
        fits = isinstance(value, bool) if key in TRUTH_VALUES else not isinstance(value, str)
        if not fits and value not in words:
            kind = "" if key in TRUTH_VALUES else "a number, "
            raise ConfigError(f"expected {key} to be {kind}true, false or {' or '.join(words)}, got {value!r}")
        return
    expected = type(default)
    fits = isinstance(value, expected)
    if expected is float:
        fits = isinstance(value, int | float) and not isinstance(value, bool)
    if expected is int:
        fits = isinstance(value, int) and not isinstance(value, bool)
        fits = fits or (isinstance(value, float) and takes_fraction(key))
    if not fits:
        raise ConfigError(
            f"expected {key} to be {_NAMES.get(expected, expected.__name__)}, got {value!r} "
            f"({_NAMES.get(type(value), type(value).__name__)}); for example {key}={_example(default)}"
        )


def takes_fraction(key: str) -> bool:
    """Returns whether the value of `key` may be a share as well as a number."""
    return key.rpartition(".")[2] in {"limit_train_batches", "limit_val_batches"}


def _check_size(key: str, value: Any, default: Any) -> None:
    example = f"for example {key}={_number_for(key, default)}"
    if isinstance(value, bool) or not isinstance(value, int | float):
        if value is not None and (key in LEAST or key in ABOVE_ZERO) and value not in WORDS.get(key, ()):
            raise ConfigError(f"expected {key} to be a number, got {value!r}; {example}")
        return
    if not math.isfinite(value):
        raise ConfigError(f"expected a finite number for {key}, got {value}; {example}")
    if key in ENDLESS_KEYS and value == -1:
        return
    if key in LEAST and value < LEAST[key]:
        raise ConfigError(f"expected {key} of at least {LEAST[key]:g}, got {value}; {example}")
    if key in ABOVE_ZERO and not value > 0:
        raise ConfigError(f"expected {key} above 0, got {value}; {example}")
    if key in BETWEEN and not BETWEEN[key][0] < value < BETWEEN[key][1]:
        low, high = BETWEEN[key]
        raise ConfigError(f"expected {key} between {low:g} and {high:g}, got {value}; {example}")


def _check_ranges(values: Mapping[str, Any]) -> None:
    """Checks the numbers of options of this package; an option of the user may give a key of this name other values."""
    for key in RANGES:
        value = values.get(key)
        is_own = str(values.get(f"{key.partition('.')[0]}._target_")).startswith("lesion_exp.")
        if is_own and isinstance(value, int | float) and not isinstance(value, bool):
            check_range(key, value)


def _number_for(key: str, default: Any) -> Any:
    """Returns a number in the range of `key`: its default, or if that is not a number, a usual value or the minimum."""
    is_number = isinstance(default, int | float) and not isinstance(default, bool)
    return default if is_number else _USUAL.get(key, LEAST.get(key, 1))


def _check_end(values: Mapping[str, Any]) -> None:
    """Checks that something ends the training."""
    ends = (values.get(f"trainer.{key}") for key in ("max_time", "early_stopping.patience"))
    if values.get("trainer.max_epochs") == -1 and values.get("trainer.max_steps", -1) in (-1, None) and not any(ends):
        raise ConfigError(
            "expected something that ends the training, got trainer.max_epochs=-1 alone; add trainer.max_steps=1000, "
            "trainer.max_time=00:01:00:00 (an hour) or trainer.early_stopping.patience=10"
        )


def _example(default: Any) -> str:
    return str(default).lower() if isinstance(default, bool) else str(default)
