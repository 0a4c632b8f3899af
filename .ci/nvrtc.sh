#!/usr/bin/env bash
# NVIDIA's run-time compiler, so that kernels are compiled for real on a machine with neither a GPU nor a CUDA toolkit: the
# library comes as a Python package (about 90 MB), into a folder of the build. Prints what makes it found:
#
#   eval "$(.ci/nvrtc.sh)" && cargo test -p zmlx-runtime --features cuda --test nvrtc
#   .ci/nvrtc.sh FOLDER           keeps it in FOLDER instead of target/nvrtc
set -euo pipefail

folder=${1:-$(dirname "$0")/../target/nvrtc}
mkdir -p "$folder"
folder=$(cd "$folder" && pwd)
if [ ! -e "$folder/complete" ]; then
  {
    python3 -m venv "$folder/venv"
    "$folder/venv/bin/pip" install --quiet nvidia-cuda-nvrtc==13.0.88
    touch "$folder/complete"
  } >&2
fi
for library in "$folder"/venv/lib/python3*/site-packages/nvidia/cu13/lib; do
  echo "export LD_LIBRARY_PATH=$library\${LD_LIBRARY_PATH:+:\$LD_LIBRARY_PATH}"
done
