#!/bin/sh
# Turns a fresh Debian root into the lab's: mmdebstrap calls it with the root's path when all packages are in.
# KEY is the public key every user of the guest trusts.
set -eu
root=$1

user() { # NAME SHELL
  chroot "$root" useradd -m -s "$2" "$1"
  install -d -m 0700 "$root/home/$1/.ssh"
  printf '%s\n' "$KEY" >"$root/home/$1/.ssh/authorized_keys"
  chroot "$root" chown -R "$1:$1" "/home/$1/.ssh"
}
sudoer() { # NAME
  printf '%s ALL=(ALL) NOPASSWD: ALL\n' "$1" >"$root/etc/sudoers.d/$1"
  chmod 0440 "$root/etc/sudoers.d/$1"
}

user deploy /bin/bash; sudoer deploy
user fishy /usr/bin/fish; sudoer fishy
user cshy /bin/tcsh; sudoer cshy
user plain /bin/bash # the one without sudo
install -d -m 0700 "$root/root/.ssh"
printf '%s\n' "$KEY" >"$root/root/.ssh/authorized_keys"

# Identity belongs to a guest, not to the image.
rm -f "$root"/etc/ssh/ssh_host_*
: >"$root/etc/machine-id"

# Nothing of the guest's own may hold the package lock or change files while a test looks.
for timer in apt-daily apt-daily-upgrade dpkg-db-backup e2scrub_all fstrim logrotate man-db; do
  chroot "$root" systemctl --quiet disable "$timer.timer" 2>/dev/null || true
done
ln -s /dev/null "$root/etc/systemd/system/systemd-networkd-wait-online.service"

# A nested container runs in the guest's own limits, and keeps its storage off the guest's root overlay.
mkdir -p "$root/etc/containers"
printf '[containers]\npids_limit=0\n' >"$root/etc/containers/containers.conf"
