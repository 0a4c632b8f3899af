#!/usr/bin/env bash
# Clippy with the feature `cuda`, candle's bridge included, on a machine with no CUDA toolkit: candle's build script calls
# nvcc for candle's own kernels, and a stand-in for it leaves empty files. What comes of that can be checked, never run, so it
# has a target folder of its own.
#
#   .ci/cuda-check.sh FOLDER [ARGUMENTS OF CLIPPY]
set -euo pipefail

mkdir -p "${1:?a target folder}/nvcc/bin" "$1/nvcc/include" "$1/nvcc/lib64"
folder=$(cd "$1" && pwd)
shift
cat > "$folder/nvcc/bin/nvcc" <<'NVCC'
#!/usr/bin/env bash
# Answers the questions of cudarc (the 4th line) and cudaforge (`release`), and leaves empty what it is to make.
set -euo pipefail
while [ $# -gt 0 ]; do
  case $1 in
    --version)
      printf 'nvcc: a stand-in\n(nothing is compiled)\n\nCuda compilation tools, release 13.0, V13.0.0\n'
      exit ;;
    --list-gpu-code) echo sm_90; exit ;;
    -o) : > "$2"; exit ;;
    --output-directory) into=$2; shift 2 ;;
    *) last=$1; shift ;;
  esac
done
: > "$into/$(basename "$last" .cu).ptx"
NVCC
chmod +x "$folder/nvcc/bin/nvcc"

export PATH=$folder/nvcc/bin:$PATH NVCC=$folder/nvcc/bin/nvcc CUDA_HOME=$folder/nvcc CUDA_COMPUTE_CAP=90
CARGO_TARGET_DIR=$folder cargo clippy "$@" -- -D warnings
