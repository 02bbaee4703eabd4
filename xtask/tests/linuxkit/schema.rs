//! What LinuxKit takes in its YAML: its schema, which knows no keys but these.

use serde_yaml_ng::Value;

/// The shape of a value.
pub enum Shape {
    Text,
    Flag,
    Whole,
    /// A whole number, or a name.
    Id,
    /// A list of values of one shape.
    List(&'static Shape),
    /// Free keys with values of one shape.
    Map(&'static Shape),
    /// These keys, and no others.
    Keys(&'static [(&'static str, Shape)]),
}

use Shape::{Flag, Id, Keys, List, Map, Text, Whole};

const STRINGS: Shape = List(&Text);
const MAPPINGS: Shape = List(&ID_MAPPING);
const ID_MAPPING: Shape = Keys(&[("hostID", Whole), ("containerID", Whole), ("size", Whole)]);

const MOUNT: Shape = Keys(&[
    ("destination", Text),
    ("type", Text),
    ("source", Text),
    ("options", STRINGS),
    ("uidmappings", MAPPINGS),
    ("gidmappings", MAPPINGS),
]);

const DEVICE: Shape =
    Keys(&[("path", Text), ("type", Text), ("major", Whole), ("minor", Whole), ("mode", Text)]);

const NAMESPACES: Shape = Keys(&[
    ("cgroup", Text),
    ("ipc", Text),
    ("mnt", Text),
    ("net", Text),
    ("pid", Text),
    ("user", Text),
    ("uts", Text),
]);

const INTERFACE: Shape =
    Keys(&[("name", Text), ("add", Text), ("peer", Text), ("createInRoot", Flag)]);

const RUNTIME: Shape = Keys(&[
    ("cgroups", STRINGS),
    ("mounts", List(&MOUNT)),
    ("mkdir", STRINGS),
    ("interfaces", List(&INTERFACE)),
    ("bindNS", NAMESPACES),
    ("namespace", Text),
]);

/// A container. Left out: `resources`, which a machine that does nothing else has no use for.
const IMAGE: Shape = Keys(&[
    ("name", Text),
    ("image", Text),
    ("capabilities", STRINGS),
    ("capabilities.add", STRINGS),
    ("ambient", STRINGS),
    ("mounts", List(&MOUNT)),
    ("binds", STRINGS),
    ("binds.add", STRINGS),
    ("devices", List(&DEVICE)),
    ("tmpfs", STRINGS),
    ("command", STRINGS),
    ("env", STRINGS),
    ("cwd", Text),
    ("net", Text),
    ("pid", Text),
    ("ipc", Text),
    ("uts", Text),
    ("userns", Text),
    ("readonly", Flag),
    ("maskedPaths", STRINGS),
    ("readonlyPaths", STRINGS),
    ("uid", Id),
    ("gid", Id),
    ("additionalGids", List(&Id)),
    ("noNewPrivileges", Flag),
    ("hostname", Text),
    ("oomScoreAdj", Whole),
    ("rootfsPropagation", Text),
    ("cgroupsPath", Text),
    ("sysctl", Map(&Text)),
    ("rlimits", STRINGS),
    ("uidMappings", MAPPINGS),
    ("gidMappings", MAPPINGS),
    ("annotations", Map(&Text)),
    ("runtime", RUNTIME),
]);

const FILE: Shape = Keys(&[
    ("path", Text),
    ("directory", Flag),
    ("symlink", Text),
    ("contents", Text),
    ("source", Text),
    ("metadata", Text),
    ("optional", Flag),
    ("mode", Text),
    ("uid", Id),
    ("gid", Id),
]);

/// A whole file.
pub const APPLIANCE: Shape = Keys(&[
    (
        "kernel",
        Keys(&[
            ("image", Text),
            ("cmdline", Text),
            ("binary", Text),
            ("tar", Text),
            ("ucode", Text),
        ]),
    ),
    ("init", STRINGS),
    ("onboot", List(&IMAGE)),
    ("onshutdown", List(&IMAGE)),
    ("services", List(&IMAGE)),
    ("trust", Keys(&[("image", STRINGS), ("org", STRINGS)])),
    ("files", List(&FILE)),
]);

impl Shape {
    /// What of `value` is not of this shape, each with its place below `place`.
    pub fn faults(&self, value: &Value, place: &str) -> Vec<String> {
        let fits = match self {
            Text => value.is_string(),
            Flag => value.is_bool(),
            Whole => value.is_i64() || value.is_u64(),
            Id => value.is_string() || value.is_i64() || value.is_u64(),
            List(_) => value.is_sequence(),
            Map(_) | Keys(_) => value.is_mapping(),
        };
        if !fits {
            return vec![format!("{place}: {value:?} is of another type")];
        }
        let items = value.as_sequence().into_iter().flatten().enumerate();
        let entries = value.as_mapping().into_iter().flatten();
        match self {
            Text | Flag | Whole | Id => Vec::new(),
            List(shape) => {
                items.flat_map(|(at, item)| shape.faults(item, &format!("{place}[{at}]"))).collect()
            }
            Map(shape) => entries
                .flat_map(|(key, value)| shape.faults(value, &format!("{place}.{}", name(key))))
                .collect(),
            Keys(known) => entries
                .flat_map(|(key, value)| {
                    let place = format!("{place}.{}", name(key));
                    match known.iter().find(|(known, _)| key.as_str() == Some(known)) {
                        Some((_, shape)) => shape.faults(value, &place),
                        None => vec![format!("{place}: LinuxKit knows no such key")],
                    }
                })
                .collect(),
        }
    }
}

fn name(key: &Value) -> String {
    key.as_str().map_or_else(|| format!("{key:?}"), str::to_owned)
}
