#!/usr/bin/env bash
# The table of benchmarks on a GPU: benchmarks/gpu.sh [MINUTES] [BENCHMARK]
# Installs the package with JAX for CUDA 12 into .venv-gpu, holds exact solutions against what the
# device computes, and records every part that has no complete record on it yet.
# PLATFORM=cpu benchmarks/gpu.sh ... rehearses all that on a machine without one.
set -euo pipefail
cd "$(dirname "$0")/.."
platform=${PLATFORM:-gpu}
venv=.venv-$platform
jax=jax
[ "$platform" = cpu ] || jax='jax[cuda12]'
[ -x "$venv/bin/python" ] || python3 -m venv "$venv"
"$venv/bin/python" -m pip install --quiet --editable '.[bench]' "$jax"
export XLA_PYTHON_CLIENT_PREALLOCATE=false
"$venv/bin/python" -c "import jax; assert jax.default_backend() == '$platform', jax.devices()"
"$venv/bin/steepest" selftest
"$venv/bin/python" -m benchmarks ${2:+"$2"} --all --minutes "${1:-60}"
