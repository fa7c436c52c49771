"""`make soak`: the fault tests at full size, then `python -m benchmarks.soak`, also if the tests have failed.

Arguments go to pytest. Environment: `MF_SOAK` (factor of the fault tests), `MF_SOAK_SECONDS` (an hour; 0: none).
"""

import os
import subprocess
import sys

import run_tests
from environments import ROOT, environment, say

__all__ = ["main"]

END_SECONDS = 60.0


def main(arguments: list[str]) -> int:
    """Run both; the return value is the exit code of the first that failed."""
    tests = run_tests.main(["--no-lint", "-m", "fault", *arguments])
    messages = 0 if os.environ.get("MF_SOAK_SECONDS") == "0" else soak()
    return tests or messages


def soak() -> int:
    say("python -m benchmarks.soak")
    process = subprocess.Popen([str(environment("test")), "-m", "benchmarks.soak"], cwd=ROOT)
    try:
        return process.wait()
    except KeyboardInterrupt:
        # The terminal has told it as well: it removes its processes and its broker, which takes a moment.
        return process.wait(END_SECONDS)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
