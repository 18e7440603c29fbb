say() { printf '\000charly-deliver\n%s\n' "$1"; }
home=${HOME:-/nonexistent}/.cache/charly/engine
start() {
for folder in "$home" "/var/tmp/charly-$(id -u)"; do
program=$folder/charly-guest-$digest
if [ ! -L "$folder" ] && [ -O "$folder" ] && [ ! -L "$program" ] && [ -O "$program" ] && [ -x "$program" ] && [ -s "$program" ]; then
umask 077
exec "$program" network
fi
done
say more
}
