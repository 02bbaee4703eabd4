//! matchbox's groups and profiles: which kernel, initramfs and arguments a machine gets.
//!
//! A group selects machines by their labels and names a profile; a profile is known by its
//! file's name without `.json`, whatever `id` it carries inside (matchbox does the same).

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::{Map, Value};

use super::labels::{self, Labels};
use super::origin::Origin;
use super::talos::{Processor, file_names};
use crate::wire::AssetPath;
use crate::wire::MacAddr;

/// Groups and profiles that belong together: every group's profile exists.
#[derive(Clone, Debug)]
pub struct Catalog {
    /// In the order in which they are tried.
    groups: Vec<Group>,
    profiles: BTreeMap<String, Arc<Profile>>,
}

/// Machines that share a profile.
#[derive(Clone, Debug)]
pub struct Group {
    /// The group's name, for people.
    pub name: String,
    /// What its machines boot.
    pub profile: Arc<Profile>,
    /// What templates and `/metadata` can say of its machines.
    pub metadata: Map<String, Value>,
    selectors: BTreeMap<String, String>,
}

/// What a machine boots.
#[derive(Clone, Debug)]
pub struct Profile {
    /// The name that groups know it by.
    pub id: String,
    /// URL of the kernel.
    pub kernel: ScriptText,
    /// Initramfs images: a URL each, or `--name NAME URL`.
    pub initrd: Vec<ScriptText>,
    /// Kernel arguments.
    pub args: Vec<ScriptText>,
    /// Its template in `generic/`.
    pub generic: Option<AssetPath>,
}

/// What a file is to a profile.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Part {
    /// Its kernel.
    Kernel,
    /// One of its initramfs images.
    Initramfs,
}

/// A JSON file's name, for messages and as a profile's identity, and its text.
#[derive(Clone, Debug)]
pub struct JsonFile {
    /// The file's path.
    pub path: String,
    /// What it holds.
    pub text: String,
}

/// Why groups and profiles cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum CatalogError {
    /// A file is no JSON, or not the JSON that was expected. `error` ends with line and column.
    #[error("{path}: {error}; expected a {expected}")]
    Malformed {
        /// The file.
        path: String,
        /// What is wrong, and where.
        error: serde_json::Error,
        /// The shape of such a file.
        expected: &'static str,
    },
    /// A group's profile does not exist.
    #[error("{path}: no profile {profile:?}; there are: {known}")]
    UnknownProfile {
        /// The group's file.
        path: String,
        /// The profile that it names.
        profile: String,
        /// The profiles that exist.
        known: String,
    },
}

impl Catalog {
    /// Reads the groups and profiles.
    ///
    /// # Errors
    /// Names the file, the place in it and what was expected there.
    pub fn parse(groups: &[JsonFile], profiles: &[JsonFile]) -> Result<Self, CatalogError> {
        let profiles: BTreeMap<_, _> = profiles
            .iter()
            .map(|file| {
                let ProfileJson { boot, generic_id } = parse(file, PROFILE_SHAPE)?;
                let BootJson { kernel, initrd, args } = boot;
                let (id, generic) = (stem(&file.path), generic_id.0);
                Ok((id.clone(), Arc::new(Profile { id, kernel, initrd, args, generic })))
            })
            .collect::<Result<_, _>>()?;
        let mut groups = groups
            .iter()
            .map(|file| {
                let GroupJson { name, profile, selector, metadata } = parse(file, GROUP_SHAPE)?;
                let found = profiles.get(&profile).cloned();
                let profile = found.ok_or_else(|| CatalogError::UnknownProfile {
                    path: file.path.clone(),
                    profile,
                    known: profiles.keys().cloned().collect::<Vec<_>>().join(", "),
                })?;
                let name = name.unwrap_or_else(|| stem(&file.path));
                Ok(Group { name, profile, metadata, selectors: selector.0 })
            })
            .collect::<Result<Vec<_>, _>>()?;
        groups.sort_by(|a, b| {
            b.selectors.len().cmp(&a.selectors.len()).then_with(|| a.name.cmp(&b.name))
        });
        Ok(Self { groups, profiles })
    }

    /// The group of a machine: all its selectors match, and no other such group has more.
    pub fn select(&self, labels: &Labels) -> Option<&Group> {
        self.groups.iter().find(|group| group.matches(labels))
    }

    /// The paths below `assets/` of the kernels that groups boot from our own assets.
    pub fn kernels(&self) -> impl Iterator<Item = &str> {
        let kernels = self.groups.iter().map(|group| group.profile.kernel.as_str());
        kernels.filter_map(|kernel| kernel.strip_prefix("/assets/"))
    }

    /// What a file of our assets is to the profiles that name it.
    pub fn part(&self, file: &AssetPath, origin: &Origin) -> Option<Part> {
        self.profiles.values().find_map(|profile| profile.part(file, origin))
    }

    /// The machine configs that the profiles name, whatever their files are called.
    pub fn configs(&self, origin: &Origin) -> Vec<AssetPath> {
        self.profiles.values().filter_map(|profile| profile.config(origin)).collect()
    }
}

impl Group {
    /// The labels that it selects by, with their values.
    pub fn selectors(&self) -> impl Iterator<Item = (&str, &str)> {
        self.selectors.iter().map(|(name, value)| (name.as_str(), value.as_str()))
    }

    /// Whether the group tells machines apart by this label.
    pub fn selects_by(&self, label: &str) -> bool {
        self.selectors.contains_key(label)
    }

    fn matches(&self, labels: &Labels) -> bool {
        self.selectors.iter().all(|(name, value)| labels.get(name) == Some(value))
    }
}

impl Profile {
    /// The kernel argument with the URL of the machine's config.
    pub(super) const CONFIG_ARG: &str = "talos.config=";

    fn part(&self, file: &AssetPath, origin: &Origin) -> Option<Part> {
        // A machine may get the file for its processor, or by its other name.
        let processors = [None, Some(Processor::Amd64), Some(Processor::Arm64)];
        let is_file = |url: &str| {
            origin.asset_path(&origin.link(url)).is_some_and(|path| {
                let mut names = processors.iter().flat_map(|of| file_names(path.as_str(), *of));
                names.any(|name| name == file.as_str())
            })
        };
        if is_file(self.kernel.as_str()) {
            return Some(Part::Kernel);
        }
        // `--name NAME URL`, or a URL alone.
        let urls = self.initrd.iter().filter_map(|entry| entry.as_str().split_whitespace().last());
        urls.into_iter().any(is_file).then_some(Part::Initramfs)
    }

    /// The words of the kernel's command line, as the profile has them.
    pub(super) fn words(&self) -> impl Iterator<Item = &str> {
        self.args.iter().flat_map(|arg| arg.as_str().split_whitespace())
    }

    /// The file in our own assets that holds the config of this profile's machines.
    pub fn config(&self, origin: &Origin) -> Option<AssetPath> {
        self.words().find_map(|word| origin.asset_path(word.strip_prefix(Self::CONFIG_ARG)?))
    }
}

/// The groups that we ship, for a root without its own.
pub fn default_groups() -> Vec<JsonFile> {
    vec![
        shipped(
            "groups/controlplane.json",
            include_str!("../../../defaults/groups/controlplane.json"),
        ),
        shipped("groups/init.json", include_str!("../../../defaults/groups/init.json")),
        shipped("groups/worker.json", include_str!("../../../defaults/groups/worker.json")),
    ]
}

/// The profiles that we ship, for a root without its own.
pub fn default_profiles() -> Vec<JsonFile> {
    vec![
        shipped(
            "profiles/controlplane.json",
            include_str!("../../../defaults/profiles/controlplane.json"),
        ),
        shipped("profiles/worker.json", include_str!("../../../defaults/profiles/worker.json")),
    ]
}

fn shipped(path: &str, text: &str) -> JsonFile {
    JsonFile { path: format!("(built-in) {path}"), text: text.to_owned() }
}

fn parse<T: DeserializeOwned>(file: &JsonFile, expected: &'static str) -> Result<T, CatalogError> {
    serde_json::from_str(&file.text).map_err(|error| CatalogError::Malformed {
        path: file.path.clone(),
        error,
        expected,
    })
}

fn stem(path: &str) -> String {
    Path::new(path).file_stem().unwrap_or_default().to_string_lossy().into_owned()
}

const GROUP_SHAPE: &str =
    r#"group: {"name": "...", "profile": "PROFILE", "selector": {"LABEL": "VALUE"}}"#;
const PROFILE_SHAPE: &str =
    r#"profile: {"boot": {"kernel": "URL", "initrd": ["URL"], "args": ["ARGUMENT"]}}"#;

#[derive(Deserialize)]
struct GroupJson {
    name: Option<String>,
    profile: String,
    #[serde(default)]
    selector: Selectors,
    #[serde(default)]
    metadata: Map<String, Value>,
}

#[derive(Default, Deserialize)]
#[serde(try_from = "BTreeMap<String, String>")]
struct Selectors(BTreeMap<String, String>);

impl TryFrom<BTreeMap<String, String>> for Selectors {
    type Error = String;

    fn try_from(selectors: BTreeMap<String, String>) -> Result<Self, String> {
        let normal = |(name, value): (String, String)| {
            if name == labels::MAC {
                value.parse::<MacAddr>().map_err(|error| format!("{value:?}: {error}"))?;
            }
            let value = labels::normalize(&name, value);
            Ok((name, value))
        };
        selectors.into_iter().map(normal).collect::<Result<_, _>>().map(Self)
    }
}

#[derive(Deserialize)]
struct ProfileJson {
    boot: BootJson,
    #[serde(default)]
    generic_id: TemplateName,
}

/// The name of a template; matchbox writes an empty one where there is none.
#[derive(Default, Deserialize)]
#[serde(try_from = "String")]
struct TemplateName(Option<AssetPath>);

impl TryFrom<String> for TemplateName {
    type Error = String;

    fn try_from(name: String) -> Result<Self, String> {
        if name.is_empty() {
            return Ok(Self(None));
        }
        let path = AssetPath::from_plain(&name);
        path.map(|path| Self(Some(path))).ok_or(format!("{name:?} is no file in generic/"))
    }
}

#[derive(Deserialize)]
struct BootJson {
    kernel: ScriptText,
    #[serde(default)]
    initrd: Vec<ScriptText>,
    #[serde(default)]
    args: Vec<ScriptText>,
}

/// Text that stays one part of one command when it is put into an iPXE script.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub struct ScriptText(String);

impl ScriptText {
    /// The text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Another text in its place, if that can be one.
    pub(super) fn changed(&self, text: &str) -> Self {
        Self::try_from(text.to_owned()).unwrap_or_else(|_| self.clone())
    }
}

impl TryFrom<String> for ScriptText {
    type Error = String;

    /// iPXE splits lines into words at white space and knows no quotes: a line break, a final
    /// backslash, a comment sign or an operator between commands cannot be written literally.
    fn try_from(text: String) -> Result<Self, String> {
        let operator = |word: &str| ["||", "&&", ";"].contains(&word) || word.starts_with('#');
        if text.trim().is_empty() {
            Err("empty text".to_owned())
        } else if text.contains(char::is_control) {
            Err(format!("{text:?} holds a control character or a line break"))
        } else if text.ends_with('\\') || text.split_whitespace().any(operator) {
            Err(format!(
                "{text:?} would change the iPXE script that it is put into (a final backslash, or \
                 a word that is ||, && or ; or starts with #)"
            ))
        } else {
            Ok(Self(text))
        }
    }
}

#[cfg(test)]
#[path = "catalog_tests.rs"]
mod tests;
