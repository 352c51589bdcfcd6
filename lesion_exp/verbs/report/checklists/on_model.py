"""Answers of a run to checklist items on its network and its training."""

from __future__ import annotations

from typing import Final

from lesion_exp.evaluation.predictions import has_labels_only
from lesion_exp.evaluation.registry import short_of
from lesion_exp.tracking import artifacts
from lesion_exp.trained_runs.run_summary import RunSummary
from lesion_exp.trained_runs.wording import counted, listed
from lesion_exp.verbs.report.sections.origin import augmentation_in_words, hardware, software
from lesion_exp.verbs.report.sections.training import watched_metric

_PARAMETERS = "resolved.parameters"
_FRAMES: Final = {
    "crop": "The largest square in the middle of the image",
    "squash": "The whole image, stretched to a square",
    "pad": "The whole image, with a border that makes it a square",
}
"""Value of `augmentation.fit` -> the part of the image that becomes the input."""


def title(facts: RunSummary) -> str | None:
    """A title with the network and the data set."""
    network, data = facts.option("backbone"), facts.data_name
    return f"Development and evaluation of a deep network ({network}) on {data}." if network and data else None


def preprocessing(facts: RunSummary) -> str | None:
    """The preprocessing of images."""
    size = facts.key("image_size")
    if size is None:
        return None
    steps = facts.key("augmentation.preprocess")
    named = f", {listed(list(steps))}" if isinstance(steps, dict) and steps else ""
    mask = facts.key("dataset.mask")
    lesion = f", lesion mask: {mask}" if mask not in (None, "none") else ""
    share = facts.key("augmentation.crop_share")
    shown = f" ({100 * share:.3g}% of each side)" if isinstance(share, float) and share < 1 else ""
    filter_name = facts.key("augmentation.interpolation")
    way = f" ({filter_name})" if filter_name else ""
    frame = _FRAMES.get(str(facts.key("augmentation.fit")), "The image")
    mean, deviation = facts.key("augmentation.mean"), facts.key("augmentation.std")
    values = f": {mean} and {deviation} of full range, RGB" if isinstance(mean, list) else " of the training part"
    return (
        f"{frame}{shown}, resized to {size} x {size} pixels{way}, normalised by mean and deviation of each colour"
        f"{values}{named}{lesion}."
    )


def inputs(facts: RunSummary) -> str | None:
    """The inputs of the network."""
    metadata = facts.key("backbone.metadata")
    if metadata is None:
        return None
    given = [f"age, sex and site ({metadata})"] if metadata != "none" else []
    mask = facts.key("dataset.mask")
    given += [f"its lesion mask (dataset.mask={mask})"] if mask not in (None, "none") else []
    first = "The dermoscopic and the clinical photograph" if facts.key("dataset.view") == "both" else "The image"
    return f"{first}, and {listed(given)}." if given else f"{first} alone."


def architecture(facts: RunSummary) -> str | None:
    """The network with its number of parameters, its input and its output."""
    name, size = facts.option("backbone"), facts.key("image_size")
    if name is None or size is None:
        return None
    count = facts.run.params.get(_PARAMETERS)
    parameters = f" with {counted(int(count), 'parameter')}" if count and count.isdecimal() else ""
    out = f"one probability for each of {len(facts.classes)} classes" if facts.classes else "class probabilities"
    return f"{name}{parameters}; its input is {_input(facts, int(size))}, its output {out} (softmax)."


def _input(facts: RunSummary, size: int) -> str:
    """The input of the network, in words."""
    pixels = f"of {size} x {size} pixels"
    if facts.key("dataset.view") == "both":
        seen = f"two RGB images {pixels}, a dermoscopic and a clinical one"
    elif facts.key("dataset.mask") == "channel":
        seen = f"an RGB image {pixels} with the lesion mask as its fourth channel"
    else:
        seen = f"an RGB image {pixels}"
    metadata = facts.key("backbone.metadata")
    return seen if metadata in (None, "none") else f"{seen}, with age, sex and site ({metadata})"


def initialisation(facts: RunSummary) -> str | None:
    """The initial weights."""
    weights = facts.key("backbone.weights")
    if weights is None:
        return None
    return f"Random, seed {facts.key('seed')}." if weights == "none" else f"From weights: {weights}."


def _teacher(facts: RunSummary) -> str:
    teacher = facts.key("loss.teacher")
    return "" if teacher is None else f" from the teacher run {str(teacher)[:8]}"


def training(facts: RunSummary) -> str | None:
    """Optimizer, schedule, loss, sampler, batch size, epochs and augmentation."""
    if not facts.config:
        return None
    parts = [
        *_steps(facts),
        f"loss {facts.option('loss')}{_teacher(facts)}",
        f"sampler {facts.option('sampler')}",
        f"augmentation: {augmentation_in_words(facts)}",
        "one model trained by this run",
    ]
    return f"{'; '.join(parts)}."


def _steps(facts: RunSummary) -> list[str]:
    """How weights are found, for a head that is not trained in steps as well."""
    if facts.key("backbone.head") == "knn":
        k, temperature = facts.key("backbone.knn.k"), facts.key("backbone.knn.temperature")
        return [f"no weights are trained: the {k} nearest training images vote (cosine, temperature {temperature})"]
    rate, epochs = facts.key("optimizer.lr"), int(facts.key("trainer.max_epochs") or 0)
    if rate is None:
        return [f"{facts.option('optimizer')}, all training images in a step", _longest(epochs)]
    return [
        f"{facts.option('optimizer')}, learning rate {rate}",
        f"schedule {facts.option('scheduler')}",
        f"{counted(int(facts.key('loader.batch_size') or 0), 'image')} in a batch",
        _longest(epochs),
    ]


def _longest(max_epochs: int) -> str:
    return f"at most {counted(max_epochs, 'epoch')}" if max_epochs > 0 else "no limit of epochs"


def model(facts: RunSummary) -> str | None:
    """Architecture, initialisation and training."""
    return " ".join(text for text in (architecture(facts), initialisation(facts), training(facts)) if text) or None


def selection(facts: RunSummary) -> str | None:
    """The choice of the evaluated weights."""
    if facts.members or not facts.config:
        return None
    name, mode = watched_metric(facts)
    best = f"{'lowest' if mode == 'min' else 'highest'} {short_of(name)}"
    return f"The epoch with the {best} on the validation part; the test part was not used."


def ensemble(facts: RunSummary) -> str | None:
    """The number of models and the way in which they were combined."""
    if facts.members:
        return f"{len(facts.members)} models, combined by: {facts.run.tags.get('ensemble', 'an unknown method')}."
    return None if facts.is_imported else "None: a single model."


def imbalance(facts: RunSummary) -> str | None:
    """The treatment of class imbalance."""
    sampler, weights = facts.option("sampler"), facts.key("loss.class_weights")
    if sampler is None:
        return None
    parts = "the validation and test parts have their natural class frequencies"
    if facts.option("split") == "resample_then_split":
        parts = (
            "before the split the same number of rows was drawn of each class, so that no part has its natural class "
            "frequencies"
        )
    return (
        f"Sampler {sampler}, loss {facts.option('loss')} with class weights {weights or 'of its own'}; balanced "
        f"accuracy weights all classes equally; {parts}."
    )


def output(facts: RunSummary) -> str | None:
    """The output of the network, and the choice of thresholds."""
    if facts.predictions is None:
        return None
    if has_labels_only(facts.predictions):
        return "A class, without probabilities; no threshold is chosen."
    words = "A probability for each class; the class with the highest probability is predicted."
    chosen = "Thresholds of operating points are chosen on the validation part alone."
    return f"{words} {chosen}" if facts.kept.entries("operating_points/points.json") else words


def computed(facts: RunSummary) -> str | None:
    """The computation of the evaluated predictions."""
    tta = facts.key("evaluation.tta")
    if tta is None:
        return None
    return f"By lesion_exp from the stored weights, with test-time augmentation {tta}; every image once."


def weights_kept(facts: RunSummary) -> str | None:
    """Whether the run stores the trained weights."""
    if artifacts.checkpoint() not in facts.kept.names:
        return None
    digest = facts.run.tags.get("weights_hash")
    return f"The run stores the weights and the job file{f', weights {digest}' if digest else ''}."


def code(facts: RunSummary) -> str | None:
    """The commit of the code, and whether there were uncommitted changes."""
    commit = facts.run.tags.get("git_commit")
    if commit is None:
        return None
    return f"Commit {commit[:12]}{' with uncommitted changes' if facts.run.tags.get('git_dirty') == 'true' else ''}."


def job(facts: RunSummary) -> str | None:
    """The frozen job."""
    digest = facts.run.tags.get("job_hash")
    return f"The frozen job {digest}, which the run stores, has every setting." if digest else None


def software_and_machine(facts: RunSummary) -> str | None:
    """Packages and hardware."""
    return "; ".join(text for text in (software(facts), hardware(facts)) if text) or None
