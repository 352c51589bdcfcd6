"""The diagnoses of all data sets: their codes, names, malignancy, and which class contains which.

The classes of a run are codes in alphabetical order; `classes_of` is the one place that decides it.
Malignant are mel, bcc, akiec/ak and scc (the convention of the ISIC challenges' reference studies; an actinic
keratosis is strictly a precursor), the classes that consist of them, and `malignant` itself.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Final

from lesion_exp.errors import DataError, nearest

RESEARCH_ONLY: Final = "research use only: no output of this is a diagnosis"
"""Said wherever a network's predictions leave this project."""


@dataclass(frozen=True)
class Diagnosis:
    """A class that some data set uses; `malignant` is None where the class does not determine it."""

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


def codes() -> tuple[str, ...]:
    """All codes in alphabetical order."""
    return tuple(sorted(DIAGNOSES))


def classes_of(labels: Iterable[str]) -> tuple[str, ...]:
    """The classes of a table with these labels, in the order of every logit, probability and confusion matrix."""
    return tuple(sorted(set(labels)))


def full_name(code: str) -> str:
    """The name of `code` in words; `code` itself for a class of the user's own."""
    return DIAGNOSES[code].name if code in DIAGNOSES else code


def is_malignant(code: str) -> bool:
    """Whether lesions of class `code` are malignant.

    Raises:
        DataError: the taxonomy does not know the class, or the class holds both kinds.
    """
    known = DIAGNOSES.get(code)
    if known is not None and known.malignant is not None:
        return known.malignant
    determined = [name for name, diagnosis in DIAGNOSES.items() if diagnosis.malignant is not None]
    why = "is not a code of the taxonomy" if known is None else f"({known.name}) may be either"
    raise DataError(
        f"expected classes that are malignant or benign, but {code!r} {why} ({nearest(code, determined)}); give its "
        f"images such a class in the table, leave them out (dataset.filter=\"label != '{code}'\"), or set "
        f"task.target=diagnosis"
    )


def map_label(code: str, classes: Collection[str]) -> str | None:
    """The class among `classes` that `code` is or is part of (ak and scc are part of akiec, common_nevus of nv).

    None where there is none, and where it is ambiguous: akiec may be either of ak and scc. With `benign` and
    `malignant` among `classes`, whatever no nearer class contains goes there. Where several contain it the nearest
    wins: scc goes to sccka, and to akiec only where sccka is not among `classes`.
    """
    level, seen = [code], {code}
    while level:
        for candidate in level:
            if candidate in classes:
                return candidate
        above = [parent for child in level for parent in _CONTAINED_IN.get(child, ())]
        level = [parent for parent in dict.fromkeys(above) if parent not in seen]
        seen.update(level)
    return None
