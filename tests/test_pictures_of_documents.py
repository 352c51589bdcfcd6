"""Every picture that a document shows is made by a script, most by scripts/readme/make_pictures.py, and is small."""

import importlib.util
import re
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest
from PIL import Image, ImageDraw

REPOSITORY = Path(__file__).parents[1]
SCRIPT = REPOSITORY / "scripts" / "readme" / "make_pictures.py"
DOCUMENTS = [*REPOSITORY.glob("*.md"), *(REPOSITORY / "docs").rglob("*.md"), *(REPOSITORY / "scripts").rglob("*.md")]
LARGEST = 200_000
OF_RESULTS = "docs/pictures/few_labels.png"
"""Made with the table beside it, by scripts/few_labels.py."""
SVG = "{http://www.w3.org/2000/svg}"

spec = importlib.util.spec_from_file_location("make_pictures", SCRIPT)
script = importlib.util.module_from_spec(spec)
spec.loader.exec_module(script)


def shown():
    """The pictures that documents show, by their path in the repository."""
    found = set()
    for document in DOCUMENTS:
        for target in re.findall(
            r"!\[[^\]]*\]\(([^)\s]+)\)|<img[^>]+src=\"([^\"]+)\"", document.read_text(encoding="utf-8")
        ):
            path = (document.parent / "".join(target)).resolve()
            found.add(path.relative_to(REPOSITORY).as_posix())
    return found


def test_every_picture_that_a_document_shows_is_made_by_the_script():
    assert len(shown()) > 5
    assert shown() == {*script.PICTURES, OF_RESULTS}
    assert Path(OF_RESULTS).name in (REPOSITORY / "scripts" / "few_labels.py").read_text(encoding="utf-8")


def test_the_pictures_are_there_and_small():
    sizes = {name: (REPOSITORY / name).stat().st_size for name in (*script.PICTURES, OF_RESULTS)}
    assert {name: size for name, size in sizes.items() if not 1000 < size < LARGEST} == {}
    assert sum(sizes.values()) < 800_000


def test_the_drawings_are_those_of_the_script():
    for name, text in script.DRAWINGS.items():
        assert (REPOSITORY / name).read_text("utf-8") == text, "make_pictures.py --drawings draws them anew"


@pytest.mark.parametrize("text", script.DRAWINGS.values(), ids=script.DRAWINGS)
def test_a_drawing_has_a_title_and_nothing_outside_its_frame(text):
    root = ElementTree.fromstring(text)
    _, _, width, height = map(float, root.get("viewBox").split())
    assert root.find(f"{SVG}title").text
    boxes = root.findall(f"{SVG}rect")
    assert len(boxes) > 3
    for box in boxes:
        x, y, wide, high = (float(box.get(name, 0)) for name in ("x", "y", "width", "height"))
        assert 0 <= x <= x + wide <= width
        assert 0 <= y <= y + high <= height
    framed = [box for box in boxes if box.get("stroke")]
    for line in root.findall(f"{SVG}text"):  # a letter is about 0.6 of its height wide
        reach = 0.6 * float(line.get("font-size")) * len(line.text) / (2 if line.get("text-anchor") == "middle" else 1)
        right = float(line.get("x")) + reach
        assert any(float(box.get("x")) < right <= float(box.get("x")) + float(box.get("width")) for box in framed)


def picture(seed, footer="run demo (0db9dc85), test part"):
    """Something drawn, and below it the line that names a run."""
    image = Image.new("RGB", (600, 400), "white")
    noise = np.random.default_rng(seed).integers(0, 200, (10, 10, 3), dtype=np.uint8).repeat(30, 0).repeat(50, 1)
    image.paste(Image.fromarray(noise), (50, 30))
    ImageDraw.Draw(image).text((10, 380), footer, fill="grey")
    return image


def test_what_is_made_of_a_run_does_not_tell_which_run_it_was(tmp_path):
    """Two runs of one job have other ids: their pictures are the same, byte for byte."""
    for run in ("0db9dc85", "3f2a91c0"):
        names = {*script.FIGURES.values(), "dataset/batch.png"}
        for seed, name in enumerate(sorted(names)):
            path = tmp_path / run / name
            path.parent.mkdir(parents=True, exist_ok=True)
            picture(seed, f"run demo ({run}), test part").save(path)
        script.write(script.pictures_of(tmp_path / run), tmp_path / f"of {run}")
    made = [sorted((tmp_path / f"of {run}").rglob("*.png")) for run in ("0db9dc85", "3f2a91c0")]
    assert len(made[0]) == len(script.FIGURES) + 1
    for first, second in zip(*made, strict=True):
        assert first.read_bytes() == second.read_bytes()


def test_the_readme_shows_the_run_of_its_pictures():
    text = (REPOSITORY / "README.md").read_text("utf-8")
    result = re.search(r"^balanced accuracy +(\d\.\d{3}) ", text, re.MULTILINE)[1]
    of_pictures = {
        name: Image.open(REPOSITORY / name).text.get(script.RESULT) for name in script.PICTURES if "svg" not in name
    }
    assert of_pictures == dict.fromkeys(of_pictures, result), (
        "make_pictures.py draws them of the run of worked_output.py"
    )


def test_results_are_written_into_the_pictures(tmp_path):
    script.write({"a.png": picture(0)}, tmp_path, {script.RESULT: "0.570"})
    assert Image.open(tmp_path / "a.png").text == {script.RESULT: "0.570"}


def test_only_the_footer_is_cut_away():
    cut = script.without_footer(picture(0))
    assert cut.size[0] == 600
    assert 330 <= cut.size[1] < 380
    assert np.array_equal(np.asarray(cut)[:330], np.asarray(picture(0))[:330])


def test_few_colours_change_no_figure_to_the_eye():
    """Grey lines stay grey and pale blue stays blue, also beside the many colours of curves and of a colour scale."""
    rng = np.random.default_rng(0)
    image = Image.new("RGB", (900, 600), "white")
    draw = ImageDraw.Draw(image)
    for number in range(256):  # a scale, and cells in its colours
        blue = (255 - number // 2, 255 - number // 4, 255 - number // 6)
        draw.rectangle((860, 20 + 2 * number, 880, 21 + 2 * number), fill=blue)
        if number % 16 == 0:
            draw.rectangle((20 + 3 * number, 20, 60 + 3 * number, 60), fill=blue)
    for number in range(9):
        colour = tuple(rng.integers(0, 256, 3))
        draw.line([(20, 300), *((x, 300 + int(rng.integers(-90, 90))) for x in range(40, 800, 20))], colour, width=3)
        draw.line((20, 100 + 50 * number, 800, 100 + 50 * number), "#E6E6E6")
    image = image.resize((1800, 1200), Image.Resampling.BICUBIC)
    before = np.asarray(script.fitted(image, 900)).astype(int)
    after = np.asarray(script.as_figure(image).convert("RGB")).astype(int)
    grey = np.ptp(before, axis=2) < 3
    assert np.percentile(np.ptp(after, axis=2)[grey], 99.9) <= 12
    assert np.abs(after - before).mean() < 1, "levels of 256; 64 colours that nothing moves miss by 2.3"
