#!/bin/busybox sh
# Runs every check in /checks, one after the other, and says on the second serial line what came of it:
#
#   begin 003
#   status 0
#   out TEXT        a line of its standard output
#   err TEXT        a line of its standard error
#   group PATH      a control group that is there afterwards
#   end 003
#   done 31.25      all of them, with the seconds since the start
#
# A check is a shell script whose first line says as whom it runs and in which control group: `# ACCOUNT GROUP`. This decides
# nothing: the test compares.
/bin/busybox --install -s /bin
export PATH=/bin:/usr/bin
mount -t tmpfs -o mode=1777 tmpfs /tmp
mount -t tmpfs -o mode=755 tmpfs /run
# As systemd mounts it: what is delegated to a user stays below.
mount -t cgroup2 -o nsdelegate cgroup2 /sys/fs/cgroup
for home in /home/*; do chown "${home##*/}" "$home"; done
stty -F /dev/ttyS1 raw -echo
exec 3>/dev/ttyS1
for check in /checks/*; do
    read -r _ account group <"$check"
    (
        exec 3>&-
        echo 0 >"/sys/fs/cgroup/$group/cgroup.procs" || exit 99
        cd "/home/$account" || exit 99
        exec su -s /bin/sh "$account" -c "exec sh $check"
    ) </dev/null >/run/out 2>/run/err
    status=$?
    {
        echo "begin ${check##*/}"
        echo "status $status"
        awk '{ print "out " $0 }' /run/out
        awk '{ print "err " $0 }' /run/err
        find /sys/fs/cgroup -mindepth 1 -type d | awk '{ print "group " $0 }'
        echo "end ${check##*/}"
    } >&3
done
echo "done $(cut -d' ' -f1 /proc/uptime)" >&3
poweroff -f
