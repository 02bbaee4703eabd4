# Installs the package under a running systemd, and does with the service what an administrator
# would do.
set -eu
fail() { echo "probe: failed: $*"; exit 1; }
trap 'systemctl --no-pager --full status talos-pxe || true; systemctl poweroff --force --force' EXIT

DEBIAN_FRONTEND=noninteractive dpkg --force-depends --no-triggers --install /talos-pxe.deb
systemctl is-active --quiet talos-pxe && fail "it runs without having been asked for"
systemctl is-enabled --quiet talos-pxe && fail "it would start with the machine"

printf '%s = "%s"\n' if eth0 mode server xdp native >>/etc/talos-pxe/talos-pxe.toml
chown -R talos-pxe: /srv/talos-pxe
systemd-analyze verify --man=no talos-pxe.service
systemctl start talos-pxe
echo "probe: status: $(systemctl show --property=StatusText --value talos-pxe)"
pid=$(systemctl show --property=MainPID --value talos-pxe)
grep -E '^(Uid|CapEff|CapBnd|CapAmb|NoNewPrivs|Seccomp):' /proc/$pid/status | sed 's/^/probe: /'
for thread in /proc/$pid/task/*; do
    echo "probe: nice: $(cat "$thread/comm") $(cut -d ' ' -f 19 "$thread/stat")"
done
echo "probe: state: $(stat --format='%U %a' /var/lib/talos-pxe/)"
echo "probe: serving"
read -r _
systemctl stop talos-pxe
echo "probe: result: $(systemctl show --property=Result --value talos-pxe)"
ip -brief address show eth0 | sed 's/^/probe: /'
