#!/usr/bin/env bash
# Renews the pins, with hashes for every platform, that the service and the image are installed from. Looked at and
# committed by hand: `make lock && git diff deploy && make audit test test-systemd`.
set -euo pipefail
cd "$(dirname "$0")/.."
options=(--universal --python-version 3.11 --generate-hashes --no-header --no-annotate --quiet --upgrade)
.venv/bin/uv pip compile "${options[@]}" pyproject.toml -o deploy/requirements.txt
.venv/bin/uv pip compile "${options[@]}" .venv/build-requires -o deploy/requirements-build.txt
