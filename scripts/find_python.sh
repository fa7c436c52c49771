#!/bin/sh
# Prints the Python to use, or with --all one for each minor version from 3.11 up, oldest first.
# PYTHON=/path/to/python chooses one. Looks at python3, python3.N on the PATH, and pyenv's versions.
set -eu

check='
import sys
try:
    import ensurepip, venv
except ImportError:
    sys.exit(3)
print("%d.%d %s" % (sys.version_info[0], sys.version_info[1], sys.executable)) if sys.version_info >= (3, 11) else sys.exit(4)
'

seen=""
without_venv=""

candidates() {
    if [ -n "${PYTHON:-}" ]; then
        echo "$PYTHON"
        return
    fi
    for name in python3 python3.11 python3.12 python3.13 python3.14 python3.15; do
        command -v "$name" || true
    done
    for version in "${PYENV_ROOT:-$HOME/.pyenv}"/versions/3.*/bin/python3; do
        [ -x "$version" ] && echo "$version"
    done
    for name in python3.11 python3.12 python3.13 python3.14 python3.15; do
        [ -x "/usr/bin/$name" ] && echo "/usr/bin/$name"
    done
    return 0
}

found() {
    candidates | while read -r python; do
        # In the order of preference; a pyenv shim of a version that is not active fails here and is passed over.
        status=0
        answer=$("$python" -c "$check" 2>/dev/null) || status=$?
        case $status in
            0) echo "$answer" ;;
            3) echo "no-venv $python" ;;
        esac
    done
}

list=$(found)
usable=$(echo "$list" | grep '^3\.' || true)
if [ -z "$usable" ]; then
    without_venv=$(echo "$list" | sed -n 's/^no-venv //p' | head -n 1)
    if [ -n "$without_venv" ]; then
        echo "micro_framework: $without_venv has no venv module: install it (Debian: apt-get install python3-venv)" >&2
    else
        echo "micro_framework needs Python 3.11 or newer with venv, and there is none on the PATH or in ~/.pyenv${PYTHON:+ (PYTHON=$PYTHON is not one)}: install one, or name it: make PYTHON=/path/to/python3 ..." >&2
    fi
    exit 1
fi
if [ "${1:-}" = "--all" ]; then
    echo "$usable" | sort -s -t. -k2,2n -u | cut -d' ' -f2-
else
    echo "$usable" | head -n 1 | cut -d' ' -f2-
fi
