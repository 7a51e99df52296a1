#!/usr/bin/env bash
# Re-lock every environment: `make lock`. Versions only: local build tags (+cpu) and index options
# are stripped, so the same file installs the CPU or the CUDA build.
set -euo pipefail
cd "$(dirname "$0")/requirements"
uv="${UV:-uv}"
compile() { # NAME [uv option...]
  local name=$1; shift
  "$uv" pip compile --quiet --no-header --no-annotate --no-emit-index-url --no-emit-find-links \
    --python-version 3.11 "$@" "$name.in" -o "$name.txt"
  sed -i -E 's/^([A-Za-z0-9_.-]+==[^+ ]+)\+[A-Za-z0-9.]+/\1/' "$name.txt"
  echo "locked $name: $(grep -c == "$name.txt") packages"
}
compile main
compile dev
compile quantize
compile serve --override serve-overrides.txt
