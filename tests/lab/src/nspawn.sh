#!/bin/bash
# Runs one nspawn guest until it is powered off: nspawn.sh ROOT NAME NETNS VOLUME
# Started under `unshare -m`: what is mounted here is seen by the guest alone.
root=$1 name=$2 netns=$3 volume=$4

mount --make-rprivate /
# The guest's systemd wants the unified hierarchy at its usual place, whatever the host has there.
umount -R /sys/fs/cgroup 2>/dev/null
mount -t cgroup2 cgroup2 /sys/fs/cgroup || exit 1

# Containers inside the guest need a writable /proc/sys and the system calls the default filter forbids.
export SYSTEMD_SECCOMP=0 SYSTEMD_NSPAWN_API_VFS_WRITABLE=yes
while :; do
  systemd-nspawn --quiet --register=no --keep-unit --directory="$root" --machine="$name" \
    --network-namespace-path="/run/netns/$netns" --resolv-conf=off --link-journal=no \
    --capability=all --bind=/dev/fuse --bind=/dev/net/tun --bind="$volume:/var/lib/containers" \
    --boot --console=pipe
  # The status a guest's `reboot` ends with.
  [ $? = 133 ] || break
done
