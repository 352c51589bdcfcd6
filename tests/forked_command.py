"""A command in a process that is forked from that of the tests, whose imports, which take seconds, are done."""

import contextlib
import os
import signal
import sys
import tempfile
import time
import traceback

import torch

from lesion_exp.cli import main


class ForkedCommand:
    """`lesion-exp ARGUMENTS` in a process of its own, with those methods of `subprocess.Popen` that tests use."""

    def __init__(self, *arguments):
        self.returncode = None
        self._out, self._err = (tempfile.TemporaryFile("w+") for _ in range(2))  # noqa: SIM115 - the command has them
        self.pid = os.fork()
        if self.pid == 0:
            self._become(arguments)

    def _become(self, arguments):
        code = 1
        with contextlib.suppress(BaseException):
            os.dup2(self._out.fileno(), 1)
            os.dup2(self._err.fileno(), 2)
            sys.stdout, sys.stderr = (os.fdopen(number, "w", buffering=1, closefd=False) for number in (1, 2))
            signal.signal(signal.SIGINT, signal.default_int_handler)
            signal.signal(signal.SIGTERM, signal.SIG_DFL)
            torch.set_num_threads(1)  # the threads of the tests' process do not survive the fork
            try:
                code = main(arguments)
            except BaseException:
                traceback.print_exc()
            sys.stdout.flush()
            sys.stderr.flush()
        os._exit(code)

    def poll(self):
        """The exit code, the negative number of the signal that ended the process, or None while it runs."""
        if self.returncode is None:
            pid, status = os.waitpid(self.pid, os.WNOHANG)
            self.returncode = os.waitstatus_to_exitcode(status) if pid else None
        return self.returncode

    def send_signal(self, number):
        if self.poll() is None:
            os.kill(self.pid, number)

    def communicate(self):
        """Waits for the end of the process, and returns what it wrote to both streams."""
        while self.poll() is None:
            time.sleep(0.05)
        said = []
        for file in (self._out, self._err):
            file.seek(0)
            said.append(file.read())
        return tuple(said)
