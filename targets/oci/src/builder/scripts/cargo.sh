# Builds a folder with a Cargo.toml: all programs of the package, or of the workspace.
set -eu
export CARGO_HOME="$CHARLY_CACHE/cargo" CARGO_TARGET_DIR="$CHARLY_WORK/target"
export CARGO_TERM_COLOR=never CARGO_TERM_PROGRESS_WHEN=never
cd "$CHARLY_SOURCE"
locked=
[ ! -f Cargo.lock ] || locked=--locked
if grep -q '^[[:space:]]*\[package\]' Cargo.toml; then
  exec cargo install $locked --no-track --path . --root "$CHARLY_TO"
fi
cargo build --release --workspace $locked
mkdir -p "$CHARLY_TO/bin"
for program in "$CARGO_TARGET_DIR"/release/*; do
  case $program in
  *.so | *.d | *.rlib) ;;
  *) if [ -f "$program" ] && [ -x "$program" ]; then cp "$program" "$CHARLY_TO/bin/"; fi ;;
  esac
done
