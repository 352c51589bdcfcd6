"""Makes every picture that README.md and docs/ show, from the present code.

    python scripts/readme/make_pictures.py               # trains the demo and more in a folder of its own
    python scripts/readme/make_pictures.py --drawings    # only the drawings of docs/concepts.md, at once
    python scripts/readme/make_pictures.py ROOT          # takes the first run `demo` of a project where it was trained

The project is `demo` of scripts/worked_output.py, whose texts are of the same run; `worked_output.py demo --keep DIR`
leaves it in DIR/demo, so that both can be made of one training. The file of each picture has the balanced accuracy of
the run among its texts. The demo is the same on every machine of a kind, and nothing of a run's id or a clock is in the
pictures but the colours with which MLflow marks runs. Chromium (`LESION_EXP_CHROMIUM`, else /usr/bin/chromium) shows
the pages, driven by Playwright.
"""

from __future__ import annotations

import io
import os
import re
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Final

import numpy as np
from PIL import Image
from PIL.PngImagePlugin import PngInfo

sys.path.insert(0, str(Path(__file__).parents[2]))

from scripts.readme.drawings import DRAWINGS
from scripts.worked_output import outputs

if TYPE_CHECKING:
    from playwright.sync_api import Browser

    from lesion_exp.tracking.stored_run import Run

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
MLFLOW_TABLE: Final = "docs/pictures/mlflow_runs.png"
MLFLOW_RUN: Final = "docs/pictures/mlflow_run.png"
PICTURES: Final = (*FIGURES, SHEET, SERVED, REPORT, MLFLOW_TABLE, MLFLOW_RUN, *DRAWINGS)
"""All that this script makes."""
RESULT: Final = "test/balanced_accuracy"
"""The metric whose value is written into the pictures of a run: README.md shows it beside one of them."""
_MATRIX: Final = "confusion_matrix/test.png"
_WIDTH, _GAP = 1400, 24
_FIGURE_WIDTH: Final = 900
_FIGURE_COLOURS: Final = 256
_PAGE_COLOURS: Final = 96
_DRAWN_WITHIN: Final = 3000
"""Milliseconds that MLflow's page may take to draw what it has loaded."""
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


def pages_of(root: Path, run_id: str, artifacts: Path) -> dict[str, Image.Image]:
    """The pictures of the report, of the server's page and of MLflow's, as Chromium shows them."""
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
        with _mlflow(root) as address:
            found[MLFLOW_TABLE] = _of_table(browser, address)
            found[MLFLOW_RUN] = _of_artifacts(browser, f"{address.partition('?')[0]}/{run_id}", artifacts / _MATRIX)
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


def _of_table(browser: Browser, address: str) -> Image.Image:
    page = browser.new_page(viewport={"width": 1440, "height": 420})
    page.goto(address)
    page.get_by_role("link", name="demo", exact=True).first.wait_for()
    page.wait_for_timeout(_DRAWN_WITHIN)
    return as_page(_image(page.screenshot()))


def _of_artifacts(browser: Browser, address: str, matrix: Path) -> Image.Image:
    """The page of a run with its confusion matrix, without what names the run: a line of the matrix, and a path."""
    cut = io.BytesIO()
    without_footer(Image.open(matrix, formats=["PNG"]).convert("RGB")).save(cut, "PNG")
    page = browser.new_page(viewport={"width": 1440, "height": 680})
    page.route(
        re.compile(r"get-artifact.*test\.png"),
        lambda route: route.fulfill(body=cut.getvalue(), content_type="image/png"),
    )
    page.goto(f"{address}/artifacts/{_MATRIX}")
    page.locator("img[src^='blob:']").first.wait_for()
    page.get_by_text("Path:").first.evaluate("element => element.parentElement.style.visibility = 'hidden'")
    page.wait_for_timeout(_DRAWN_WITHIN)
    return as_page(_image(page.screenshot()))


def as_page(image: Image.Image) -> Image.Image:
    """A page in the few colours of its texts and signs."""
    return image.quantize(_PAGE_COLOURS, method=Image.Quantize.MAXCOVERAGE, kmeans=_SETTLED, dither=Image.Dither.NONE)


def _image(png: bytes) -> Image.Image:
    return Image.open(io.BytesIO(png), formats=["PNG"]).convert("RGB")


@contextmanager
def _served(root: Path, run_id: str) -> Iterator[str]:
    """The address of the server of a run, in a process of its own."""
    with _started("serve", f"run={run_id}", "port=0", f"paths.root={root}") as address:
        yield address


@contextmanager
def _mlflow(root: Path) -> Iterator[str]:
    """The address of MLflow's table of runs, in a process of its own."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    with _started("ui", f"port={port}", f"paths.root={root}") as address:
        yield address


@contextmanager
def _started(*words: str) -> Iterator[str]:
    """The address that a verb prints before it waits for Ctrl-C."""
    process = subprocess.Popen(_command(*words), stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
    try:
        said = ""
        for line in process.stderr or ():
            said += line
            if line.startswith("Ctrl-C"):
                break
        address = re.search(r"(?:page|MLflow): (http://\S+)", said)
        if address is None:
            raise RuntimeError(f"expected a server to start, got:\n{said}")
        yield address[1]
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait()


def _command(*words: str) -> list[str]:
    return [sys.executable, "-m", "lesion_exp", *words]


def demo_of(root: Path) -> Run:
    """The first finished run of the demo in the project `root`."""
    from lesion_exp.tracking.find import runs_where
    from lesion_exp.tracking.store import open_store

    store = open_store(None, root)
    found = list(runs_where(store, "attributes.status = 'FINISHED' AND attributes.run_name = 'demo'"))
    if not found:
        raise RuntimeError(f"expected a finished run demo below {root}; lesion-exp train experiment=demo makes it")
    return found[-1]


def make(root: Path) -> None:
    """Makes and writes all pictures of the demo in the project `root`, and says how large each is."""
    run = demo_of(root)
    artifacts = next((root / "mlruns" / "artifacts").glob(f"*/{run.run_id}/artifacts"))
    pictures = {**pictures_of(artifacts), **pages_of(root, run.run_id, artifacts)}
    write(pictures, REPOSITORY, {RESULT: f"{run.metrics[RESULT]:.3f}"})


def write(pictures: Mapping[str, Image.Image], folder: Path, results: Mapping[str, str] | None = None) -> None:
    """Writes each picture to its place below `folder`, with the `results` of the run as texts in the file."""
    for name, image in pictures.items():
        target = folder / name
        target.parent.mkdir(parents=True, exist_ok=True)
        texts = PngInfo()
        for key, value in (results or {}).items():
            texts.add_text(key, value)
        image.save(target, optimize=True, pnginfo=texts)
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
        make(Path(sys.argv[1]).absolute())
        return
    with tempfile.TemporaryDirectory(prefix="lesion_exp_pictures_") as folder:
        root = Path(folder) / "demo"
        list(outputs("demo", root))
        make(root)


if __name__ == "__main__":
    main()
