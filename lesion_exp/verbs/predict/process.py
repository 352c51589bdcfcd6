"""`python -m lesion_exp.verbs.predict.process FOLDER RANK COUNT GPU`: a process of a prediction on several devices."""

from __future__ import annotations

import os
import sys
from pathlib import Path

from lesion_exp.process.messages import show_messages
from lesion_exp.process.signals import end_on_sigterm, end_with_parent
from lesion_exp.verbs.predict.loop import Share, predict_plan


def main() -> int:
    """Predicts the share of this process in the plan in FOLDER."""
    show_messages()
    end_on_sigterm()
    end_with_parent(os.getppid())
    try:
        predict_plan(Path(sys.argv[1]), Share(*map(int, sys.argv[2:])))
    except KeyboardInterrupt:  # the command that started this process says what is true then
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main())
