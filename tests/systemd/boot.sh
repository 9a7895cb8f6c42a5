#!/bin/bash
# Becomes the PID 1 of a small machine: a real systemd over a throw-away overlay of this host's own root.
#   boot.sh SCRATCH HANDED NAME as-here|unified
# Run by machine.py as the first process of fresh PID, mount, network, UTS, IPC and cgroup namespaces. SCRATCH is an empty
# directory for the overlay's tmpfs; HANDED shows up inside, read-only, as /media/handed, and everything that
# was changed on the machine since it booted as /media/changes. Every mount lives in this mount namespace alone and goes
# with it; nothing of the host is written.
set -euo pipefail
scratch=$1 handed=$2 name=$3 cgroups=$4

mount --make-rprivate /
mount -t tmpfs -o size=2g,mode=755 tmpfs "$scratch"
mkdir "$scratch"/{upper,work,root}
mount -t overlay -o "lowerdir=/,upperdir=$scratch/upper,workdir=$scratch/work" overlay "$scratch/root"
cd "$scratch/root"
rm -rf etc/systemd/system/*.wants etc/systemd/system/default.target
ln -s /lib/systemd/system/multi-user.target etc/systemd/system/default.target
ln -sf /dev/null etc/systemd/system/console-getty.service
: >etc/machine-id
: >etc/fstab
printf '%s\n' "$name" >etc/hostname
# A machine that was never an install target: leftovers of the host's own service would be mistaken for ours.
rm -rf etc/mdfeed opt/mdfeed var/lib/mdfeed etc/systemd/system/market-data.service*

mkdir -p proc sys dev run tmp media/handed media/changes old
mount --bind -o ro "$handed" media/handed
mount --bind -o ro "$scratch/upper" media/changes
mount -t proc -o nosuid,nodev,noexec proc proc
mount -t sysfs -o nosuid,nodev,noexec,ro sysfs sys
mount -t tmpfs -o nosuid,mode=755 tmpfs dev
for node in null zero full random urandom tty; do cp -a "/dev/$node" dev/; done
mkdir dev/pts dev/shm dev/mqueue
mount -t devpts -o newinstance,ptmxmode=0666,mode=620,gid=5 devpts dev/pts
mount -t tmpfs -o nosuid,nodev,mode=1777 tmpfs dev/shm
mount -t mqueue mqueue dev/mqueue
ln -s pts/ptmx dev/ptmx
ln -s /proc/self/fd dev/fd
for i in 0:stdin 1:stdout 2:stderr; do ln -s "fd/${i%:*}" "dev/${i#*:}"; done
: >dev/console
mount -t tmpfs -o nosuid,nodev,mode=755 tmpfs run
mount -t tmpfs -o nosuid,nodev,mode=1777 tmpfs tmp

# The host's own layout of cgroups, version 2 alone or version 1 controllers beside it; or version 2 alone as asked for.
if [ "$cgroups" = unified ] || [ "$(stat -fc %T /sys/fs/cgroup)" = cgroup2fs ]; then
    mount -t cgroup2 -o nosuid,nodev,noexec cgroup2 sys/fs/cgroup
else
    mount -t tmpfs -o mode=755 tmpfs sys/fs/cgroup
    mkdir sys/fs/cgroup/{unified,systemd}
    mount -t cgroup2 cgroup2 sys/fs/cgroup/unified
    mount -t cgroup -o none,name=systemd cgroup sys/fs/cgroup/systemd
    for controller in cpu cpuacct cpuset memory devices freezer blkio pids; do
        mkdir "sys/fs/cgroup/$controller"
        mount -t cgroup -o "$controller" cgroup "sys/fs/cgroup/$controller"
    done
fi
ip link set lo up
mount --bind proc/sys proc/sys
mount -o remount,bind,ro,nosuid,nodev,noexec proc/sys

pivot_root . old
cd /
umount -l /old
rmdir /old
exec env -i container=unshare PATH=/usr/sbin:/usr/bin:/sbin:/bin TERM=dumb \
    /lib/systemd/systemd --log-level=info --log-target=journal --show-status=false
