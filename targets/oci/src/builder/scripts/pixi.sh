# Builds the environment of a folder with a pixi.toml, a pyproject.toml or an environment.yml.
# The environment lies where a project in the home folder has its own.
set -eu
export PIXI_CACHE_DIR="$CHARLY_CACHE/pixi" RATTLER_CACHE_DIR="$CHARLY_CACHE/rattler" PIXI_HOME="$CHARLY_WORK/pixi"
export PIXI_NO_PROGRESS=true PIXI_COLOR=never
project=${CHARLY_TO%/.pixi/envs/default}
mkdir -p "$project"
cp -R "$CHARLY_SOURCE/." "$project"
cd "$project"
if ! command -v pixi >/dev/null; then
  tool=$CHARLY_CACHE/tool
  if [ ! -x "$tool/pixi" ]; then
    mkdir -p "$tool"
    curl --fail --silent --show-error --location --output "$CHARLY_WORK/pixi.tar.gz" \
      "https://github.com/prefix-dev/pixi/releases/latest/download/pixi-$(uname -m)-unknown-linux-musl.tar.gz"
    tar -xzf "$CHARLY_WORK/pixi.tar.gz" -C "$tool" --no-same-owner
  fi
  PATH=$tool:$PATH
fi
if [ ! -f pixi.toml ] && [ ! -f pyproject.toml ]; then
  pixi init --import environment.yml .
fi
if [ -f pixi.lock ]; then
  pixi install --frozen
else
  pixi install
fi
