# Builds packages of the AUR, and those of the AUR that they need. makepkg refuses to be root, so somebody else runs it.
set -eu
root=$CHARLY_WORK/aur
mkdir -p "$CHARLY_TO" "$root"
id charly-build >/dev/null 2>&1 || useradd --no-create-home --home-dir "$root" charly-build
chown charly-build "$root"
as_builder() { runuser -u charly-build -- env HOME="$root" PKGDEST="$root/made" "$@"; }
as_builder mkdir -p "$root/made"
pacman -Sy --noconfirm --noprogressbar

# Prints what a package needs to be built and to be run, without versions.
needs() {
  (cd "$root/$1" && as_builder makepkg --printsrcinfo) |
    sed -n 's/^[[:space:]]*\(make\|check\)\{0,1\}depends\(_x86_64\)\{0,1\} = //p' | sed 's/[<>=:].*//' | sort -u
}

build() {
  [ ! -e "$root/$1.done" ] || return 0
  : >"$root/$1.done"
  as_builder git clone --quiet --depth 1 "https://aur.archlinux.org/$1.git" "$root/$1"
  for need in $(needs "$1"); do
    if pacman -T "$need" >/dev/null; then continue; fi
    if pacman -Sp "$need" >/dev/null 2>&1; then
      pacman -S --needed --asdeps --noconfirm --noprogressbar "$need"
    else
      build "$need"
    fi
  done
  (cd "$root/$1" && as_builder makepkg --noconfirm --nocheck --noprogressbar)
  # Others may need it to be built.
  pacman -U --noconfirm --noprogressbar --needed --asdeps \
    $(cd "$root/$1" && as_builder makepkg --packagelist)
}

for package in $CHARLY_PACKAGES; do
  build "$package"
done
for made in "$root"/made/*.pkg.tar*; do
  case $made in
  *-debug-[0-9]*) ;;
  *) cp "$made" "$CHARLY_TO/" ;;
  esac
done
