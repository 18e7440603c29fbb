# Follows where there is no engine yet, or another is wanted: asks for it, and starts it. Nothing follows this until it answers.
deliver() {
  umask 077
  machine=$(uname -m)
  if [ "$machine" != "$arch" ]; then say "arch $machine"; return; fi
  place=
  for folder in "$home" "/var/tmp/charly-$(id -u)"; do
    mkdir -p "$folder" 2>/dev/null
    if [ -L "$folder" ] || [ ! -d "$folder" ] || [ ! -O "$folder" ]; then continue; fi
    chmod 700 "$folder" || continue
    part=$folder/.arriving-$$
    # A home may be mounted so that nothing in it can be started.
    if printf '#!/bin/sh\nexit 0\n' >"$part" && chmod 700 "$part" && "$part"; then place=$folder; break; fi 2>/dev/null
    rm -f "$part"
  done
  if [ -z "$place" ]; then say nowhere; return; fi
  program=$place/charly-guest-$digest
  if command -v gzip >/dev/null 2>&1; then
    say packed
    head -c "$packed" | gzip -dc >"$part"
  else
    say plain
    head -c "$plain" >"$part"
  fi
  found=$(sha256sum <"$part" 2>/dev/null) && found=${found%% *} || found=$digest
  if [ "$found" != "$digest" ]; then rm -f "$part"; say damaged; return; fi
  rm -f "$place"/charly-guest-*
  chmod 700 "$part" && mv -f "$part" "$program" && exec "$program" network
  rm -f "$part"
  say nowhere
}
# On one line, the last: a shell that reads byte by byte must leave nothing of this to whoever reads on.
deliver; exit
