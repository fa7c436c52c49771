"""Unpacks the RabbitMQ of another Debian release beside the system: `python debian_rabbitmq.py trixie` prints its home.

`MF_RABBITMQ_HOME` takes that folder. Nothing is installed: the packages, with the libraries and the Erlang they need,
lie under `.cache/rabbitmq/`, and the server sees them as `/usr` in a mount namespace of its own, which ends with it.
Needs root, Debian's mirror and the packages `debootstrap` (installed if missing) and `util-linux`.
Standard library only.
"""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

from environments import ROOT, locked, say

__all__ = ["server_home"]

CACHE = ROOT / ".cache" / "rabbitmq"
MIRROR = os.environ.get("DEBIAN_MIRROR", "http://deb.debian.org/debian")
SERVERS = "usr/lib/rabbitmq/lib"
# The script must become the server, so that the process that was started is the broker.
START = """#!/bin/sh
# The server of {server} with its own /usr, which nobody else sees.
exec unshare --mount sh -c 'mount --bind "{root}/usr" /usr && exec "/{server}/sbin/rabbitmq-server" "$@"' rabbitmq "$@"
"""


def server_home(suite: str) -> Path:
    """The folder of a Debian release's server, as `MF_RABBITMQ_HOME` wants it; fetched if it is not there.

    Args:
        suite: A release as Debian's mirror names it: ``trixie``, ``sid``.

    Raises:
        SystemExit: It cannot be had; the message says why.
    """
    if not re.fullmatch(r"[a-z][a-z-]*", suite):
        raise SystemExit(f"{suite!r} is no release of Debian: expected a name such as trixie")
    folder = CACHE / suite
    with locked(CACHE / f"{suite}.lock"):
        if not (folder / "complete").exists():
            make(suite, folder)
    return folder / "home"


def make(suite: str, folder: Path) -> None:
    if os.geteuid() != 0:
        raise SystemExit("the server of another release runs in a mount namespace of its own, which only root can make")
    shutil.rmtree(folder, ignore_errors=True)
    install_debootstrap()
    packages = folder / "packages"
    say(f"fetching the RabbitMQ of Debian {suite} to {folder.relative_to(ROOT)}")
    run(
        *("debootstrap", "--download-only", "--variant=minbase", "--include=rabbitmq-server"),
        *(suite, str(packages), MIRROR),
    )
    for package in sorted(packages.glob("var/cache/apt/archives/*.deb")):
        run("dpkg", "--extract", str(package), str(folder / "root"))
    shutil.rmtree(packages)
    lay_out_home(folder)
    (folder / "complete").touch()


def install_debootstrap() -> None:
    if not shutil.which("debootstrap"):
        say("debootstrap is missing: apt-get install debootstrap")
        run("apt-get", "-q", "update")
        run("apt-get", "-q", "install", "-y", "--no-install-recommends", "debootstrap")


def lay_out_home(folder: Path) -> None:
    """A home whose script starts the server with the release's own files, and the plugins, which both sides see."""
    root, home = folder / "root", folder / "home"
    (server,) = (root / SERVERS).glob("rabbitmq_server-*")
    script = home / "sbin" / "rabbitmq-server"
    script.parent.mkdir(parents=True)
    script.write_text(START.format(root=root, server=server.relative_to(root)))
    script.chmod(0o755)
    (home / "plugins").symlink_to(server / "plugins")


def run(*command: str) -> None:
    variables = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
    done = subprocess.run(command, env=variables, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"{' '.join(command)} failed:\n{done.stdout}{done.stderr}")


if __name__ == "__main__":
    if len(sys.argv) != 2:
        raise SystemExit(__doc__)
    print(server_home(sys.argv[1]))
