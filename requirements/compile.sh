#!/usr/bin/env bash
# Compiles the locks: versions and hashes, no addresses. Run it after a change of pyproject.toml.
set -euo pipefail
cd "$(dirname "$0")/.."
lock() { "${UV:-.uv/bin/uv}" pip compile --quiet --universal --generate-hashes --no-header --no-annotate --python-version 3.11 pyproject.toml "$@"; }
lock --group build -o requirements/platform.txt
lock --group build --group dev --extra torch -c requirements/platform.txt -o requirements/dev.txt
