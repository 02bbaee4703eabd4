#!/bin/busybox sh
# The first program of a guest that serves: starts the daemon, whose log goes to the serial console.

/bin/busybox --install -s /bin
mount -t proc proc /proc
mount -t sysfs sysfs /sys
mount -t devtmpfs dev /dev
mount -t bpf bpf /sys/fs/bpf 2>/dev/null
dmesg -n 1
exec >/dev/ttyS0 2>&1

echo "lab: kernel $(uname -r)"
while read -r module; do insmod "/lib/modules/$module"; done </lib/modules/order
ip link set lo up
echo "lab: serving"
/talos-pxe serve --if eth0 --mode server --addr 10.99.0.1/24 --xdp native --ra off -v \
    --root /srv --state /state --firmware /srv
echo "lab: the daemon ended with $?"
poweroff -f
