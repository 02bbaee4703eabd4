#!/bin/sh
# What both clients run at each event: udhcpc names it in $1, dhclient in $reason.
event=${1:-$reason} address=${ip:-$new_ip_address}
case $event in
    bound | renew | BOUND | RENEW | REBOOT) ip address replace "$address/24" dev eth0 ;;
    deconfig | RELEASE) ip address flush dev eth0 ;;
esac
echo "event: $event $address dns ${dns:-$new_domain_name_servers}"
