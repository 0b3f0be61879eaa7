#!/bin/sh
# First process of the guest: network and ssh first, so that a driver that hangs can still be looked at.
export PATH=/usr/sbin:/usr/bin HOME=/root
/usr/bin/busybox mount -t proc proc /proc
mount -t sysfs sys /sys
mount -t devtmpfs dev /dev 2>/dev/null
mkdir -p /dev/pts /dev/shm
mount -t devpts devpts /dev/pts
mount -t tmpfs -o mode=1777 tmpfs /dev/shm
mount -t tmpfs tmpfs /run
mount -t tmpfs -o mode=1777 tmpfs /tmp
mount -t debugfs debugfs /sys/kernel/debug 2>/dev/null
mount -t tracefs tracefs /sys/kernel/tracing 2>/dev/null
echo "xdnawatch-guest: init $(cut -d' ' -f1 /proc/uptime) $(uname -r)" >/dev/kmsg
hostname xdnawatch-guest
modprobe virtio_net
# Further modules that the lab asked for (lab.virtual.hardware), before anything that may hang.
for word in $(cat /proc/cmdline); do
  case $word in xdnawatch.modules=*) for name in $(echo "${word#*=}" | tr , ' '); do modprobe "$name"; done ;; esac
done
ip link set lo up
ip link set eth0 up && ip addr add 10.0.2.15/24 dev eth0
dropbear -F -E -s 2>/dev/console &
echo "xdnawatch-guest: network $(cut -d' ' -f1 /proc/uptime)" >/dev/kmsg
# Real systems give the node to the render group by a udev rule; here a listener for the kernel's events does,
# also after a reload. A machine that is broken on purpose keeps other rights (harness.breakage).
cat >/run/node <<'END'
#!/bin/sh
case $SUBSYSTEM in accel | drm) ;; *) exit 0 ;; esac
[ -e /run/xdnawatch-nodes-kept ] && exit 0
for node in /dev/accel/accel* /dev/dri/renderD*; do
  [ -e "$node" ] && chgrp render "$node" && chmod 0660 "$node"
done
END
chmod +x /run/node
modprobe amdxdna
status=$?
uevent /run/node >/dev/null 2>&1 &
SUBSYSTEM=accel /run/node
echo "xdnawatch-guest: modprobe amdxdna status $status $(cut -d' ' -f1 /proc/uptime)" >/dev/kmsg
# The first process takes care of all whose parents are gone.
while :; do wait; sleep 1; done
