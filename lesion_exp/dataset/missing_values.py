"""Which texts and numbers of a table stand for "nobody noted it": one rule for all data sets, told in the log.

Words such as `unknown` or `N/A` are always missing values. Numbers are decided by what else the column holds, see
`placeholder_numbers`: 0 may be a patient, and so may 999.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Final

import pandas as pd

from lesion_exp.dataset.findings import record_finding
from lesion_exp.text_table import normal_text

MISSING_WORDS: Final = frozenset(
    {
        *("", "-", "--", "---", ".", "?", "??", "nan", "none", "null", "nil", "na", "n/a", "n.a.", "n.a", "#n/a"),
        *("unk", "unkn", "unknown", "not known", "undefined", "unspecified", "not specified", "not given", "no id"),
        *("not available", "not applicable", "not recorded", "not reported", "missing", "no data", "unbekannt"),
        *("anonymous", "anonymized", "anonymised", "unknown patient", "unknown lesion", "nat", "tbd", "n.d.", "k.a."),
        *("k. a.", "keine angabe", "nicht bekannt", "anonym", "inconnu", "non connu", "desconocido", "sconosciuto"),
    }
)
OLDEST: Final = 120.0
"""Years: what is above is no age of a person."""
SEXES: Final = {
    **dict.fromkeys(("m", "man", "mann", "männlich", "homme", "masculin", "hombre", "masculino", "maschio"), "male"),
    **dict.fromkeys(("f", "w", "woman", "frau", "weiblich", "femme", "féminin", "mujer", "femenino"), "female"),
    **dict.fromkeys(("feminino", "femmina", "femminile"), "female"),
    **dict.fromkeys(("maschile", "♂"), "male"),
    "♀": "female",
}
"""What tables write for `male` and `female`."""
_KNOWN_SEXES: Final = frozenset({"male", "female", "other", "diverse", "divers", "intersex", "non-binary"})
_YEARS: Final = re.compile(
    r"^(\d+(?:[.,]\d+)?)\s*(?:y|yr|yrs|yo|y/o|years?(?: old)?|a|jahre?|ans|años|anni|anos)\.?$", re.IGNORECASE
)
"""An age with its unit."""
SIGNS: Final = (-1, -9, -99, -999, -9999, 0, 9, 99, 999, 9999, 99999, 999999)
"""Numbers that programs and people write for "no id"."""
FORM_SHARE: Final = 0.9
"""Share of the other ids that must be no numbers for a lone number to have another form than they have."""
OFTEN: Final = 3.0
"""How many times as often as 95% of the ids a number must occur to be no id."""
SHOWN: Final = 5
_NUMBER: Final = re.compile(r"[+-]?\d+(?:\.0+)?")


def is_missing(text: str) -> bool:
    """Whether `text` says that something is missing: `N/A`, `(unknown)`, `not_available`."""
    words = re.sub(r"[\s_]+", " ", text).strip(" ()[]<>\"'*")
    return words.casefold() in MISSING_WORDS


def known_texts(values: pd.Series) -> pd.Series:
    """`values` as texts without outer blanks, None where they are missing."""
    texts = ["" if pd.isna(value) else normal_text(str(value)) for value in values]
    known = {text: None if is_missing(text) else text for text in set(texts)}
    return pd.Series([known[text] for text in texts], index=values.index, dtype=object)


def known_ids(values: pd.Series, where: str) -> pd.Series:
    """Ids as texts, None where there is none; the log says which words and numbers were taken for missing, and why.

    Where all ids are whole numbers, 7.0 is 7: tables with empty cells are often saved with such decimals.

    Args:
        values: the column as it was read.
        where: the column and its data set, for the log.
    """
    ids = known_texts(values)
    if len(ids.dropna()) and ids.dropna().str.fullmatch(_NUMBER.pattern).all():
        ids = ids.str.replace(r"\.0+$", "", regex=True).where(ids.notna(), None)  # 7.0 and 7 are one patient
    words = [str(value).strip() for value, known in zip(values, ids, strict=True) if known is None and pd.notna(value)]
    counts = pd.Series([word for word in words if word], dtype=object).value_counts()
    if len(counts):
        record_finding(f"{where}: these words are no ids: {_listed(counts.items())}")
    numbers = placeholder_numbers(ids)
    if numbers:
        found = ids.isin(list(numbers))
        reasons = "; ".join(f"{text!r} of {int((ids == text).sum()):,} rows ({why})" for text, why in numbers.items())
        record_finding(f"{where}: taken for missing, not for one and the same: {reasons}", level="warning")
        ids = ids.where(~found, None)
    kept = [text for text in dict.fromkeys(ids.dropna()) if _sign(text) is not None]
    if kept:
        counted = _listed((text, int((ids == text).sum())) for text in kept)
        record_finding(f"{where}: kept as ids, since they occur about as often as the others: {counted}")
    return ids


def placeholder_numbers(ids: pd.Series) -> dict[str, str]:
    """The ids that are no ids but numbers written for "none" (-1, 0, 999, ...), each with the reason.

    Such a number is a placeholder where the other ids are no numbers, or a negative one where no other is; or where it
    occurs more often than any other id, and more than `OFTEN` times as often as 95% of them. Else it is an id: patients
    may be numbered from 0.
    """
    counts = ids.dropna().astype(str).value_counts()
    signs = {text: sign for text in counts.index if (sign := _sign(text)) is not None}  # the most frequent first
    others = counts[~counts.index.isin(list(signs))]
    others_numeric = others.index.to_series().map(lambda text: bool(_NUMBER.fullmatch(text)))
    found: dict[str, str] = {}
    for text, sign in signs.items():
        rest = counts.drop([text, *found])
        if others.empty:
            if len(signs) == 1 and counts[text] > 1:
                found[text] = "all rows have it"
        elif (~others_numeric).mean() >= FORM_SHARE:
            found[text] = "the ids are no numbers"
        elif sign < 0 and not others.index.str.startswith("-").any():
            found[text] = "no id is below 0"
        if text not in found and len(rest) and counts[text] > max(rest.max(), OFTEN * rest.quantile(0.95)):
            found[text] = f"the others occur {rest.max():,} times at most"
    return found


def known_ages(values: pd.Series, where: str) -> pd.Series:
    """Ages in years, NaN where there is none; what is no number, or no age of a person, is said in the log."""
    texts = known_texts(values)
    numbers = texts.str.replace(_YEARS, r"\1", regex=True).str.replace(",", ".", regex=False)
    ages = pd.to_numeric(numbers, errors="coerce").astype(float)
    unread = texts[ages.isna() & texts.notna()]
    if len(unread):
        listed = _listed(unread.value_counts().items())
        record_finding(f"{where}: {len(unread)} are no numbers and count as missing: {listed}", level="warning")
    impossible = ages.notna() & ~ages.between(0, OLDEST)
    if impossible.any():
        listed = _listed(texts[impossible].value_counts().items())
        text = f"{where}: {impossible.sum()} are outside 0 to {OLDEST:g} years and count as missing: {listed}"
        record_finding(text, level="warning")
    return ages.where(~impossible)


def known_sexes(values: pd.Series, where: str, unknown: str) -> pd.Series:
    """Sexes in lower case, `m`, `weiblich` and the like as `male` and `female`, `unknown` where there is none.

    Other words and numbers are kept, and said.
    """
    texts = known_texts(values)
    words = texts.fillna(unknown).str.lower()
    sexes = words.str.rstrip(".").replace(SEXES)
    strange = ~sexes.isin({unknown, *_KNOWN_SEXES})
    if strange.any():
        listed = _listed(texts[strange].value_counts().items())
        text = f"{where}: values that nothing here explains are kept as they are: {listed}"
        record_finding(f"{text}; write male and female in the table to have subgroups of these names", level="warning")
    return sexes.where(~strange, words)


def _sign(text: str) -> int | None:
    """The number that `text` is, where it is one of `SIGNS`."""
    number = int(float(text)) if _NUMBER.fullmatch(text) and len(text) < 12 else None
    return number if number in SIGNS else None


def _listed(counted: Iterable[tuple[object, int]]) -> str:
    cases = [f"{text!r} ({count:,} rows)" for text, count in counted]
    more = f" and {len(cases) - SHOWN} more" if len(cases) > SHOWN else ""
    return ", ".join(cases[:SHOWN]) + more
