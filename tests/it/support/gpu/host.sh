# usage: unshare -m --propagation private sh host.sh FAKE COMMAND...
#
# Shows COMMAND the made-up driver below FAKE as that of this host.
set -e
fake=$1
shift

# The kernel lets a sandbox mount a /proc and a /sys of its own only where a whole one can be seen; parts of those of this
# namespace are about to be hidden.
mkdir -p "$fake/whole/proc" "$fake/whole/sys" "$fake/whole/dev"
mount -t proc proc "$fake/whole/proc"
mount -t sysfs sysfs "$fake/whole/sys"

mkdir -p "$fake/proc/driver" "$fake/sys/module" "$fake/sys/bus"
for path in proc/driver proc/devices sys/module sys/bus etc/ld.so.cache; do
    mount --bind "$fake/$path" "/$path"
done
mount -t overlay -o "lowerdir=$fake/usr/bin:/usr/bin" overlay /usr/bin
for directory in /etc/cdi /run/cdi; do
    if [ -d "$directory" ]; then mount -t tmpfs none "$directory"; fi
done

# Nodes of the driver beside those that any program needs. `cp` makes new ones.
mount -t tmpfs -o mode=755 none "$fake/whole/dev"
for node in full null random tty urandom zero; do cp -a "/dev/$node" "$fake/whole/dev"; done
cp -a "$fake/dev/." "$fake/whole/dev"
mount --move "$fake/whole/dev" /dev

exec "$@"
