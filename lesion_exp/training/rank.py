"""`python -m lesion_exp.training.rank JOB CONTEXT RESULT`: one rank of a job that runs in several processes."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path

from lesion_exp.config.freeze import read_job
from lesion_exp.errors import UserError
from lesion_exp.process.messages import show_messages
from lesion_exp.process.signals import end_on_sigterm, end_with_parent
from lesion_exp.training.run import run_job, write_result
from lesion_exp.training.run_context import RunContext


def main() -> int:
    """Runs the job; the first rank writes its result, or the reason why there is none, to the file RESULT."""
    job_path, context_path, result_path = map(Path, sys.argv[1:4])
    show_messages()
    end_on_sigterm()
    end_with_parent(os.getppid())
    try:
        result = run_job(read_job(job_path), RunContext.read(context_path))
    except UserError as error:
        result_path.write_text(json.dumps({"user_error": str(error)}), encoding="utf-8")
        return 2
    if result.run_id:
        write_result(result_path, result)
    return 0


if __name__ == "__main__":
    sys.exit(main())
