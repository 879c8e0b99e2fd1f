#!/usr/bin/env bash
# Compiles the locks: versions and hashes, no addresses. Run it after a change of pyproject.toml.
set -euo pipefail
cd "$(dirname "$0")/.."
lock() { "${UV:-.uv/bin/uv}" pip compile --quiet --universal --generate-hashes --no-header --no-annotate --python-version 3.11 "$@"; }
lock pyproject.toml --extra embedded --group build --group worker -o requirements/platform.txt
lock pyproject.toml --group build --group dev --extra embedded --extra torch --extra embeddings --extra keycloak -c requirements/platform.txt -o requirements/dev.txt
# The images: control plane, worker pods, and what builds Kommuna's own wheel in them.
lock pyproject.toml --extra cluster --group worker -c requirements/platform.txt -o requirements/steps.txt
lock --group control -c requirements/steps.txt -o requirements/airflow.txt
lock --group build -c requirements/platform.txt -o requirements/build.txt
# The LLM that tests ask, in an environment of its own.
lock --no-deps requirements/llm.in -o requirements/llm.txt
