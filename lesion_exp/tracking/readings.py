"""How often the test part of a split has been looked at."""

from __future__ import annotations

from typing import Final

from lesion_exp.tracking.store import Store

READINGS_TAG: Final = "test_readings"
"""On a run that read its test part: which reading of that part it was, over all runs in the store."""


def count_readings(store: Store, dataset_fingerprint: str, split_hash: str) -> int:
    """The runs in the store that read the test part of this split of these data."""
    experiments = store.experiment_ids()
    same = f"tags.dataset_fingerprint = '{dataset_fingerprint}' AND tags.split_hash = '{split_hash}'"
    found, token = 0, None
    while experiments:
        page = store.client.search_runs(experiments, f"{same} AND tags.{READINGS_TAG} != ''", page_token=token)
        found += len(page)
        token = page.token
        if not token:
            break
    return found
