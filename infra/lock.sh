#!/usr/bin/env bash
# Re-lock every environment: `make lock`. Versions only: local build tags (+cpu) and index options
# are stripped, so the same file installs the CPU or the CUDA build.
set -euo pipefail
cd "$(dirname "$0")/requirements"
uv="${UV:-uv}"
compile() { # NAME [uv option...]
  local name=$1; shift
  # torch anew: an earlier pin, stripped of its build tag, prefers the index's CUDA build to a local one
  "$uv" pip compile --quiet --upgrade-package torch --no-header --no-annotate --no-emit-index-url --no-emit-find-links \
    --python-version 3.11 "$@" "$name.in" -o "$name.txt"
  sed -i -E 's/^([A-Za-z0-9_.-]+==[^+ ]+)\+[A-Za-z0-9.]+/\1/' "$name.txt"
  echo "locked $name: $(grep -c == "$name.txt") packages"
}
compile main --override main-overrides.txt
compile dev --override main-overrides.txt
compile quantize
compile serve --override serve-overrides.txt
compile peers
