"""A comparison as a table for a paper: the results of each job, and the differences between jobs."""

from __future__ import annotations

from lesion_exp.evaluation.comparison import SIGNIFICANT
from lesion_exp.evaluation.registry import words_of
from lesion_exp.split import PARTS
from lesion_exp.trained_runs.printed_table import Entry, PrintedTable
from lesion_exp.verbs.compare.comparison_report import ComparisonReport, disagreement, method, p_text


def paper_table(report: ComparisonReport) -> PrintedTable:
    """Returns a row for each job and each pair, with the metrics of all classes that were compared as columns.

    A difference is bold if it is significant after the correction.
    """
    found = report.comparison
    names = found.overall()
    groups = {group.letter: group for group in found.groups}
    jobs = [
        [
            Entry(f"{job.letter}: {job.title}"),
            *(
                Entry(f"{value.value:.3f}", f" ({value.low:.3f} to {value.high:.3f})")
                for value in (groups[job.letter].values[name] for name in names)
            ),
        ]
        for job in report.jobs
    ]
    pairs = [
        [
            Entry(f"{pair.first} - {pair.second}"),
            *(
                Entry(
                    f"{one.difference:+z.3f}",
                    f" ({one.low:+z.3f} to {one.high:+z.3f}), p {_p(one.p_corrected)}",
                    one.significant,
                )
                for one in (pair.differences[name] for name in names)
            ),
        ]
        for pair in found.pairs
    ]
    caption = [
        f"results and differences on {found.num_images:,} images of {found.counted(found.num_lesions)} of the "
        f"{PARTS[report.part]} part",
        f"intervals: {method('interval', found)}; {report.draws:,} draws",
        f"bold: p < {SIGNIFICANT:g} after the correction ({method('p_corrected', found)})",
        *filter(None, [disagreement(found.pairs)]),
        *report.notes,
    ]
    return PrintedTable(["", *map(words_of, names)], [jobs, pairs], 1, caption)


def _p(value: float | None) -> str:
    text = p_text(value)
    return text if text.startswith("<") else f"= {text}" if value is not None else "not tested"
