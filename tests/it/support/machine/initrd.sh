#!/bin/busybox sh
# The first program of the machine: modules and the disk, from which everything else comes. A root that is the initial
# file system itself could not be left by `pivot_root`.
/bin/busybox --install -s /bin
export PATH=/bin
mount -t proc proc /proc
mount -t sysfs sysfs /sys
mount -t devtmpfs dev /dev
# One that is built in is not found.
for module in virtio_pci virtio_blk overlay; do modprobe "$module"; done
tries=0
until mount -t ext4 /dev/vda /root; do
    tries=$((tries + 1))
    if [ "$tries" = 50 ]; then poweroff -f; fi
    sleep 0.1
done
for place in proc sys dev; do mount --move "/$place" "/root/$place"; done
exec switch_root /root /init
