#!/usr/bin/env bash
# Cython's annotated HTML of every module under build/annotate: yellow lines touch Python.
set -euo pipefail
cd "$(dirname "$0")/.."
mkdir -p build/annotate
tar -c --exclude='*.so' --exclude=__pycache__ setup.py mdfeed | tar -x -C build/annotate
cd build/annotate
MDFEED_ANNOTATE=1 "$OLDPWD/.venv/bin/python" -c 'import sys; sys.argv = ["setup.py", "-q", "build_clib"]; exec(open("setup.py").read())'
find build -name '*.html'
