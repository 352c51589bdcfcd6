import io

from rich.console import Console

from lesion_exp.verbs.prepare import show

SAID = "patient_id of isic2020: these numbers count as missing, not as one id: '-1' of 120 rows"
NOT_AUDITED = "3 image files are named by several rows; keep one row for each file in the table"
SUMMARY = {
    "dataset": "made",
    "store": "STORE",
    "classes": {"mel": {"train": 1}},
    "understood": {"columns": {}, "labels": []},
    "flow": [],
    "left_out": [],
    "findings": [
        {"level": "warning", "text": SAID, "cases": ["row 1"]},
        {"level": "warning", "text": NOT_AUDITED, "cases": ["a.jpg", "b.jpg"]},
        {"level": "info", "text": "image files of made: 4 of 4 rows have a file", "cases": []},
    ],
    "differs_from_published": {},
    "audit_in_words": f"audit passed: no image is in two parts\nwarning: {SAID[:40]}\n  {SAID[40:].lstrip()}",
}


def test_a_summary_says_each_finding_once():
    stream = io.StringIO()
    show(SUMMARY, Console(file=stream, width=200, highlight=False))
    text = " ".join(stream.getvalue().split())
    assert text.count(SAID) == 1
    assert f"{NOT_AUDITED} - a.jpg - b.jpg" in text, "what the audit does not repeat has its cases"
    assert "rows have a file" not in text, "it was logged while the data were read"
