#!/bin/sh
# Run at each event of a device: loads its driver.

if [ "$ACTION" = add ] && [ -n "$MODALIAS" ]; then modprobe -q "$MODALIAS"; fi
