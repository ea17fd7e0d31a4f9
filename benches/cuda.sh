#!/usr/bin/env bash
# Does the feature `cuda` compile? The compiler comes from PyPI's wheels; no GPU is needed. Half an hour on two cores.
#   benches/cuda.sh [FOLDER FOR THE COMPILER AND THE BUILD]
# On success a line is added to benches/results/cuda.txt. What this cannot show: that a GPU gives the CPU's logits.
set -euo pipefail
cd "$(dirname "$0")/.."
work=${1:-$HOME/.cache/bevy_skald/cuda}
mkdir -p "$work"
if [ ! -x "$work/venv/bin/pip" ]; then python3 -m venv "$work/venv"; fi
version='==13.0.*'
"$work/venv/bin/pip" install -q "nvidia-cuda-nvcc$version" "nvidia-nvvm$version" "nvidia-cuda-crt$version" \
  "nvidia-cuda-runtime$version" "nvidia-cuda-cccl$version" "nvidia-cublas$version" "nvidia-cuda-nvrtc$version" nvidia-curand
root=$(echo "$work"/venv/lib/python3*/site-packages/nvidia/cu13)
export CUDA_HOME=$root CUDA_PATH=$root CUDA_ROOT=$root CUDA_TOOLKIT_ROOT_DIR=$root PATH="$root/bin:$PATH" CUDA_COMPUTE_CAP=${CUDA_COMPUTE_CAP:-80}
nvcc --version | tail -2
# The linker looks for names without a version.
for library in "$root"/lib/*.so.*; do ln -sf "$(basename "$library")" "${library%%.so.*}.so"; done
ln -sfn lib "$root/lib64"
CARGO_TARGET_DIR=${CARGO_TARGET_DIR:-$work/target} cargo check --locked --lib --no-default-features --features cuda
echo "$(date -u +%F) $(git rev-parse --short HEAD) checked with $(nvcc --version | grep -o 'V[0-9.]*$'), compute capability $CUDA_COMPUTE_CAP, rustc $(rustc --version | cut -d' ' -f2)" >>benches/results/cuda.txt
tail -1 benches/results/cuda.txt
