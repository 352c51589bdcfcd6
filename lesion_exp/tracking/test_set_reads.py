"""How often the test part of a split has been looked at."""

from __future__ import annotations

from typing import Final

from lesion_exp.data.data_fingerprint import PART_TAG, TOTAL_TAG, DataFingerprint
from lesion_exp.tracking.store import Store

READS_TAG: Final = "test_readings"
"""On a run that read its test part: which reading of that part it was, over all runs in the store."""


def count_test_set_reads(store: Store, data: DataFingerprint, split_hash: str) -> int:
    """The runs in the store that read the test part of this split of these images; their labels may have changed."""
    experiments = store.experiment_ids()
    by_images = f"tags.`{PART_TAG}images` = '{data.parts['images']}'"
    by_all = f"tags.{TOTAL_TAG} = '{data.before}'"  # runs that recorded no parts
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
