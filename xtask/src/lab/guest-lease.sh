#!/bin/busybox sh
# Called by udhcpc: takes the lease.

[ "$1" = bound ] || exit 0
ip addr add "$ip/${mask:-24}" dev eth0
for gateway in $router; do ip route replace default via "$gateway"; done
for server in $dns; do echo "nameserver $server"; done >/etc/resolv.conf
echo "$ip" >/tmp/address
