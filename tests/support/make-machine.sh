#!/usr/bin/env bash
# usage: make-machine.sh CACHE      prints the directory of what a machine with an older kernel is started from
#
#   <directory>/release     of the kernel: 6.1.0-57-cloud-amd64
#   <directory>/vmlinuz
#   <directory>/initrd      modules, busybox, and tests/it/support/machine/initrd.sh as the first program
#   <directory>/busybox     a static one: the programs of the machine, and of the images in it
#
# Taken from Debian's archive, nothing of it is installed: the newest kernel 6.1 for clouds, which is small; where the
# release has none, the newest that it has. Once a machine, by the hash of this script and that program. Needs no root;
# needs apt and dpkg-deb.
set -euo pipefail
export LC_ALL=C

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
first=$here/../it/support/machine/initrd.sh
[ "$(dpkg --print-architecture)" = amd64 ] || { echo "no recipe for $(dpkg --print-architecture)" >&2; exit 2; }

key=$(cat "${BASH_SOURCE[0]}" "$first" | sha256sum | cut -c1-16)
cache=$1/machine
machine=$cache/$key
mkdir -p "$cache"
exec 9>"$machine.lock"
flock 9
if [ -f "$machine/release" ]; then
    echo "$machine"
    exit
fi

work=$(mktemp -d "$cache/work.XXXXXX")
trap 'rm -rf "$work"' EXIT

# -- The packages, as the host's sources have them today: with lists of their own, so that nobody has to update the host's.
mkdir -p "$work"/{state/lists/partial,cache/archives/partial,debs,made}
apt=(-qq -o "Dir::State=$work/state" -o Dir::State::status=/dev/null -o "Dir::Cache=$work/cache" -o APT::Sandbox::User=
    -o Acquire::Languages=none)
apt-get "${apt[@]}" update >&2
newest() { apt-cache "${apt[@]}" pkgnames linux-image- | grep -E "^linux-image-$1.*-cloud-amd64\$" | sort -V | tail -1; }
kernel=$(newest '6\.1\.' || newest '[0-9]' || true)
[ -n "$kernel" ] || { echo "this Debian has no kernel for clouds" >&2; exit 1; }
(cd "$work/debs" && apt-get "${apt[@]}" download "$kernel" busybox-static >&2)
for deb in "$work"/debs/*.deb; do dpkg-deb -x "$deb" "$work/root"; done

# -- The first file system: of the modules, those for the disk and for what a run mounts.
root=$work/root made=$work/made initrd=$work/initrd
release=${kernel#linux-image-}
modules=$(cd "$root" && ls -d {,usr/}lib/modules/"$release" 2>/dev/null || true)
busybox=$(cd "$root" && ls {,usr/}bin/busybox 2>/dev/null || true)
cp "$root/$busybox" "$made/busybox"
cp "$root/boot/vmlinuz-$release" "$made/vmlinuz"
mkdir -p "$initrd"/{bin,dev,proc,root,sys} "$initrd/lib/modules/$release"
cp "$made/busybox" "$initrd/bin/"
install -m 755 "$first" "$initrd/init"
(
    cd "$root/$modules"
    cp --parents -r modules.order modules.builtin kernel/fs/overlayfs kernel/drivers/virtio kernel/drivers/block/virtio_blk.ko* \
        "$initrd/lib/modules/$release/"
)
find "$initrd" -name '*.ko.xz' -exec "$made/busybox" unxz {} +
"$made/busybox" depmod -b "$initrd" "$release"
(cd "$initrd" && find . | "$made/busybox" cpio -o -H newc 2>/dev/null) >"$made/initrd"

echo "$release" >"$made/release"
rm -rf "$machine"
mv "$made" "$machine"
echo "$machine"
