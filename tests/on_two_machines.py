"""Runs a script that makes two machines of network namespaces, and checks that none is left behind."""

import json
import subprocess
import sys


def result(script, *arguments):
    """What the script says as JSON."""
    command = [sys.executable, str(script), *arguments, "--json"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    try:
        out, err = process.communicate(timeout=3000)
    finally:
        process.terminate()
    assert process.returncode == 0, err[-4000:]
    left = subprocess.run(["ip", "netns", "list"], capture_output=True, text=True, check=True).stdout
    assert f"nodes{process.pid}" not in left
    return json.loads(out)
