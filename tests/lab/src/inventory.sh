# Writes a guest's inventory: records of three fields, each ended by NUL: a tagged value, a name, an addition.
# Run by the guest's root, with the guest's own tools.
export LC_ALL=C
cd / || exit 1

# What is on other file systems belongs to a boot, not to the machine, but for these.
set -- .
for mount in ./tmp ./dev/shm ./var/lib/containers; do
  if [ -d "$mount" ]; then set -- "$@" "$mount"; fi
done
find "$@" -xdev -printf 'F %y %m %U:%G %i %s %C@\0%p\0%l\0'
printf 'X\0'
find "$@" -xdev -print0 | xargs -0 getfattr -h -d -m - -e hex --absolute-names
printf '\0\0'

records() { tr '\t\n' '\0\0'; }
dpkg-query -W -f 'P ${db:Status-Want} ${db:Status-Status} ${Version}\t${Package}:${Architecture}\t\n' | records
apt-mark showauto | sed 's/.*/A auto\t&\t/' | records
sed 's/^\([^:]*\):\(.*\)$/U \2\t\1\t/' /etc/passwd | records
sed 's/^\([^:]*\):\(.*\)$/G \2\t\1\t/' /etc/group | records
ls /var/lib/systemd/linger 2>/dev/null | sed 's/.*/L on\t&\t/' | records

# Transient units are somebody's login or command; what they leave shows elsewhere.
systemctl list-unit-files --no-legend --plain --full |
  awk '$2 != "transient" {print "E " $2 "\t" $1 "\t"}' | records
running="list-units --no-legend --plain --full --state=active,activating,reloading,failed"
systemctl $running --type=service,socket,timer,path,mount,swap | awk '{print "R " $3 "\t" $1 "\t"}' | records
for runtime in /run/user/*; do
  uid=${runtime##*/}
  # Root's own manager is there because this script is.
  if [ "$uid" != 0 ] && [ -S "$runtime/systemd/private" ]; then
    user=$(id -nu "$uid")
    runuser -u "$user" -- env XDG_RUNTIME_DIR="$runtime" systemctl --user $running --type=service,socket,timer,path |
      awk -v user="$user" '{print "r " $3 "\t" user " " $1 "\t"}' | records
  fi
done
