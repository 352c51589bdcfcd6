"""The variables by which a process knows that it is one of several that train together."""

from __future__ import annotations

import os
from typing import Final

RANK_VARIABLES: Final = ("LOCAL_RANK", "NODE_RANK", "WORLD_SIZE", "RANK", "MASTER_ADDR", "MASTER_PORT")


def environment_without_rank() -> dict[str, str]:
    """This process's environment for one that it starts, which must not take itself for a rank of this one's group."""
    return {name: value for name, value in os.environ.items() if name not in RANK_VARIABLES}
