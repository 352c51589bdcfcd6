"""Missing values in tables: which texts and numbers mean "unknown", by one rule for all data sets.

Words such as `unknown` or `N/A` are always missing values. Whether a number is one depends on the other values of its
column, because 0 and 999 may be patients; see `placeholder_numbers`. The log says what was treated as missing.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Final

import pandas as pd

from lesion_exp.dataset.findings import record_finding
from lesion_exp.text_table import normal_text

_MISSING_WORDS: Final = frozenset(
    {
        *("", "-", "--", "---", ".", "?", "??", "nan", "none", "null", "nil", "na", "n/a", "n.a.", "n.a", "#n/a"),
        *("unk", "unkn", "unknown", "not known", "undefined", "unspecified", "not specified", "not given", "no id"),
        *("not available", "not applicable", "not recorded", "not reported", "missing", "no data", "unbekannt"),
        *("anonymous", "anonymized", "anonymised", "unknown patient", "unknown lesion", "nat", "tbd", "n.d.", "k.a."),
        *("k. a.", "keine angabe", "nicht bekannt", "anonym", "inconnu", "non connu", "desconocido", "sconosciuto"),
    }
)
OLDEST: Final = 120.0
"""Greatest age in years; anything above is an error."""
SEXES: Final = {
    **dict.fromkeys(("m", "man", "mann", "männlich", "homme", "masculin", "hombre", "masculino", "maschio"), "male"),
    **dict.fromkeys(("f", "w", "woman", "frau", "weiblich", "femme", "féminin", "mujer", "femenino"), "female"),
    **dict.fromkeys(("feminino", "femmina", "femminile"), "female"),
    **dict.fromkeys(("maschile", "♂"), "male"),
    "♀": "female",
}
"""Words of tables -> `male` or `female`."""
_KNOWN_SEXES: Final = frozenset({"male", "female", "other", "diverse", "divers", "intersex", "non-binary"})
_YEARS: Final = re.compile(
    r"^(\d+(?:[.,]\d+)?)\s*(?:y|yr|yrs|yo|y/o|years?(?: old)?|a|jahre?|ans|años|anni|anos)\.?$", re.IGNORECASE
)
"""An age with its unit."""
PLACEHOLDERS: Final = (-1, -9, -99, -999, -9999, 0, 9, 99, 999, 9999, 99999, 999999)
"""Numbers that programs and people write for "no id"."""
TEXT_SHARE: Final = 0.9
"""Share of the other ids that must not be numbers for a number among them to be a placeholder."""
FREQUENT: Final = 3.0
"""A number is a placeholder if it is more than this many times as frequent as the 95% quantile of the ids."""
CHANCE: Final = 0.001
"""Probability below which values are not missing at random."""
SHOWN: Final = 5
"""Values that a message lists."""
_NUMBER: Final = re.compile(r"[+-]?\d+(?:\.0+)?")


def is_missing(text: str) -> bool:
    """Returns whether `text` means that a value is missing, such as `N/A`, `(unknown)` or `not_available`."""
    words = re.sub(r"[\s_]+", " ", text).strip(" ()[]<>\"'*")
    return words.casefold() in _MISSING_WORDS


def known_texts(values: pd.Series) -> pd.Series:
    """Returns `values` as texts without outer blanks, None for missing values."""
    texts = ["" if absent else normal_text(str(value)) for value, absent in zip(values, values.isna(), strict=True)]
    known = {text: None if is_missing(text) else text for text in set(texts)}
    return pd.Series([known[text] for text in texts], index=values.index, dtype=object)


def known_ids(values: pd.Series, where: str) -> pd.Series:
    """Returns ids as texts, None for missing ones. The log says which words and numbers count as missing, and why.

    If all ids are whole numbers, 7.0 becomes 7, because many programs save integer columns with empty cells as decimal
    numbers.

    Args:
        values: the column as it was read.
        where: the column and its data set, for the log.
    """
    ids = known_texts(values)
    if len(ids.dropna()) and ids.dropna().str.fullmatch(_NUMBER.pattern).all():
        ids = ids.str.replace(r"\.0+$", "", regex=True).where(ids.notna(), None)
    words = [str(value).strip() for value, known in zip(values, ids, strict=True) if known is None and pd.notna(value)]
    counts = pd.Series([word for word in words if word], dtype=object).value_counts()
    if len(counts):
        record_finding(f"{where}: these words count as missing: {_listed(counts.items())}")
    numbers = placeholder_numbers(ids)
    if numbers:
        found = ids.isin(list(numbers))
        reasons = "; ".join(f"{text!r} of {int((ids == text).sum()):,} rows ({why})" for text, why in numbers.items())
        record_finding(f"{where}: these numbers count as missing, not as one id: {reasons}", level="warning")
        ids = ids.where(~found, None)
    kept = [text for text in dict.fromkeys(ids.dropna()) if _placeholder(text) is not None]
    if kept:
        counted = _listed((text, int((ids == text).sum())) for text in kept)
        record_finding(
            f"{where}: these numbers count as ids, since they are about as frequent as the others: {counted}"
        )
    return ids


def placeholder_numbers(ids: pd.Series) -> dict[str, str]:
    """Finds the values that are not ids but numbers for "no id" (-1, 0, 999, ...), each with the reason.

    A number of `PLACEHOLDERS` means "no id" if the other ids are not numbers, if it is the only negative number, or if
    it is more frequent than any other id and more than `FREQUENT` times as frequent as their 95% quantile. Otherwise it
    is an id, because patients may be numbered from 0.

    Args:
        ids: ids as texts, None for missing ones.
    """
    counts = ids.dropna().astype(str).value_counts()  # the most frequent first
    candidates = {text: number for text in counts.index if (number := _placeholder(text)) is not None}
    others = counts[~counts.index.isin(list(candidates))]
    others_numeric = others.index.to_series().map(lambda text: bool(_NUMBER.fullmatch(text)))
    found: dict[str, str] = {}
    for text, number in candidates.items():
        rest = counts.drop([text, *found])
        if others.empty:
            if len(candidates) == 1 and counts[text] > 1:
                found[text] = "all rows have it"
        elif (~others_numeric).mean() >= TEXT_SHARE:
            found[text] = "the other ids are not numbers"
        elif number < 0 and not others.index.str.startswith("-").any():
            found[text] = "no other id is below 0"
        if text not in found and len(rest) and counts[text] > max(rest.max(), FREQUENT * rest.quantile(0.95)):
            found[text] = f"the others occur {rest.max():,} times at most"
    return found


def known_ages(values: pd.Series, where: str) -> pd.Series:
    """Returns ages in years, NaN for missing ones. The log lists texts and impossible ages, which count as missing."""
    texts = known_texts(values)
    numbers = texts.str.replace(_YEARS, r"\1", regex=True).str.replace(",", ".", regex=False)
    ages = pd.to_numeric(numbers, errors="coerce").astype(float)
    unread = texts[ages.isna() & texts.notna()]
    if len(unread):
        listed = _listed(unread.value_counts().items())
        text = f"{where}: {len(unread)} are not numbers and count as missing: {listed}"
        record_finding(text, level="warning", column="age", values=len(unread))
    impossible = ages.notna() & ~ages.between(0, OLDEST)
    if impossible.any():
        listed = _listed(texts[impossible].value_counts().items())
        text = f"{where}: {impossible.sum()} are outside 0 to {OLDEST:g} years and count as missing: {listed}"
        record_finding(text, level="warning", column="age", values=int(impossible.sum()))
    return ages.where(~impossible)


def known_sexes(values: pd.Series, where: str, unknown: str) -> pd.Series:
    """Returns sexes in lower case: `m`, `weiblich` and the like become `male` and `female`, missing ones `unknown`.

    Other words and numbers are kept, with a warning.
    """
    texts = known_texts(values)
    words = texts.fillna(unknown).str.lower()
    sexes = words.str.rstrip(".").replace(SEXES)
    strange = ~sexes.isin({unknown, *_KNOWN_SEXES})
    if strange.any():
        listed = _listed(texts[strange].value_counts().items())
        text = f"{where}: values of unknown meaning are kept as they are: {listed}"
        text += "; write male and female in the table to have subgroups of these names"
        record_finding(text, level="warning", column="sex", values=int(strange.sum()))
    return sexes.where(~strange, words)


def missing_only_without(table: pd.DataFrame, columns: Iterable[str], leak: str) -> dict[str, int]:
    """Returns the columns with values that are missing only where the truth value `leak` is false, and their numbers.

    A missing value of such a column tells what `leak` tells. A column in which so few values are missing that this may
    be chance (with a probability of `CHANCE`) does not count.

    Args:
        table: a table of images.
        columns: its columns of which the missing values are looked at.
        leak: a column of truth values; others have no such columns.
    """
    holds = table[leak].isin([True])
    if not holds.any() or not table[leak].dropna().isin([True, False]).all():
        return {}
    found = {}
    for column in columns:
        missing = known_texts(table[column]).isna()
        count = int(missing.sum())
        if count and not (missing & holds).any() and (~holds).mean() ** count < CHANCE:
            found[column] = count
    return found


def _placeholder(text: str) -> int | None:
    """Returns `text` as a number if it is one of `PLACEHOLDERS`, else None."""
    number = int(float(text)) if _NUMBER.fullmatch(text) and len(text) < 12 else None
    return number if number in PLACEHOLDERS else None


def _listed(counted: Iterable[tuple[object, int]]) -> str:
    cases = [f"{text!r} ({count:,} rows)" for text, count in counted]
    more = f" and {len(cases) - SHOWN} more" if len(cases) > SHOWN else ""
    return ", ".join(cases[:SHOWN]) + more
