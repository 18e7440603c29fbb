# Builds a folder with a package.json: its dependencies, and itself where it has programs.
# A candy's packages lie apart from those of others, and are linked to where `npm install --global` would have them.
set -eu
export npm_config_cache="$CHARLY_CACHE/npm" npm_config_update_notifier=false npm_config_color=false
export npm_config_audit=false npm_config_fund=false npm_config_progress=false
# Headers for what is compiled: the distribution's own, where it has any.
[ ! -f /usr/include/node/node.h ] || export npm_config_nodedir=/usr

project=$CHARLY_TO/lib/charly/$CHARLY_CANDY
mkdir -p "$project"
cp -R "$CHARLY_SOURCE/." "$project"
cd "$project"

has_programs() { node -e 'process.exit(require("./package.json").bin ? 0 : 1)'; }
omit=--omit=dev
if has_programs; then omit=; fi
if [ -f package-lock.json ] || [ -f npm-shrinkwrap.json ]; then
  npm ci $omit
else
  npm install --no-package-lock $omit
fi
if has_programs; then
  npm pack --pack-destination "$CHARLY_WORK"
  npm prune --omit=dev --no-package-lock
  self=node_modules/$(node -p 'require("./package.json").name')
  mkdir -p "$self"
  tar -xzf "$CHARLY_WORK"/*.tgz -C "$self" --strip-components=1 --no-same-owner
fi

node - <<'END'
const fs = require('fs');
const path = require('path');
const project = process.cwd();
const prefix = process.env.CHARLY_TO;
const modules = path.join(project, 'node_modules');
const own = JSON.parse(fs.readFileSync('package.json', 'utf8'));

function link(from, to) {
  fs.mkdirSync(path.dirname(from), { recursive: true });
  fs.rmSync(from, { force: true });
  fs.symlinkSync(path.relative(path.dirname(from), to), from);
}

const names = [...Object.keys(own.dependencies || {}), ...Object.keys(own.optionalDependencies || {})];
if (own.bin) names.push(own.name);
for (const name of new Set(names)) {
  const folder = path.join(modules, name);
  // An optional one may be for other machines.
  if (!fs.existsSync(folder)) continue;
  link(path.join(prefix, 'lib/node_modules', name), folder);
  const { bin } = JSON.parse(fs.readFileSync(path.join(folder, 'package.json'), 'utf8'));
  const programs = typeof bin === 'string' ? { [path.basename(name)]: bin } : bin || {};
  for (const [program, file] of Object.entries(programs)) {
    fs.chmodSync(path.join(folder, file), 0o755);
    link(path.join(prefix, 'bin', path.basename(program)), path.join(prefix, 'lib/node_modules', name, file));
  }
}

// What was only built from stays behind, but for local packages that dependencies are links to.
const kept = new Set(['node_modules', 'package.json']);
if (fs.existsSync(modules)) {
  for (const entry of fs.readdirSync(modules)) {
    const inner = entry.startsWith('@') ? fs.readdirSync(path.join(modules, entry)).map((one) => path.join(entry, one)) : [entry];
    for (const name of inner) {
      const below = path.relative(project, fs.realpathSync(path.join(modules, name)));
      if (!below.startsWith('..')) kept.add(below.split(path.sep)[0]);
    }
  }
}
for (const entry of fs.readdirSync(project)) {
  if (!kept.has(entry)) fs.rmSync(path.join(project, entry), { recursive: true });
}
// It names the registry that was used.
fs.rmSync(path.join(modules, '.package-lock.json'), { force: true });
END
