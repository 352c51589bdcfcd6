"""The page as such, made of blocks alone: numbers, abbreviations, and what a printer makes of it."""

import re
import shutil
import subprocess

import pytest
from markupsafe import Markup

from lesion_exp.verbs.report.blocks import Code, Figure, Figures, Matrix, Pairs, Picture, Section, Table, Text
from lesion_exp.verbs.report.charts import Line, panel, plot, unit_axis
from lesion_exp.verbs.report.page import Page, css_string, render

LINE = Line([0, 0.5, 1], [0, 0.8, 1], 0)
DRAWING = plot("a curve", unit_axis("x"), unit_axis("y"), [LINE])
MARKED = plot("a curve", unit_axis("drawnmark"), unit_axis("y"), [LINE])
BROWSER = next((path for name in ("chromium", "google-chrome", "chrome") if (path := shutil.which(name))), None)


def table(rows, columns=4, caption="Some numbers"):
    heads = ["thing", *(f">head{place}" for place in range(1, columns))]
    return Table(
        caption, heads, [[f"row {row}", *(f"0.{place}23" for place in range(1, columns))] for row in range(rows)]
    )


def matrix(size):
    return Matrix("Test part", [f"Dermatosis of the {place:02d}th kind" for place in range(size)],
                  [[int(row == column) * 3 for column in range(size)] for row in range(size)])  # fmt: skip


def page_of(*blocks, **options):
    return render(Page("a run", "Report of a run", {}, [Section("first", "First", blocks)], **options))


def test_figures_and_tables_are_numbered_in_their_order(outline):
    pictures = [
        Picture("data:image/png;base64,", "Seen", "Seen"),
        Figures([Figure(DRAWING, "One"), Figure(DRAWING, "Two")]),
    ]
    page = outline(page_of(table(2), *pictures, matrix(3), matrix(31), table(1)))
    assert re.findall(r"Table (\d+)\. ", page.text) == ["1", "2", "3", "4", "5"]
    assert re.findall(r"Figure (\d+)\. ", page.text) == ["1", "2", "3"]
    assert "Table 4. Test part; predicted classes 17 to 31 of 31" in page.text


def test_whatever_may_scroll_can_be_reached_by_keyboard_and_has_a_name():
    wide = Figure(Markup("<svg></svg>"), "Wide", wide=True)
    text = page_of(table(2), matrix(3), Figures([wide]), Picture("data:,", "Seen", "Seen"), Code("Text", "x"))
    regions = re.findall(r"<div[^>]*class=\"scroll[^>]*>|<pre[^>]*>", text)
    assert len(regions) == 5
    for region in regions:
        assert 'tabindex="0"' in region
        assert 'role="region"' in region
        assert re.search(r'aria-label="[^"]+"', region)
    assert not re.search(r"<th[^>]*></th>", text)


def test_an_abbreviation_is_explained_below_the_block_that_first_uses_it(outline):
    blocks = [
        Text("The AUROC of mel was 0.9, not AUROCs."),
        table(1, caption="AUROC, PPV and path/ROC or ROC=1"),
        Text("PPV"),
    ]
    text = outline(page_of(*blocks, meanings={"mel": "melanoma"})).text
    first = "AUROC area under the receiver operating characteristic curve; 0.5 is chance, 1 is perfect; mel melanoma."
    assert f"not AUROCs. {first} Table 1." in text
    assert text.count("positive predictive value") == 1
    assert "sensitivity against" not in text
    assert text.index("0.123") < text.index("positive predictive value") < text.rindex("PPV")


@pytest.mark.parametrize(("size", "parts"), [(2, 1), (12, 1), (13, 1), (30, 1), (31, 2), (60, 2), (61, 3)])
def test_a_matrix_of_many_classes_is_numbered_and_divided(size, parts):
    found = matrix(size)
    assert found.is_numbered == (size >= 13)
    assert [column for part in found.parts for column in part] == list(range(size))
    assert len(found.parts) == parts
    assert len(set(found.rows)) == size
    text = page_of(found)
    assert text.count('<table class="matrix') == parts
    assert len(re.findall(r'class="number right"', text)) == size


def test_a_panel_draws_its_curve_in_the_unit_square():
    text = panel("a class: 0.8", "a class", "0.8, n = 3", [0, 0, 0.5, 1], [0, 0.5, 0.5, 1], 0.25)
    assert 'class="line s0" d="M0.0 100.0L0.0 50.0L50.0 50.0L100.0 0.0"' in text
    assert 'd="M0 75.0H100"' in text


def test_a_title_cannot_leave_the_style_sheet():
    assert css_string('a "b"}</style>\n') == '"a \\22 b\\22 \\7d \\3c \\2f style\\3e \\a "'
    hostile = render(Page('x"}</style><b>', "Report of a run", {}, [Section("first", "First", [Text("y")])]))
    assert hostile.count("</style>") == 1
    assert "<b>" not in hostile.partition("</style>")[0]


@pytest.fixture(scope="module")
def printed(tmp_path_factory):
    """The lines of each page of a printed report with heads at many places, and the words' right edges by page."""
    if BROWSER is None or shutil.which("pdftotext") is None:
        pytest.skip("printing is tested where Chromium and pdftotext (poppler-utils) are installed")
    folder = tmp_path_factory.mktemp("printed")
    blocks = [
        block for rows in (3, 16, 20, 9, 30, 5, 17, 24, 2, 40, 12) for block in (table(rows), Text("Words. " * 60))
    ]
    panels = Markup('<div class="panels">{}</div>').format(
        Markup("").join(panel(f"class {n}", f"class {n}", "0.9", [0, 1], [0, 1], None) for n in range(40))
    )
    sections = [
        Section(f"part{n}", f"Heading {n}", [block, Pairs({f"name {k}": "value" for k in range(8)})])
        for n, block in enumerate(blocks)
    ]
    sections += [  # a text and its figures, wherever on a page they begin
        Section(f"drawn{n}", f"Drawn {n}", [Text("Said of the figure. " * 12), Figures([Figure(MARKED, "Seen")])])
        for n in range(7)
    ]
    sections.append(
        Section("typed", "Typed", [Code(f"Command {n}", f"first{n} {'x ' * 150}last{n}") for n in range(30)])
    )
    sections.append(
        Section("wide", "Wide", [matrix(25), matrix(60), table(4, 14), Figures([Figure(panels, "Many", wide=True)])])
    )
    (folder / "page.html").write_text(render(Page("a run", "Report of a run", {}, sections)), encoding="utf-8")
    options = [
        "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-sync",
        "--disable-background-networking", "--disable-component-update", f"--user-data-dir={folder}/profile",
    ]  # fmt: skip
    command = [
        BROWSER,
        *options,
        "--no-pdf-header-footer",
        f"--print-to-pdf={folder}/page.pdf",
        f"file://{folder}/page.html",
    ]
    subprocess.run(command, check=True, capture_output=True, timeout=120)
    layout = subprocess.run(["pdftotext", "-bbox-layout", folder / "page.pdf", "-"], check=True, capture_output=True,
                            text=True, timeout=60).stdout  # fmt: skip
    return [_page(text) for text in layout.split("<page ")[1:]]


def _page(text):
    width, height = (float(value) for value in re.match(r'width="([\d.]+)" height="([\d.]+)"', text).groups())
    words = re.findall(r'<word xMin="([\d.]+)" yMin="([\d.]+)" xMax="([\d.]+)" yMax="([\d.]+)">([^<]*)<', text)
    lines = {}
    for left, _, right, bottom, word in words:
        lines.setdefault(round(float(bottom)), []).append((float(left), float(right), word))
    ordered = [" ".join(word for *_, word in sorted(lines[bottom])) for bottom in sorted(lines)]
    return {"width": width, "height": height, "right": max(float(word[2]) for word in words), "lines": ordered}


def test_every_printed_page_has_its_number_and_the_reports_name(printed):
    assert len(printed) > 8
    for place, page in enumerate(printed, 1):
        assert page["lines"][-1] == f"Report of a run: a run page {place} of {len(printed)}"


def test_no_heading_and_no_head_of_a_table_stands_alone_at_the_end_of_a_page(printed):
    last = [page["lines"][-2] for page in printed]
    assert [line for line in last if re.match(r"Heading \d+|Table \d+\.|thing head1|Wide$|true, then", line)] == []


def test_what_is_said_of_a_figure_stands_on_its_page_and_a_command_on_one(printed):
    pages = [" ".join(page["lines"]) for page in printed]
    for n in range(7):
        page = [text for text in pages if f"Drawn {n}" in text][-1]  # the first one is that of the contents
        assert "drawnmark" in page.partition(f"Drawn {n}")[2]
    for n in range(30):
        assert any(f"first{n} " in text and f"last{n} " in text for text in pages), n


def test_wide_tables_fit_a_turned_sheet_and_nothing_leaves_the_paper(printed):
    assert [page for page in printed if page["right"] > page["width"] - 36] == []
    turned = [page for page in printed if page["width"] > page["height"]]
    words = " ".join(line for page in turned for line in page["lines"]).split()
    assert {*map(str, range(1, 61)), "head13"} <= set(words)
    assert all(any(f"Table {number}." in " ".join(page["lines"]) for page in turned) for number in (12, 13, 14, 15))
