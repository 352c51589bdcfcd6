"""What a run answers on its network and how that was trained."""

from __future__ import annotations

from lesion_exp.tracking import artifacts
from lesion_exp.trained_runs.run_summary import RunSummary
from lesion_exp.trained_runs.wording import counted, listed
from lesion_exp.verbs.report.sections.origin import augmentation_in_words, hardware, software

_PARAMETERS = "resolved.parameters"


def title(facts: RunSummary) -> str | None:
    """What was developed and evaluated."""
    network, data = facts.option("backbone"), facts.data_name
    return f"Development and evaluation of a deep network ({network}) on {data}." if network and data else None


def preprocessing(facts: RunSummary) -> str | None:
    """From the file to the tensor."""
    size = facts.key("image_size")
    if size is None:
        return None
    steps = facts.key("augmentation.preprocess")
    named = f", {listed(list(steps))}" if isinstance(steps, dict) and steps else ""
    mask = facts.key("dataset.mask")
    lesion = f", lesion mask: {mask}" if mask not in (None, "none") else ""
    share = facts.key("augmentation.crop_share")
    shown = f" ({100 * share:.3g}% of each side)" if isinstance(share, float) and share < 1 else ""
    way = f" ({facts.key('augmentation.interpolation')})" if facts.key("augmentation.interpolation") else ""
    mean, deviation = facts.key("augmentation.mean"), facts.key("augmentation.std")
    values = f": {mean} and {deviation} of full range, RGB" if isinstance(mean, list) else " of the training part"
    return (
        f"Resized{way}, cut to {size} x {size} pixels{shown}, normalised by mean and deviation of each colour"
        f"{values}{named}{lesion}."
    )


def inputs(facts: RunSummary) -> str | None:
    """What the network reads."""
    metadata = facts.key("backbone.metadata")
    if metadata is None:
        return None
    return "The image alone." if metadata == "none" else f"The image, and age, sex and site ({metadata})."


def architecture(facts: RunSummary) -> str | None:
    """The network, what goes in and what comes out."""
    name, size = facts.option("backbone"), facts.key("image_size")
    if name is None or size is None:
        return None
    count = facts.run.params.get(_PARAMETERS)
    parameters = f" with {counted(int(count), 'parameter')}" if count and count.isdecimal() else ""
    out = f"one probability for each of {len(facts.classes)} classes" if facts.classes else "class probabilities"
    return f"{name}{parameters}: RGB images of {size} x {size} pixels in, {out} out (softmax)."


def initialisation(facts: RunSummary) -> str | None:
    """The weights at the start."""
    weights = facts.key("backbone.weights")
    if weights is None:
        return None
    return f"Random, seed {facts.key('seed')}." if weights == "none" else f"From weights: {weights}."


def training(facts: RunSummary) -> str | None:
    """Optimiser, schedule, loss, sampling, augmentation."""
    if not facts.config:
        return None
    parts = [
        f"{facts.option('optimizer')}, learning rate {facts.key('optimizer.lr')}",
        f"schedule {facts.option('scheduler')}",
        f"loss {facts.option('loss')}",
        f"sampler {facts.option('sampler')}",
        f"{counted(int(facts.key('loader.batch_size') or 0), 'image')} a step",
        _longest(int(facts.key("trainer.max_epochs") or 0)),
        f"augmentation: {augmentation_in_words(facts)}",
        "one model trained by this run",
    ]
    return f"{'; '.join(parts)}."


def _longest(max_epochs: int) -> str:
    return f"at most {counted(max_epochs, 'epoch')}" if max_epochs > 0 else "no largest number of epochs"


def model(facts: RunSummary) -> str | None:
    """All of it."""
    return " ".join(text for text in (architecture(facts), initialisation(facts), training(facts)) if text) or None


def selection(facts: RunSummary) -> str | None:
    """How the weights that are judged were chosen."""
    if facts.members or not facts.config:
        return None
    return "The epoch with the highest balanced accuracy on the validation part; the test part had no say."


def ensemble(facts: RunSummary) -> str | None:
    """Whether several models were joined."""
    if facts.members:
        return f"{len(facts.members)} models joined: {facts.run.tags.get('ensemble', 'unknown way')}."
    return "None: a single model."


def imbalance(facts: RunSummary) -> str | None:
    """How unequal class sizes were treated."""
    sampler, weights = facts.option("sampler"), facts.key("loss.class_weights")
    if sampler is None:
        return None
    return (
        f"Sampler {sampler}, loss {facts.option('loss')} with class weights {weights or 'of its own'}; balanced "
        f"accuracy counts every class alike, and validation and test keep their natural class shares."
    )


def output(facts: RunSummary) -> str | None:
    """What comes out, and where thresholds come from."""
    if facts.predictions is None:
        return None
    return (
        "A probability for each class; the class of the highest one is the prediction. Thresholds of operating points "
        "are chosen on the validation part alone."
    )


def computed(facts: RunSummary) -> str | None:
    """How the evaluated predictions came about."""
    tta = facts.key("evaluation.tta")
    if tta is None:
        return None
    return f"By the software itself from the kept weights, test-time augmentation {tta}; every image once."


def weights_kept(facts: RunSummary) -> str | None:
    """Whether the trained weights lie with the run."""
    if artifacts.checkpoint() not in facts.kept.names:
        return None
    digest = facts.run.tags.get("weights_hash")
    return f"Weights and job file lie with the run{f', weights {digest}' if digest else ''}."


def code(facts: RunSummary) -> str | None:
    """The commit, and whether it was clean."""
    commit = facts.run.tags.get("git_commit")
    if commit is None:
        return None
    return f"Commit {commit[:12]}{' with uncommitted changes' if facts.run.tags.get('git_dirty') == 'true' else ''}."


def job(facts: RunSummary) -> str | None:
    """The frozen job."""
    digest = facts.run.tags.get("job_hash")
    return f"Every setting stands in the frozen job {digest}, kept with the run." if digest else None


def software_and_machine(facts: RunSummary) -> str | None:
    """Packages and hardware."""
    return "; ".join(text for text in (software(facts), hardware(facts)) if text) or None
