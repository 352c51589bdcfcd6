"""What a printer makes of the server's page."""

import re
import shutil
import subprocess
from importlib.resources import files

import pytest

PAGE = files("lesion_exp.verbs.serve") / "page"
BROWSER = next((path for name in ("chromium", "google-chrome", "chrome") if (path := shutil.which(name))), None)
OPTIONS = ("--headless", "--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-sync",
           "--disable-background-networking", "--disable-component-update", "--no-pdf-header-footer")  # fmt: skip


@pytest.mark.skipif(
    BROWSER is None or shutil.which("pdftotext") is None, reason="prints with Chromium, reads with pdftotext"
)
def test_parts_of_the_model_card_that_are_closed_on_screen_are_on_paper(tmp_path):
    style = (PAGE / "style.css").read_text(encoding="utf-8")
    parts = "<details open><summary>Limits</summary>first</details><details><summary>Results</summary>second</details>"
    (tmp_path / "page.html").write_text(f"<!doctype html><style>{style}</style><div id=card>{parts}</div>")
    output = [f"--user-data-dir={tmp_path}/profile", f"--print-to-pdf={tmp_path}/page.pdf"]
    command = [BROWSER, *OPTIONS, *output, f"file://{tmp_path}/page.html"]
    subprocess.run(command, check=True, capture_output=True, timeout=120)
    text = subprocess.run(["pdftotext", tmp_path / "page.pdf", "-"], check=True, capture_output=True, text=True).stdout
    assert text.split()[:4] == ["Limits", "first", "Results", "second"]


def test_bars_and_colours_that_carry_a_meaning_are_printed():
    style = (PAGE / "style.css").read_text(encoding="utf-8")
    printed = style[style.index("@media print") :]
    kept = re.search(r"([^{}\n]+)\{ print-color-adjust: exact;", printed)
    assert {".bar", ".fill", ".ramp"} <= {name.strip() for name in kept[1].split(",")}


def test_percentages_are_written_as_everywhere_else():
    """The sentences of the server say 48%: so do the numbers beside them."""
    for name in ("dom.js", "result.js", "card.js", "batch.js", "app.js"):
        assert not re.search(r"(\\u00a0|\u00a0| )%[`\"]", (PAGE / name).read_text(encoding="utf-8")), name
