#!/bin/busybox sh
# The appliance's first program. The kernel's command line says on which disk it is: `stick` is the
# volume number of the boot partition, `state` the UUID of the file system for state, both in our
# environment.

/bin/busybox --install -s /bin
mount -t proc proc /proc
mount -t sysfs sysfs /sys
mount -t devtmpfs dev /dev
mount -t bpf bpf /sys/fs/bpf
# From now on only what matters is written over the screen.
dmesg -n 1

# The terminals of the kernel's consoles that are there.
terminals= screens=
for argument in $(cat /proc/cmdline); do
    case $argument in
    console=tty0*) terminal=/dev/tty1 ;;
    console=*) terminal=/dev/${argument#console=} && terminal=${terminal%%,*} ;;
    *) continue ;;
    esac
    if stty -F "$terminal" >/dev/null 2>&1; then terminals="$terminals $terminal"; fi
done

say() {
    for terminal in $terminals; do echo "talos-pxe: $*" >"$terminal"; done
}

# Loads the drivers of all devices that the kernel has found.
load_drivers() {
    find /sys/devices -name modalias -exec cat {} + | sort -u | tr '\n' '\0' |
        xargs -0 modprobe -a -q 2>/dev/null
}

# Mounts a file system, once the disk is there.
mount_disk() {
    device= passes=0
    until device=$(findfs "UUID=$1" 2>/dev/null); do
        load_drivers
        passes=$((passes + 1))
        if [ "$passes" = 100 ]; then say "no disk has the partition $1; waiting for it"; fi
        sleep 0.1
    done
    until mount -t "$2" -o "$3" "$device" "$4"; do
        say "cannot mount $device on $4; write the image to the stick anew"
        sleep 10
    done
}

if dmesg | grep -q "Secure boot enabled"; then say "SecureBoot is on"; fi
say "loading drivers"
load_drivers
# Only ever read: whoever pulls the stick out cannot break it. Machine configs are on it.
mount_disk "$stick" vfat ro,umask=077,utf8 /boot
mount_disk "$state" ext4 noatime /state
# Devices that come later.
uevent /etc/uevent &
load_drivers
# The power button.
acpid -d >/dev/null 2>&1 &

hostname talos-pxe
ip link set lo up

if [ -e /etc/shell ]; then
    while :; do setsid -c sh </dev/tty3 >/dev/tty3 2>&1; done &
fi

# Its settings are in a file on the stick; its screen is on every terminal, its log on the second.
for terminal in $terminals; do screens="$screens --tty $terminal"; done
while [ ! -e /run/off ]; do
    # shellcheck disable=SC2086
    talos-pxe console --config /boot/talos-pxe.toml --root /boot --state /state --power \
        $screens --log /dev/tty2
    case $? in
    10) off ;;
    11) umount /state && reboot -f ;;
    esac
    sleep 3
done
# The power is going off.
while :; do sleep 60; done
