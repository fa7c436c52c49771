"""AsyncAPI's own JSON Schema, fetched once from the npm registry: the package of its authors carries it.

The file is kept under `.cache/`, under its hash, and never in the repository.
"""

import fcntl
import hashlib
import json
import shutil
import subprocess
import tarfile
import tempfile
from pathlib import Path
from typing import Any

import pytest

PACKAGE = "@asyncapi/specs@6.11.1"
MEMBER = "package/schemas/3.0.0.json"
SHA256 = "d4571a420e6ffb7fcc7066c95a6db1202f299a3c51daa103d0706bf30f95e626"
CACHE = Path(__file__).resolve().parent.parent / ".cache" / "asyncapi"
SECONDS = 100.0


def asyncapi_schema() -> dict[str, Any]:
    """The schema of AsyncAPI 3.0.0; it is never skipped that it cannot be had."""
    kept = CACHE / f"{SHA256}.json"
    CACHE.mkdir(parents=True, exist_ok=True)
    with (CACHE / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # test processes that begin together fetch it once
        if not kept.exists():
            found = fetched()
            fresh = kept.with_suffix(".new")
            fresh.write_bytes(found)
            fresh.replace(kept)
    schema: dict[str, Any] = json.loads(kept.read_bytes())
    return schema


def fetched() -> bytes:
    """The file as the registry has it."""
    npm = shutil.which("npm")
    if npm is None:
        pytest.fail("there is no npm to fetch AsyncAPI's schema with; install it (Debian: apt-get install npm)")
    with tempfile.TemporaryDirectory(prefix="mf-asyncapi-") as folder:
        command = [npm, "pack", "--silent", "--pack-destination", folder, PACKAGE]
        done = subprocess.run(
            command, cwd=folder, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=SECONDS, check=False
        )
        if done.returncode:
            pytest.fail(f"{PACKAGE} cannot be fetched: {done.stderr or done.stdout}")
        (archive,) = Path(folder).glob("*.tgz")
        with tarfile.open(archive) as packed:
            member = packed.extractfile(MEMBER)
            assert member is not None
            found = member.read()
    assert hashlib.sha256(found).hexdigest() == SHA256, f"{MEMBER} of {PACKAGE} is another than it was"
    return found
