"""The colours of every page, light, dark and printed: text is told from what it stands on by at least 4.5 to 1 and
lines by 3 to 1, as WCAG 2.2 (1.4.3, 1.4.11) asks for."""

from __future__ import annotations

import re
from importlib import resources

import pytest

SHEETS = {
    "report": ("lesion_exp.verbs.report", ["templates/style.css"]),
    "serve": ("lesion_exp.verbs.serve", ["page/style.css", "page/docs.css"]),
}
SURFACES = ("paper", "sheet", "shade")
"""What text of no background of its own may stand on."""
WITHOUT_TEXT = {
    ".ramp", ".bar", ".fill", ".fill.malignant", ".matrix .key", "figure img", ".open img", ".picture img",
    ".stack .heat", ".skip:focus",
}  # fmt: skip
"""Rules whose background no text stands on, or only the colours of another rule here."""


def sheet(name):
    package, files = SHEETS[name]
    return "\n".join(resources.files(package).joinpath(file).read_text(encoding="utf-8") for file in files)


def schemes(text):
    """The variables of each scheme, those of `:root` overridden by those of the media query."""
    found = [dict(re.findall(r"--(\w[\w-]*):\s*([^;]+);", body)) for body in re.findall(r":root \{(.*?)\}", text, re.S)]
    return [found[0], *({**found[0], **other} for other in found[1:])]


def rules(text):
    """Selector and declarations of each rule, also of those inside media queries."""
    plain = re.sub(r":root \{.*?\}", "", re.sub(r"/\*.*?\*/", "", text, flags=re.S), flags=re.S)
    for selector, body in re.findall(r"([^{}]+)\{([^{}]*)\}", plain):
        declarations = dict(re.findall(r"([\w-]+)\s*:\s*([^;]+)", body))
        yield selector.strip().splitlines()[-1].strip(), declarations


def resolved(value, scheme):
    """`#rrggbb` of a value such as `var(--ink)` or `#fff`; None for what is no plain colour."""
    name = re.fullmatch(r"var\(--([\w-]+)\)", value.strip())
    value = scheme.get(name[1], "") if name else value.strip()
    digits = re.fullmatch(r"#([0-9a-f]{3}|[0-9a-f]{6})", value)
    return None if digits is None else digits[1] if len(digits[1]) == 6 else "".join(2 * digit for digit in digits[1])


def luminance(colour):
    parts = [int(colour[place : place + 2], 16) / 255 for place in (0, 2, 4)]
    linear = [part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def contrast(one, other):
    dark, light = sorted((luminance(one), luminance(other)))
    return (light + 0.05) / (dark + 0.05)


def text_pairs(text, scheme):
    """What each rule puts on what: its colour on its background, else on any surface; ink and soft on a background."""
    surfaces = [colour for name in SURFACES if (colour := resolved(f"var(--{name})", scheme))]
    usual = [colour for name in ("ink", "soft") if (colour := resolved(f"var(--{name})", scheme))]
    for selector, declared in rules(text):
        ground = resolved(declared.get("background", ""), scheme)
        own = resolved(declared.get("color", declared.get("fill", "") if "text" in selector else ""), scheme)
        if selector in WITHOUT_TEXT or (own is None and ground is None) or selector.startswith("@"):
            continue
        for above in [own] if own else usual:
            for below in [ground] if ground else surfaces:
                yield f"{selector}: {above} on {below}", contrast(above, below)


@pytest.mark.parametrize("name", SHEETS)
def test_all_text_can_be_told_from_its_ground(name):
    text = sheet(name)
    assert len(schemes(text)) >= 2
    for scheme in schemes(text):
        found = dict(text_pairs(text, scheme))
        assert len(found) > 20
        assert {pair: round(ratio, 2) for pair, ratio in found.items() if ratio < 4.5} == {}


def test_no_text_is_faded():
    """An opacity lowers the contrast that the colours have; it is for what holds no text."""
    faded = {selector for name in SHEETS for selector, declared in rules(sheet(name)) if "opacity" in declared}
    assert faded == {".band", ".dots", ".faint", "#files"}


def test_lines_can_be_told_from_the_page():
    for scheme in schemes(sheet("report")):
        ratios = {place: contrast(resolved(scheme[f"c{place}"], scheme), resolved(scheme["paper"], scheme))
                  for place in range(12)}  # fmt: skip
        assert {place: round(ratio, 2) for place, ratio in ratios.items() if ratio < 3} == {}


def test_counts_of_the_matrix_can_be_read_on_every_shade_of_it():
    for scheme in schemes(sheet("report")):
        paper, heat, ink = (resolved(scheme[name], scheme) for name in ("paper", "heat", "ink"))
        for share in range(0, 101, 5):
            mixed = "".join(
                f"{round((int(heat[p : p + 2], 16) * share + int(paper[p : p + 2], 16) * (100 - share)) / 100):02x}"
                for p in (0, 2, 4)
            )
            assert contrast(ink, mixed) >= 4.5, (share, mixed)
