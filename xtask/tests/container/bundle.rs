//! The container as LinuxKit would run it: the image's files, and a configuration for the OCI
//! runtime that is made from linux.yml in the way that LinuxKit makes its own.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail, ensure};
use serde::Deserialize;
use serde_json::{Value, json};
use xtask::lab::Host;
use xtask::lab::process::Process;
use xtask::{exec, repository};

/// What of linux.yml counts here.
#[derive(Deserialize)]
struct Appliance {
    services: [Service; 1],
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Service {
    command: Vec<String>,
    capabilities: BTreeSet<String>,
    readonly: bool,
    no_new_privileges: bool,
    tmpfs: Vec<String>,
    rlimits: Vec<String>,
}

/// An unpacked image, and what linux.yml says of its container.
pub struct Bundle {
    folder: PathBuf,
    rootfs: PathBuf,
    service: Service,
}

impl Bundle {
    /// Unpacks an archive into the new folder `folder`.
    pub fn unpack(folder: &Path, archive: &Path) -> Result<Bundle> {
        let buildah = |arguments: &[&str]| {
            let mut command = Command::new("buildah");
            command.args(["--storage-driver", "vfs", "--root"]).arg(folder.join("images"));
            command.arg("--runroot").arg(folder.join("run")).args(arguments);
            exec::output(&mut command).map(|output| output.trim().to_owned())
        };
        fs::create_dir_all(folder)?;
        let from =
            |kind: &str| buildah(&["pull", "--quiet", &format!("{kind}:{}", archive.display())]);
        let image = from("oci-archive")?;
        ensure!(image == from("docker-archive")?, "Docker's readers find another image in it");
        let container = buildah(&["from", "--pull-never", &image])?;
        let rootfs = buildah(&["mount", &container])?.into();
        let text = fs::read_to_string(repository().join("linux.yml"))?;
        let Appliance { services: [service] } = serde_yaml_ng::from_str(&text)?;
        Ok(Bundle { folder: folder.to_owned(), rootfs, service })
    }

    /// The capabilities that linux.yml lists, a bit each.
    pub fn rights(&self) -> Result<u64> {
        let numbers = self.service.capabilities.iter().map(|name| match name.as_str() {
            "CAP_NET_BIND_SERVICE" => Ok(10),
            "CAP_NET_ADMIN" => Ok(12),
            "CAP_NET_RAW" => Ok(13),
            "CAP_SYS_NICE" => Ok(23),
            "CAP_BPF" => Ok(39),
            other => bail!("linux.yml lists {other}, which this test does not expect"),
        });
        numbers.map(|number| Ok(1 << number?)).sum()
    }

    /// Starts the container in the namespace of `host`, with the capabilities of linux.yml but for
    /// those in `withheld`, and settings as variables of the environment.
    pub fn run(&self, host: &Host, withheld: &[&str], settings: &[&str]) -> Result<Process> {
        let bundle = self.folder.join(host.name());
        fs::create_dir(&bundle)?;
        fs::write(bundle.join("config.json"), self.config(withheld, settings)?.to_string())?;
        // A PID namespace around it: what the runtime starts ends with this process. And a mount
        // namespace for its mounts; the runtime refuses to see cgroups of both versions.
        let mut command = host.command("unshare");
        command.args(["--pid", "--fork", "--kill-child", "--mount-proc", "sh", "-c"]);
        command.args(["mount -t cgroup2 none /sys/fs/cgroup && exec \"$@\"", "sh"]);
        command.args(["crun", "--cgroup-manager=disabled", "--root"]).arg(bundle.join("state"));
        command.args(["run", "--bundle"]).arg(&bundle).arg(host.name());
        host.start(command)
    }

    fn config(&self, withheld: &[&str], settings: &[&str]) -> Result<Value> {
        let service = &self.service;
        let granted = |right: &&String| !withheld.contains(&right.as_str());
        let rights: Vec<&String> = service.capabilities.iter().filter(granted).collect();
        let mount = |kind: &str, to: &str, options: &[&str]| json!({ "destination": to, "type": kind, "source": kind, "options": options });
        let mut mounts = vec![
            mount("proc", "/proc", &["nosuid", "nodev", "noexec", "relatime"]),
            mount("tmpfs", "/dev", &["nosuid", "strictatime", "mode=755", "size=65536k", "ro"]),
            mount("sysfs", "/sys", &["nosuid", "noexec", "nodev", "ro"]),
        ];
        for tmpfs in &service.tmpfs {
            let (to, options) = tmpfs.split_once(':').unwrap_or((tmpfs, ""));
            let options: Vec<&str> =
                options.split(',').filter(|option| !option.is_empty()).collect();
            mounts.push(mount("tmpfs", to, &options));
        }
        let limits =
            service.rlimits.iter().map(|limit| limit_of(limit)).collect::<Result<Vec<_>>>()?;
        Ok(json!({
            "ociVersion": "1.0.2",
            "process": {
                "user": { "uid": 0, "gid": 0 },
                "args": service.command,
                "env": settings,
                "cwd": "/",
                "capabilities": {
                    "bounding": rights, "effective": rights, "inheritable": rights,
                    "permitted": rights, "ambient": [],
                },
                "noNewPrivileges": service.no_new_privileges,
                "rlimits": limits,
            },
            "root": { "path": self.rootfs, "readonly": service.readonly },
            "mounts": mounts,
            // As LinuxKit has it: the network of the machine, here of the lab's host.
            "linux": { "namespaces": [{ "type": "pid" }, { "type": "mount" }] },
        }))
    }
}

/// `nofile,soft,hard`
fn limit_of(text: &str) -> Result<Value> {
    let mut parts = text.split(',');
    let mut next = || parts.next().with_context(|| format!("{text} is no limit"));
    let name = format!("RLIMIT_{}", next()?.to_uppercase());
    Ok(json!({ "type": name, "soft": next()?.parse::<u64>()?, "hard": next()?.parse::<u64>()? }))
}
