"""Counts how often the runs of a store have read the test part of a split."""

from __future__ import annotations

from typing import Final

from lesion_exp.data.data_fingerprint import PART_TAG, TOTAL_TAG, DataFingerprint
from lesion_exp.tracking.store import Store

READS_TAG: Final = "test_readings"
"""Tag of a run that read its test part: the number of reads of that part so far, over all runs in the store."""


def count_test_set_reads(store: Store, data: DataFingerprint, split_hash: str) -> int:
    """The number of runs in the store that read the test part of this split; labels may have changed since."""
    experiments = store.experiment_ids()
    by_images = f"tags.`{PART_TAG}images` = '{data.parts['images']}'"
    by_all = f"tags.{TOTAL_TAG} = '{data.before}'"  # runs of earlier versions
    found = set()
    for same in (by_images, by_all) if experiments else ():
        token = None
        while True:
            condition = f"{same} AND tags.split_hash = '{split_hash}' AND tags.{READS_TAG} != ''"
            page = store.client.search_runs(experiments, condition, page_token=token)
            found |= {run.info.run_id for run in page}
            token = page.token
            if not token:
                break
    return len(found)
