"""`make bench` and `make bench-quick`: the benchmarks, with the project's and Nameko's environments made first."""

import os
import subprocess
import sys

from environments import ROOT, environment, say
from run_tests import ENVIRONMENT_VARIABLES, provide_broker

__all__ = ["main"]


def main(arguments: list[str]) -> int:
    """Run `python -m benchmarks` with the arguments; the return value is the exit code."""
    provide_broker()
    python = environment("test")
    variables = dict(os.environ)
    for version, name in ENVIRONMENT_VARIABLES.items():
        variables[name] = str(environment(version))
    say(f"python -m benchmarks {' '.join(arguments)}")
    command = [str(python), "-m", "benchmarks", *arguments]
    return subprocess.run(command, cwd=ROOT, env=variables, check=False).returncode


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
