#!/usr/bin/env bash
# uv with pip's configured indexes: uv does not read pip's settings, so find-links and extra indexes
# (a local CPU build of torch, a company mirror) are handed on. Bootstraps uv itself into .tools/.
set -euo pipefail
root="$(cd "$(dirname "$0")/.." && pwd)"
uv="$root/.tools/uv/bin/uv"
if [ ! -x "$uv" ]; then
  echo "opsin: installing uv into .tools/ (once)" >&2
  python3 -m venv "$root/.tools/uv"
  "$root/.tools/uv/bin/pip" install --quiet --disable-pip-version-check 'uv>=0.9' >&2
fi
setting() { # what pip would use for an option: its environment variable first, then its config files
  local env="PIP_$(echo "$1" | tr 'a-z-' 'A-Z_')"
  local value="${!env:-}"
  [ -n "$value" ] || value="$(python3 -m pip config get "global.$1" 2>/dev/null || true)"
  printf %s "$value"
}
export UV_FIND_LINKS="${UV_FIND_LINKS:-$(setting find-links)}"
export UV_EXTRA_INDEX_URL="${UV_EXTRA_INDEX_URL:-$(setting extra-index-url)}"
index="$(setting index-url)"
[ -n "${UV_INDEX_URL:-}" ] || [ -z "$index" ] || export UV_INDEX_URL="$index"
for name in UV_FIND_LINKS UV_EXTRA_INDEX_URL; do [ -n "${!name}" ] || unset "$name"; done
export UV_INDEX_STRATEGY="${UV_INDEX_STRATEGY:-unsafe-best-match}" # pip's own rule: the best version of all indexes
export UV_NO_PROGRESS="${UV_NO_PROGRESS:-0}"
exec "$uv" "$@"
