"""Makes every picture that README.md and docs/ show, from the present code.

    python scripts/readme/make_pictures.py         # trains the demo in a folder of its own, some minutes on two cores
    python scripts/readme/make_pictures.py --drawings    # only the drawings of docs/concepts.md, at once
    python scripts/readme/make_pictures.py ROOT    # takes the latest run of a project where the demo was trained

The demo is the same on every machine of a kind, and nothing of a run's id or a clock is in the pictures: made twice,
they are the same. Chromium (`LESION_EXP_CHROMIUM`, else /usr/bin/chromium) shows the two pages, driven by Playwright.
"""

from __future__ import annotations

import io
import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Final

import numpy as np
from PIL import Image

sys.path.insert(0, str(Path(__file__).parents[2]))

from scripts.readme.drawings import DRAWINGS

if TYPE_CHECKING:
    from playwright.sync_api import Browser

REPOSITORY: Final = Path(__file__).parents[2]
CHROMIUM: Final = os.environ.get("LESION_EXP_CHROMIUM", "/usr/bin/chromium")
FIGURES: Final = {
    "docs/pictures/confusion_matrix.png": "confusion_matrix/test.png",
    "docs/pictures/roc.png": "curves/roc_test.png",
    "docs/pictures/precision_recall.png": "curves/pr_test.png",
    "docs/pictures/reliability.png": "curves/reliability_test.png",
    "docs/pictures/subgroups.png": "evaluation/test/subgroups.png",
    "docs/pictures/decision_curve.png": "evaluation/test/decision_curve.png",
}
"""Pictures of docs/, and the artifacts of the run that they are."""
SHEET: Final = "docs/pictures/run.png"
SERVED: Final = "docs/pictures/serve.png"
REPORT: Final = "docs/pictures/report.png"
PICTURES: Final = (*FIGURES, SHEET, SERVED, REPORT, *DRAWINGS)
"""All that this script makes."""
_WIDTH, _GAP = 1400, 24
_FIGURE_WIDTH: Final = 900
_FIGURE_COLOURS: Final = 256
_SETTLED: Final = 2
"""Pixels that may still move when k-means ends, which puts the few colours where most pixels are.

Without it grey lines turn pink and pale blue turns cyan."""


def without_footer(image: Image.Image) -> Image.Image:
    """A picture of a run without the line at its foot, which names the run."""
    is_drawn = (np.asarray(image.convert("L")) < 250).any(axis=1)
    last = int(np.flatnonzero(is_drawn)[-1])
    gap = int(np.flatnonzero(~is_drawn[:last])[-1])
    above = int(np.flatnonzero(is_drawn[:gap])[-1])
    return image.crop((0, 0, image.width, (above + gap) // 2))


def fitted(image: Image.Image, width: int) -> Image.Image:
    """The picture in this width."""
    return image.resize((width, round(image.height * width / image.width)), Image.Resampling.LANCZOS)


def as_figure(image: Image.Image) -> Image.Image:
    """A figure in few colours, which keep a file small."""
    return fitted(image, min(_FIGURE_WIDTH, image.width)).quantize(
        _FIGURE_COLOURS, method=Image.Quantize.MAXCOVERAGE, kmeans=_SETTLED, dither=Image.Dither.NONE
    )


def as_photograph(image: Image.Image, colours: int) -> Image.Image:
    """A picture in few colours that are mixed from pixel to pixel: soft changes of colour stay soft."""
    return image.quantize(palette=image.quantize(colours, kmeans=_SETTLED), dither=Image.Dither.FLOYDSTEINBERG)


def as_sheet(batch: Image.Image, matrix: Image.Image, curves: Image.Image) -> Image.Image:
    """Images above the figures, in 256 colours; 96 of them are the figures' own: skin must not tint their curves."""
    batch = fitted(batch, _WIDTH)
    below = [fitted(matrix, round(0.6 * _WIDTH) - _GAP // 2)]
    below.append(fitted(curves, _WIDTH - _GAP - below[0].width))
    seam = batch.height + _GAP
    figures = Image.new("RGB", (_WIDTH, max(image.height for image in below)), "white")
    figures.paste(below[0], (0, 0))
    figures.paste(below[1], (below[0].width + _GAP, 0))
    top = batch.quantize(160, kmeans=_SETTLED)
    low = figures.quantize(96, method=Image.Quantize.MAXCOVERAGE, kmeans=_SETTLED, dither=Image.Dither.NONE)
    sheet = Image.new("P", (_WIDTH, seam + figures.height))
    sheet.putpalette(_palette(top, 160) + _palette(low, 96))
    sheet.paste(top.getpixel((0, 0)), (0, 0, *sheet.size))
    sheet.paste(top, (0, 0))
    sheet.paste(low.point(lambda index: index + 160), (0, seam))
    return sheet


def _palette(image: Image.Image, colours: int) -> list[int]:
    found = (image.getpalette() or [])[: 3 * colours]
    return found + [0] * (3 * colours - len(found))


def pictures_of(artifacts: Path) -> dict[str, Image.Image]:
    """The pictures that are made of a run's artifacts."""

    def drawn(name: str) -> Image.Image:
        return without_footer(Image.open(artifacts / name, formats=["PNG"]).convert("RGB"))

    found = {target: as_figure(drawn(name)) for target, name in FIGURES.items()}
    parts = ("dataset/batch.png", "confusion_matrix/test.png", "curves/roc_test.png")
    return {**found, SHEET: as_sheet(*(drawn(name) for name in parts))}


def pages_of(root: Path, run_id: str) -> dict[str, Image.Image]:
    """The pictures of the report and of the server's page, as Chromium shows them."""
    from playwright.sync_api import sync_playwright

    report = root / "report.html"
    subprocess.run(
        _command("report", f"run={run_id}", f"output={report}", f"paths.root={root}"),
        check=True,
        stdout=subprocess.DEVNULL,
    )
    with sync_playwright() as started:
        browser = started.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        found = {REPORT: _of_report(browser, report)}
        with _served(root, run_id) as address:
            found[SERVED] = _of_server(browser, address)
        browser.close()
    return found


def _of_report(browser: Browser, path: Path) -> Image.Image:
    page = browser.new_page(viewport={"width": 1440, "height": 900})
    page.goto(path.as_uri())
    box = page.locator("#results").bounding_box()
    assert box is not None, "the report has results"
    around = {"x": box["x"] - _GAP, "y": box["y"], "width": box["width"] + 2 * _GAP, "height": box["height"]}
    return as_figure(_image(page.screenshot(full_page=True, clip=around)))  # type: ignore[arg-type]


def _of_server(browser: Browser, address: str) -> Image.Image:
    page = browser.new_page(viewport={"width": 1024, "height": 900})
    page.goto(address)
    page.locator("#examples button").nth(1).click()
    page.locator(".stack .heat").wait_for()
    return as_photograph(fitted(_image(page.locator("#result").screenshot()), 760), 256)


def _image(png: bytes) -> Image.Image:
    return Image.open(io.BytesIO(png), formats=["PNG"]).convert("RGB")


@contextmanager
def _served(root: Path, run_id: str) -> Iterator[str]:
    """The address of a server in a process of its own."""
    command = _command("serve", f"run={run_id}", "port=0", f"paths.root={root}")
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
    try:
        said = ""
        for line in process.stderr or ():
            said += line
            if line.startswith("Ctrl-C"):
                break
        address = re.search(r"page: (http://\S+)", said)
        if address is None:
            raise RuntimeError(f"expected a server to start, got:\n{said}")
        yield address[1]
    finally:
        process.terminate()
        process.wait()


def _command(*words: str) -> list[str]:
    return [sys.executable, "-m", "lesion_exp", *words]


def trained(root: Path) -> str:
    """The id of a demo trained below `root`, on one thread: its weights are the same each time."""
    command = _command("train", "experiment=demo", f"paths.root={root}")
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True, env=environment)
    return done.stdout.split()[-1]


def make(root: Path, run_id: str) -> None:
    """Makes and writes all pictures of the run, and says how large each is."""
    from lesion_exp.tracking.find import find_run
    from lesion_exp.tracking.store import open_store

    run = find_run(open_store(None, root), run_id)
    artifacts = next((root / "mlruns" / "artifacts").glob(f"*/{run.run_id}/artifacts"))
    write({**pictures_of(artifacts), **pages_of(root, run.run_id)}, REPOSITORY)


def write(pictures: Mapping[str, Image.Image], folder: Path) -> None:
    """Writes each picture to its place below `folder`."""
    for name, image in pictures.items():
        target = folder / name
        target.parent.mkdir(parents=True, exist_ok=True)
        image.save(target, optimize=True)
        print(f"{name}: {target.stat().st_size // 1000} kB")


def draw() -> None:
    """Writes the drawings, which need no run."""
    for name, text in DRAWINGS.items():
        (REPOSITORY / name).write_text(text, "utf-8")


def main() -> None:
    draw()
    if sys.argv[1:] == ["--drawings"]:
        return
    if len(sys.argv) > 1:
        make(Path(sys.argv[1]).absolute(), "latest")
        return
    with tempfile.TemporaryDirectory(prefix="lesion_exp_pictures_") as folder:
        make(Path(folder), trained(Path(folder)))


if __name__ == "__main__":
    main()
