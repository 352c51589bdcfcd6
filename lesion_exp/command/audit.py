"""The verb `audit`: says what a split leaks, also a published one, and what that does to given scores."""

from __future__ import annotations

import json
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from lesion_exp.command.arguments import Arguments, compose_job
from lesion_exp.command.chosen_run import RUN, RUN_NAMES, chosen_run
from lesion_exp.errors import ConfigError, check_output
from lesion_exp.next_command import key_and_value, key_of
from lesion_exp.option import Names, file, option
from lesion_exp.terminal import console, say

if TYPE_CHECKING:
    from lesion_exp.verbs.audit.audit import SplitAudit

_LISTS = Names("PATH,PATH", "part_a.csv,part_b.txt")


@dataclass(frozen=True)
class AuditOptions:
    """The options of `audit` that are not keys of the config."""

    train_ids: tuple[str, ...] = option(
        (),
        _LISTS,
        "lists of the training images (csv or text, an image a row), or folders of images; instead of split=",
    )
    val_ids: tuple[str, ...] = option((), _LISTS, "lists or folders of the validation images, as for train_ids=")
    test_ids: tuple[str, ...] = option((), _LISTS, "lists or folders of the test images, as for train_ids=")
    predictions: Path | None = option(
        None,
        file("predictions.csv", ".csv", ".parquet"),
        "predictions of the test images: a column of images, and p_CLASS columns or the column prediction",
    )
    run: str | None = option(
        None, RUN, f"instead of predictions=, those that a run stores of its test part: {RUN_NAMES}"
    )
    output: Path | None = option(
        None, file("audit.html", ".html", ".htm"), "file to write the audit to, as an HTML page"
    )

    def lists(self) -> dict[str, list[Path]]:
        """Returns the lists of each part for which there are any."""
        given = {"train": self.train_ids, "val": self.val_ids, "test": self.test_ids}
        return {part: [Path(path).expanduser() for path in paths] for part, paths in given.items() if paths}


def audit(arguments: Arguments) -> int:
    """Shows the audit on standard output: tables and a paragraph to quote, or one JSON object."""
    wanted = arguments.read(AuditOptions)
    if wanted.output is not None:
        check_output(wanted.output)
    result = _audited(arguments, wanted)
    if result is None:
        return 0
    facts = result.to_dict()
    if wanted.output is not None:
        from lesion_exp.privacy import anonymized
        from lesion_exp.verbs.report.audit_page import audit_page
        from lesion_exp.verbs.report.page import render

        wanted.output.write_text(anonymized(render(audit_page(facts))), encoding="utf-8")
        say(f"page: {wanted.output}", sys.stderr)
    if arguments.json:
        print(json.dumps(facts))
    else:
        from lesion_exp.verbs.audit.shown import show

        show(result, console(sys.stdout))
    return 0


def _folders(arguments: Arguments) -> dict[str, list[Path]]:
    """The folders of the parts in the folder that `split=file split.path=` names, which are removed from the overrides;
    none if it is a file."""
    from lesion_exp.config.places import SPLIT_PATH, folders_of_parts

    given = dict(map(key_and_value, arguments.overrides))
    text = given.get(SPLIT_PATH, "")
    if given.get("split") != "file" or not text or not Path(text).expanduser().is_dir():
        return {}
    folders = folders_of_parts(Path(text).expanduser())
    if folders:
        arguments.overrides = [word for word in arguments.overrides if key_of(word) not in ("split", SPLIT_PATH)]
    return folders


def _audited(arguments: Arguments, wanted: AuditOptions) -> SplitAudit | None:
    """The audit that the arguments ask for; None after `--cfg job`."""
    lists = wanted.lists() or _folders(arguments)
    if lists and any(key == "split" or key == "split.path" for key in arguments.given_keys()):
        raise ConfigError(
            "expected the parts once, got train_ids=, val_ids= or test_ids= beside split=; leave one of them out"
        )
    if lists and not {"train", "test"} <= lists.keys():
        given = " and ".join(f"{part}_ids=" for part in lists)
        raise ConfigError(f"expected train_ids= and test_ids=, got only {given}; name the lists of both parts")
    if wanted.predictions is not None and wanted.run is not None:
        raise ConfigError("expected one of predictions=FILE and run=ID, got both; leave one out")
    arguments.show_tree = False
    job = compose_job(arguments)
    if job is None:
        return None
    run = None if wanted.run is None else chosen_run(job.project.opened().store, wanted.run)
    from lesion_exp.verbs.audit.audit import audit as audit_split

    return audit_split(job, lists, wanted.predictions, run)
