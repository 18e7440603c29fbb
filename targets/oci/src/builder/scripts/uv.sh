# Builds a virtual environment of a folder with a uv.lock or a requirements.txt, around the distribution's own Python.
set -eu
export UV_CACHE_DIR="$CHARLY_CACHE/uv" UV_PROJECT_ENVIRONMENT="$CHARLY_TO" UV_LINK_MODE=copy UV_NO_PROGRESS=1
export UV_PYTHON="${CHARLY_PYTHON:-/usr/bin/python3}" UV_PYTHON_DOWNLOADS=never
# Python finds what is compiled by the contents of its source, so that using the environment changes nothing in it.
export UV_COMPILE_BYTECODE=1 PYC_INVALIDATION_MODE=CHECKED_HASH
cd "$CHARLY_SOURCE"
if ! command -v uv >/dev/null; then
  tool=$CHARLY_CACHE/tool/uv-$CHARLY_UV
  if [ ! -x "$tool/bin/uv" ]; then
    "$UV_PYTHON" -m venv "$tool"
    "$tool/bin/python" -m pip install --quiet --disable-pip-version-check --cache-dir "$CHARLY_CACHE/pip" "uv==$CHARLY_UV"
  fi
  PATH=$tool/bin:$PATH
fi
if [ -f uv.lock ]; then
  uv sync --frozen --no-dev --no-editable
else
  uv venv "$CHARLY_TO"
  uv pip install --python "$CHARLY_TO/bin/python" --requirement requirements.txt
fi
# It names the moment.
rm -f "$CHARLY_TO/.lock"
