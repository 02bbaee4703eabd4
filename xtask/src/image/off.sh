#!/bin/sh
# Powers off: also run when the power button is pressed.

touch /run/off
killall -q -TERM talos-pxe
seconds=0
while killall -q -0 talos-pxe && [ "$seconds" -lt 10 ]; do
    seconds=$((seconds + 1))
    sleep 1
done
umount /state
poweroff -f
