# A machine that systemd runs, in namespaces: the files of this one, which it cannot change.
# Called with the folder of probe.sh and of what is served, the package to install, and the name of
# a control group. A line on standard input ends the service. What happens is told on standard output.
set -eu
folder=$1 package=$2 group=$3

# A control group of its own: systemd makes more of them below its root.
if [ "${4-}" != inside ]; then
    mkdir "$folder/cgroup" "$folder/machine"
    mount -t cgroup2 none "$folder/cgroup"
    mkdir "$folder/cgroup/$group"
    echo $$ >"$folder/cgroup/$group/cgroup.procs"
    exec unshare --cgroup sh "$0" "$folder" "$package" "$group" inside
fi

mount -t tmpfs tmpfs "$folder/machine"
cd "$folder/machine"
mkdir upper work new
mount -t overlay overlay -o lowerdir=/,upperdir=upper,workdir=work new
cd new
# Of the kernel it shall see what containers see: nothing there changes the real machine.
mount -t proc proc proc
mount --bind proc/sys proc/sys
mount -o remount,bind,ro proc/sys
mount -t sysfs -o ro sysfs sys
mount -t cgroup2 none sys/fs/cgroup
mount -t tmpfs tmpfs run
mount -t tmpfs tmpfs tmp
mount -t tmpfs -o mode=755 tmpfs dev
for device in null zero full random urandom tty; do
    : >dev/$device
    mount --bind /dev/$device dev/$device
done
ln -s /proc/self/fd dev/fd
mkdir dev/pts dev/shm dev/mqueue
mount -t devpts -o newinstance,ptmxmode=0666 devpts dev/pts
ln -s pts/ptmx dev/ptmx
# Only what the package installs and what is said here is to run.
mount -t tmpfs tmpfs etc/systemd/system
for wants in usr/lib/systemd/system/*.wants; do mount -t tmpfs tmpfs "$wants"; done
cp "$package" talos-pxe.deb
mkfifo said go
cat >etc/systemd/system/probe.service <<UNIT
[Unit]
Wants=sysinit.target
After=sysinit.target
[Service]
Type=oneshot
StandardInput=file:/go
StandardOutput=file:/said
StandardError=file:/said
ExecStart=sh /probe.sh
UNIT
cp "$folder/probe.sh" probe.sh
mkdir -p run/systemd/system/talos-pxe.service.d
printf '[Service]\nStandardError=file:/said\n' >run/systemd/system/talos-pxe.service.d/log.conf
mount -t tmpfs tmpfs srv
cp -r "$folder/root" srv/talos-pxe
mkdir -p mnt
pivot_root . mnt
exec 3<&0
# Open for writing, too: it does not end with the first writer.
cat <>said &
cat <&3 1<>go &
umount -l mnt
exec env -i container=test PATH=/usr/sbin:/usr/bin:/sbin:/bin \
    /lib/systemd/systemd --system --unit=probe.service --log-target=null --show-status=0 <dev/null
