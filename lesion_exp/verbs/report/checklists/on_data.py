"""Answers of a run to checklist items on its data."""

from __future__ import annotations

from lesion_exp.evaluation.figures.style import NUMBERED_FROM
from lesion_exp.split import PARTS
from lesion_exp.trained_runs.run_summary import RunSummary
from lesion_exp.trained_runs.statements import split_in_words
from lesion_exp.trained_runs.wording import counted, listed, percent
from lesion_exp.training.lineage import CROSSINGS as LINEAGE
from lesion_exp.verbs.report.sections.split import CHARACTERISTICS

GENERATED = "synthetic"


def images(facts: RunSummary) -> str | None:
    """The kind of images."""
    title, view, chosen = facts.identity.get("title"), facts.identity.get("view"), facts.key("dataset.view")
    if view == "both" or chosen in ("clinical", "both"):  # else it is a default, which says nothing of the photographs
        view = chosen
    return "; ".join([*([title] if title else []), *([f"view: {view}"] if view else [])]) or None


def source(facts: RunSummary) -> str | None:
    """Citation, licence and address of the data set."""
    known = facts.identity
    return f"{known['citation']}; licence {known['licence']}; {known['where']}" if known else None


def generated(facts: RunSummary) -> str | None:
    """Whether images were generated."""
    name = facts.option("dataset")
    if name == GENERATED:
        return f"All images are generated ({name})."
    return "No image was generated." if facts.identity and not facts.is_imported else None


def artefacts(facts: RunSummary) -> str | None:
    """Whether artefacts were drawn into the training images."""
    transforms = facts.key("augmentation.transforms")
    if not isinstance(transforms, dict):
        return None
    drawn = [name for name, node in transforms.items() if "synthetic_" in str(node)]
    words = f"drawn into training images: {listed(drawn)}" if drawn else "none drawn into training images"
    return f"Artefacts: {words.replace('_', ' ')}."


def characteristics(facts: RunSummary) -> str | None:
    """The age and sex of the patients."""
    found = facts.kept.mapping(CHARACTERISTICS)
    total = sum(part["images"] for part in found.values())
    if not total:
        return None
    ages = [
        f"{PARTS[name]} {part['age']['median']:g}" for name, part in found.items() if part["age"]["median"] is not None
    ]
    sexes = sorted({sex for part in found.values() for sex in part["sex"]})
    counts = {sex: sum(part["sex"].get(sex, 0) for part in found.values()) for sex in sexes}
    words = [f"{sex} {percent(count / total)}" for sex, count in counts.items()]
    median = f"Median age: {', '.join(ages)} years. " if ages else ""
    return f"{median}Sex: {', '.join(words)} of {counted(total, 'image')}."


def unknown_attributes(facts: RunSummary) -> str | None:
    """The shares of unknown age, sex and site."""
    found = facts.kept.mapping(CHARACTERISTICS)
    total = sum(part["images"] for part in found.values())
    if not total:
        return None
    age = sum(part["age"]["unknown"] for part in found.values())
    others = {key: sum(part[key].get("unknown", 0) for part in found.values()) for key in ("sex", "site")}
    words = [f"{key} {percent(count / total)}" for key, count in {"age": age, **others}.items()]
    return f"Unknown: {', '.join(words)} of {counted(total, 'image')}."


def skin_tone(facts: RunSummary) -> str | None:
    """The images of the evaluated part by skin tone, if the data set has it."""
    cells = [cell for cell in facts.evaluation_file("subgroups").get("cells", []) if cell["attribute"] == "skin_tone"]
    words = [f"{cell['group']}: {cell['images']:,}" for cell in cells]
    part = PARTS[facts.part or "val"]
    return f"Images of the {part} part by skin tone: {', '.join(words)}." if words else None


def partitions(facts: RunSummary) -> str | None:
    """The way of splitting, and the result of the audit."""
    words, level = split_in_words(facts), disjoint(facts)
    return " ".join(text for text in (words, level) if text) or None


def disjoint(facts: RunSummary) -> str | None:
    """Whether parts share patients, lesions or images."""
    if "passed" not in facts.audit:
        return None
    if not facts.audit["passed"]:
        return f"The audit failed: {listed(_failures(facts))}."
    return "The audit found no patient or lesion (where known), byte-identical or near-duplicate image in two parts."


def _failures(facts: RunSummary) -> list[str]:
    """The reasons why the audit failed, in words."""
    counts = {kind: found.get("count", 0) for kind, found in facts.audit.get("crossings", {}).items()}
    taught = [f"there are {counts[kind]:,} {words}" for kind, words in LINEAGE.items() if counts.get(kind)]
    is_shared = any(count for kind, count in counts.items() if kind not in LINEAGE)
    return [*(["parts share patients, lesions or images"] if is_shared or not taught else []), *taught]


def sizes(facts: RunSummary) -> str | None:
    """The numbers of images, lesions and patients of each part."""
    words, any_lesion = [], facts.counts_lesions
    for name, part in facts.parts.items():
        patients = f", {counted(part['patients'], 'patient')}" if part.get("patients") else ""
        lesions = f" of {counted(part['lesions'], 'lesion')}" if any_lesion else ""
        words.append(f"{PARTS.get(name, name)}: {counted(part['images'], 'image')}{lesions}{patients}")
    unknown = "" if any_lesion else " Which images show the same lesion is not known."
    return f"{'; '.join(words)}.{unknown}" if words else None


def class_counts(facts: RunSummary) -> str | None:
    """The number of images of each class in each part."""
    words = [
        f"{PARTS.get(name, name)}: {', '.join(f'{label} {count:,}' for label, count in part.get('counts', {}).items())}"
        for name, part in facts.parts.items()
    ]
    if len(facts.classes) >= NUMBERED_FROM and words:
        return f"The table of parts has the images of each of {len(facts.classes)} classes in each part."
    return f"{'; '.join(words)}." if words else None


def classes(facts: RunSummary) -> str | None:
    """The classes with their full names; for many classes a reference to their table."""
    if len(facts.classes) >= NUMBERED_FROM:
        return f"{len(facts.classes)} classes, named in the table of parts."
    names = [f"{name} ({facts.full_name(name)})" if facts.full_name(name) != name else name for name in facts.classes]
    return f"{len(names)} classes: {listed(names)}." if names else None


def flow(facts: RunSummary) -> str | None:
    """The number of images after each step."""
    steps = [f"{step['step']}: {step['images']:,}" for step in facts.flow.get("steps", [])]
    return f"Images after each step: {'; '.join(steps)}." if steps else None


def exclusions(facts: RunSummary) -> str | None:
    """The filters, and the number of unusable images."""
    if not facts.flow:
        return None
    filters = [step["step"] for step in facts.flow.get("steps", [])[2:]]
    left_out = len(facts.flow.get("left_out", []))
    words = f"Filtered: {'; '.join(filters)}" if filters else "No filter"
    return f"{words}; {counted(left_out, 'image')} left out as unusable."


def missing(facts: RunSummary) -> str | None:
    """The treatment of missing values."""
    if not facts.config:
        return None
    dropped = facts.key("dataset.drop_unknown") is True
    metadata = facts.key("backbone.metadata") not in (None, "none")
    use = "the network gets an indicator for each missing value" if metadata else "the network gets no metadata"
    kept = "images with unknown age, sex or site were dropped" if dropped else "images with unknown metadata were kept"
    return f"{kept.capitalize()}; {use}; images with an unknown value, if there are any, form the subgroup unknown."


def shift(facts: RunSummary) -> str | None:
    """The class whose share differs most between the test part and the data set."""
    shares = facts.audit.get("prevalence_shift", {}).get("test", {})
    if not shares:
        return None
    name = max(shares, key=lambda label: abs(shares[label]))
    given = facts.option("split") in ("file", "official")
    start = "The parts were given with the data" if given else "The parts are one split of the same data"
    return (
        f"{start}; the class share that differs most between test part and data "
        f"set is that of {name}, by {100 * shares[name]:+z.1f} percentage points."
    )
