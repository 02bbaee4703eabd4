#!/bin/busybox sh
# The first and only program of the lab's guest: says what the network gave it, then powers off.

/bin/busybox --install -s /bin
mount -t proc proc /proc
mount -t sysfs sysfs /sys
mount -t devtmpfs dev /dev

# The serial console is for whole lines of ours from here on, not for the kernel's in between.
dmesg -n 1
say() { echo "lab: $*" >/dev/ttyS0; }

say "kernel $(uname -r)"
while read -r module; do insmod "/lib/modules/$module" || say "no module $module"; done </lib/modules/order

if ip link set eth0 up 2>/dev/null && udhcpc -i eth0 -n -q -t 10 -T 2 -s /lease >/tmp/udhcpc 2>&1; then
    say "address $(cat /tmp/address)"
else
    say "no address"
fi

url=
for argument in $(cat /proc/cmdline); do
    case $argument in talos.config=*) url=${argument#talos.config=} ;; esac
done
if [ -z "$url" ]; then
    say "no config"
# Not wget -T: Debian's static busybox 1.35 crashes on it.
elif timeout 30 wget -q -O /tmp/config "$url" 2>/tmp/wget; then
    say "config sha256 $(sha256sum </tmp/config | cut -d' ' -f1) $url"
else
    say "config failed ($(head -n 1 /tmp/wget)) $url"
fi

# lab.resolve=NAME:COUNT waits until a name has so many addresses, as machines of a cluster do.
wanted=
for argument in $(cat /proc/cmdline); do
    case $argument in lab.resolve=*) wanted=${argument#lab.resolve=} ;; esac
done
if [ -n "$wanted" ]; then
    tries=0
    while
        # What stands before the name is the server's own address.
        addresses=$(nslookup -type=a "${wanted%:*}" 2>&1 | sed -n '/^Name:/,$s/^Address: *//p' | sort | xargs)
        [ "$(echo "$addresses" | wc -w)" -ne "${wanted#*:}" ] && [ $tries -lt 240 ]
    do
        tries=$((tries + 1))
        sleep 1
    done
    say "resolved ${wanted%:*} $addresses"
fi

say "booted"
poweroff -f
