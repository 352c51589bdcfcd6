"""The diagnoses of all data sets: their codes, their names, whether they are malignant, and which class contains which.

The classes of a run are codes in alphabetical order. The malignant diagnoses are mel, bcc, akiec/ak and scc, the
classes that consist of them, and `malignant` itself. This is the convention of the ISIC challenges; strictly, an
actinic keratosis is a precursor.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass
from difflib import SequenceMatcher
from functools import cache
from types import MappingProxyType
from typing import Final

from lesion_exp.errors import DataError

RESEARCH_ONLY: Final = "research use only: no output of this software is a diagnosis"
"""The notice on every output with predictions that leaves this project."""

PSEUDO_RUN: Final = "pseudo_run"
"""Column of tables with the id of the run that gave a row its label; missing where a person did."""
PSEUDO_SOURCE: Final = "pseudo"
"""`source` of images that only a file of pseudo-labels names, and prefix of their ids."""
IS_UNKNOWN: Final = "is_unknown"
"""Column of split tables and predictions tables: true for images of a class that the training part does not have.
Tables without images of an unknown class do not have the column."""


@dataclass(frozen=True)
class Diagnosis:
    """A class of some data set; `malignant` is None if the class may be either."""

    code: str
    name: str
    malignant: bool | None


# code, full name, malignant, the classes that contain it (nearest first).
# Sources: ISIC 2018 and 2019 challenge definitions (bkl = solar lentigo, seborrhoeic and lichen planus-like keratosis;
# akiec = actinic keratosis and Bowen's disease, which ISIC 2019 redistributed over ak and scc), the MILK10k paper, and
# the nine- and three-part partitions of Fitzpatrick17k.
_ROWS: Final[tuple[tuple[str, str, bool | None, tuple[str, ...]], ...]] = (
    # ISIC challenges, HAM10000, DermaMNIST
    ("mel", "melanoma", True, ("malignant",)),
    ("nv", "melanocytic nevus", False, ("benign",)),
    ("bcc", "basal cell carcinoma", True, ("malignant",)),
    ("akiec", "actinic keratosis or intraepithelial carcinoma (Bowen's disease)", True, ("malignant",)),
    ("ak", "actinic keratosis", True, ("akiec",)),
    ("scc", "squamous cell carcinoma", True, ("sccka", "akiec", "malignant")),
    ("bkl", "benign keratosis-like lesion", False, ("benign",)),
    ("df", "dermatofibroma", False, ("benign",)),
    ("vasc", "vascular lesion", False, ("benign",)),
    ("unk", "none of the known classes", None, ()),
    # MILK10k
    ("sccka", "squamous cell carcinoma or keratoacanthoma", True, ("scc", "malignant")),
    ("ben_oth", "other benign proliferation", False, ("benign",)),
    ("mal_oth", "other malignant proliferation", True, ("malignant",)),
    ("inf", "inflammatory or infectious condition", False, ("non_neoplastic", "benign")),
    # PH2, derm7pt, PAD-UFES-20, ISIC 2020: parts of the classes above
    ("common_nevus", "common nevus", False, ("nv",)),
    ("atypical_nevus", "atypical nevus", False, ("nv",)),
    ("clark_nevus", "Clark (dysplastic) nevus", False, ("atypical_nevus",)),
    ("blue_nevus", "blue nevus", False, ("nv",)),
    ("combined_nevus", "combined nevus", False, ("nv",)),
    ("congenital_nevus", "congenital nevus", False, ("nv",)),
    ("dermal_nevus", "dermal nevus", False, ("nv",)),
    ("recurrent_nevus", "recurrent nevus", False, ("nv",)),
    ("spitz_nevus", "Reed or Spitz nevus", False, ("nv",)),
    ("sk", "seborrheic keratosis", False, ("bkl",)),
    ("lentigo", "lentigo, also of no specified kind", False, ("bkl",)),
    ("solar_lentigo", "solar lentigo", False, ("lentigo",)),
    ("lichenoid_keratosis", "lichenoid (lichen planus-like) keratosis", False, ("bkl",)),
    ("melanosis", "melanosis", False, ("ben_oth",)),
    ("cafe_au_lait", "cafe-au-lait macule", False, ("ben_oth",)),
    ("mel_in_situ", "melanoma in situ", True, ("mel",)),
    ("mel_metastasis", "melanoma metastasis", True, ("mel",)),
    ("amp", "atypical melanocytic proliferation", None, ()),
    ("misc", "miscellaneous", None, ()),
    # Fitzpatrick17k, DDI, ISIC 2020 and 2024
    ("benign", "benign", False, ()),
    ("malignant", "malignant", True, ()),
    ("non_neoplastic", "non-neoplastic condition", False, ("benign",)),
    ("benign_dermal", "benign dermal neoplasm", False, ("benign",)),
    ("benign_epidermal", "benign epidermal neoplasm", False, ("benign",)),
    ("benign_melanocyte", "benign melanocytic neoplasm", False, ("benign",)),
    ("genodermatoses", "genodermatosis", False, ("non_neoplastic",)),
    ("inflammatory", "inflammatory condition", False, ("inf",)),
    ("malignant_cutaneous_lymphoma", "malignant cutaneous lymphoma", True, ("mal_oth",)),
    ("malignant_dermal", "malignant dermal neoplasm", True, ("mal_oth",)),
    ("malignant_epidermal", "malignant epidermal neoplasm", True, ("malignant",)),
    ("malignant_melanoma", "malignant melanoma", True, ("mel",)),
)

DIAGNOSES: Final[Mapping[str, Diagnosis]] = MappingProxyType(
    {code: Diagnosis(code, name, malignant) for code, name, malignant, _ in _ROWS}
)
_CONTAINED_IN: Final = {code: parents for code, _, _, parents in _ROWS}
_CONTAINED_IN_PART: Final = frozenset({("scc", "akiec"), ("sccka", "scc")})
"""Pairs in which the second class contains only some lesions of the first. Data sets without the first class put its
lesions there all the same. akiec contains the squamous cell carcinomas in situ (Bowen's disease) but no others, and a
keratoacanthoma is not an scc."""
_OTHER_NAMES: Final[Mapping[str, tuple[str, ...]]] = {
    "mel": ("cutaneous melanoma",),
    "nv": ("nevus", "melanocytic nevi", "benign melanocytic nevus"),
    "akiec": (
        "actinic keratosis and intraepithelial carcinoma",
        "actinic keratosis and intraepithelial carcinoma (Bowen's disease)",
        "actinic keratosis or Bowen's disease",
        "actinic keratosis / Bowen's disease",
        "Bowen's disease",
        "intraepithelial carcinoma",
    ),
    "ak": ("solar keratosis",),
    "bkl": ("benign keratosis", "benign keratosis-like lesions", "pigmented benign keratosis"),
    "vasc": ("vascular skin lesion",),
    "clark_nevus": ("Clark nevus", "dysplastic nevus"),
    "spitz_nevus": ("Spitz nevus", "Reed nevus", "Reed or Spitz nevus"),
    "sk": ("seborrhoeic keratosis",),
    "lentigo": ("lentigo", "lentigo NOS"),
    "lichenoid_keratosis": ("lichenoid keratosis", "lichen planus-like keratosis"),
    "cafe_au_lait": ("cafe-au-lait spot",),
    "mel_in_situ": ("lentigo maligna",),
    "unk": ("unknown", "none of the others"),
}
_SPELLINGS: Final = (
    (r"\bnaev", "nev"),
    (r"\bnevi\b", "nevus"),
    (r"rrhoe|rrhœ", "rrhe"),
    (r"\bkeratoses\b", "keratosis"),
    (r"\b(carcinoma|melanoma|lesion|dermatofibroma|neoplasm|macule|spot|lentigo|proliferation|condition)e?s\b", r"\1"),
)
"""British and plural spellings -> the spelling in which names are compared."""
LEAST_SIMILARITY: Final = 0.7
"""Similarity of two names, 0 to 1, from which on a hint suggests the known one."""
SIMILARITY_MARGIN: Final = 0.08
"""A hint also suggests names whose similarity is lower than that of the best name by at most this much."""
MOST_HINTS: Final = 3
"""Names that a hint suggests."""


def codes() -> tuple[str, ...]:
    """Returns all codes in alphabetical order."""
    return tuple(sorted(DIAGNOSES))


def full_name(code: str) -> str:
    """Returns the full name of the class `code`, or `code` itself if the taxonomy does not have it."""
    return DIAGNOSES[code].name if code in DIAGNOSES else code


def full_names(codes: Iterable[str]) -> dict[str, str]:
    """Returns a dictionary from each code to its full name."""
    return {code: full_name(code) for code in codes}


@cache
def code_of(label: str) -> str | None:
    """Returns the code that `label` is, or is a name of in any spelling (`Actinic keratoses`: ak); else None."""
    return label if label in DIAGNOSES else _codes_by_name().get(_sorted_words(label))


def same_name(label: str) -> str:
    """Returns a key that all labels of one diagnosis share: its code, else its name in a normal spelling."""
    return code_of(label) or _sorted_words(label) or label


def hint(label: str, among: Collection[str] | None = None) -> str:
    """Returns the end of a message: the codes that are similar to `label`, each with its name and malignancy.

    Args:
        label: a label that the taxonomy does not know; it is compared with codes and names.
        among: the codes that may be suggested; None for all.

    Returns:
        A text that begins with `; did you mean`, or an empty text if no code is similar.
    """
    wanted = _spelled(label)
    similarity: dict[str, float] = {}
    for name, code in _names():
        if among is None or code in among:
            ratio = SequenceMatcher(None, wanted, name).ratio()
            similarity[code] = max(similarity.get(code, 0.0), ratio)
    best = max(similarity.values(), default=0.0)
    near = [code for code, ratio in similarity.items() if ratio >= max(LEAST_SIMILARITY, best - SIMILARITY_MARGIN)]
    near = sorted(near, key=lambda code: (-similarity[code], code))[:MOST_HINTS]
    return f"; did you mean {' or '.join(map(in_words, near))}?" if near else ""


def in_words(code: str) -> str:
    """Returns `code` with its name and its malignancy: `'ak' (actinic keratosis, malignant)`."""
    known = DIAGNOSES[code]
    kind = {True: "malignant", False: "benign", None: "malignant or benign"}[known.malignant]
    return f"{code!r} ({known.name}, {kind})" if known.name != kind else f"{code!r}"


def malignancy(label: str) -> bool | None:
    """Returns whether lesions of the class `label` (a code or a name) are malignant; None if they may be either, or for
    an unknown class."""
    code = code_of(label)
    return None if code is None else DIAGNOSES[code].malignant


def is_malignant(label: str) -> bool:
    """Returns whether lesions of the class `label` (a code or a name) are malignant.

    Raises:
        DataError: the taxonomy does not know the class, or the class may be either.
    """
    found = malignancy(label)
    if found is not None:
        return found
    code = code_of(label)
    why = "is not a code or name of the taxonomy" if code is None else f"({DIAGNOSES[code].name}) may be either"
    meant = hint(label) if code is None else ""
    raise DataError(
        f"expected classes that are malignant or benign, but {label!r} {why}{meant}; give its images such a class in "
        f"the table, leave them out with dataset.filter, or set task.target=diagnosis"
    )


def map_label(label: str, classes: Collection[str], told_apart: Collection[str] = ()) -> str | None:
    """Maps a label to the class that it is, or that contains it (akiec contains ak and scc, nv contains common_nevus).

    If several classes contain the label, the nearest is returned: scc is mapped to sccka, and to akiec only if sccka is
    not among `classes`. A label that no other class contains is mapped to `benign` or `malignant` if these are among
    `classes`. Names count as their codes.

    Args:
        label: the class as the data set calls it.
        classes: the classes to map to.
        told_apart: the classes of the data set that the label comes from. A class among them is not returned if it
            contains only some of the label's lesions: MILK10k has both akiec and sccka, so none of its sccka is an
            akiec.

    Returns:
        One of `classes`, or None if none of them contains the label or the label is ambiguous (akiec may be ak or scc).
    """
    if label in classes:
        return label
    by_code = {code_of(name) or name: name for name in sorted(classes, reverse=True)}
    other = {code_of(name) or name for name in told_apart}
    for candidate, wholly in _containing(code_of(label) or label):
        if candidate in by_code and (wholly or candidate not in other):
            return by_code[candidate]
    return None


def is_wholly(label: str, target: str) -> bool:
    """Returns whether all lesions of the class `label` belong to `target`, and not only some (as with scc and
    akiec).
    """
    wanted = code_of(target) or target
    return any(wholly for candidate, wholly in _containing(code_of(label) or label) if candidate == wanted)


def _containing(code: str) -> Iterator[tuple[str, bool]]:
    """Yields `code` and the classes that contain it, nearest first, each with whether it contains all lesions."""
    level, seen = {code: True}, {code}
    while level:
        yield from level.items()
        above: dict[str, bool] = {}
        for child, wholly in level.items():
            for parent in _CONTAINED_IN.get(child, ()):
                above.setdefault(parent, wholly and (child, parent) not in _CONTAINED_IN_PART)
        level = {parent: wholly for parent, wholly in above.items() if parent not in seen}
        seen.update(level)


def _spelled(name: str) -> str:
    """Returns `name` in the normal spelling in which names are compared."""
    text = unicodedata.normalize("NFKD", name).casefold()
    text = "".join(letter for letter in text if not unicodedata.combining(letter))
    text = " ".join(re.sub(r"[^\w]|_", " ", re.sub(r"['’]s\b", "", text)).split())
    for pattern, spelling in _SPELLINGS:
        text = re.sub(pattern, spelling, text)
    return text


def _sorted_words(name: str) -> str:
    """Returns the words of `name` in alphabetical order, so that `carcinoma, basal cell` is a basal cell carcinoma."""
    return " ".join(sorted(_spelled(name).split()))


@cache
def _names() -> tuple[tuple[str, str], ...]:
    """Returns pairs of a name in the normal spelling and its code, for every code, full name and other name."""
    of_codes = [(_spelled(code), code) for code in DIAGNOSES]
    full = [(_spelled(diagnosis.name), code) for code, diagnosis in DIAGNOSES.items()]
    return (*of_codes, *full, *((_spelled(name), code) for code, names in _OTHER_NAMES.items() for name in names))


@cache
def _codes_by_name() -> dict[str, str]:
    found: dict[str, str] = {}
    for name, code in _names():
        found.setdefault(_sorted_words(name), code)
    return found
