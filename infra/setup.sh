#!/usr/bin/env bash
# Make one environment from its lock file: `infra/setup.sh main|dev|quantize|serve|peers`.
# `make setup` calls it only where the lock file is newer than the environment.
# On a host with an NVIDIA GPU the same lock files install the CUDA builds.
set -euo pipefail
cd "$(dirname "$0")/.."
name="${1:?usage: infra/setup.sh main|dev|quantize|serve|peers}"
case "$name" in main | dev) venv=.venv ;; *) venv=".venv-$name" ;; esac
lock="infra/requirements/$name.txt"
uv=infra/uv.sh
# Byte code now, or every process compiles again where PYTHONDONTWRITEBYTECODE is set.
options=(--compile-bytecode --python "$venv/bin/python")

find_links="${PIP_FIND_LINKS:-$(python3 -m pip config get global.find-links 2>/dev/null || true)}"
if ! compgen -G "${find_links:-/nonexistent}/torch-*.whl" >/dev/null; then
  options+=(--torch-backend auto) # no local build of torch: uv picks the CPU or CUDA index that fits
fi
if [ "$name" = serve ]; then
  if nvidia-smi -L >/dev/null 2>&1; then
    lock=infra/requirements/serve-cuda.in
  else
    options+=(--override infra/requirements/serve-overrides.txt)
  fi
fi
if [ "$venv" = .venv ]; then options+=(--override infra/requirements/main-overrides.txt); fi
[ -x "$venv/bin/python" ] || "$uv" venv --quiet --python 3.11 "$venv"
echo "opsin: installing $lock into $venv" >&2
"$uv" pip install "${options[@]}" -r "$lock"
if [ "$name" = main ]; then "$uv" pip install --quiet "${options[@]}" --no-deps -e .; fi
touch "$venv/.$name.stamp"
