"""`python -m lesion_exp.verbs.predict.process FOLDER`: one rank of a prediction on several devices."""

from __future__ import annotations

import os
import sys
from pathlib import Path

from lesion_exp.process.messages import show_messages
from lesion_exp.process.signals import end_on_sigterm, end_with_parent
from lesion_exp.verbs.predict.loop import predict_plan


def main() -> int:
    """Predicts this rank's share of the plan in FOLDER."""
    show_messages()
    end_on_sigterm()
    end_with_parent(os.getppid())
    predict_plan(Path(sys.argv[1]))
    return 0


if __name__ == "__main__":
    sys.exit(main())
