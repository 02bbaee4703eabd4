//! A profile as it fits the machine and the files that there are.

use std::io::Read;
use std::path::Path;
use std::sync::Arc;

use super::{Refusal, Site};
use crate::decisions::boot::catalog::Profile;
use crate::decisions::boot::labels::Labels;
use crate::decisions::boot::talos::{Processor, VERSION_FILE, Version, fit};
use crate::edges::folder::OpenFile;
use crate::wire::AssetPath;

/// The profile for the machine with these labels.
pub(super) async fn fitted(
    site: &Arc<Site>,
    profile: &Profile,
    labels: &Labels,
) -> Result<Profile, Refusal> {
    let (site, profile, processor) = (site.clone(), profile.clone(), Processor::of(labels));
    let fit = move || {
        let version = Version::in_path(profile.kernel.as_str())
            .or_else(|| version_file(&site.assets))
            .unwrap_or(Version::ASSUMED);
        let exists = |path: &AssetPath| OpenFile::beneath(&site.assets, path).is_ok();
        fit(&profile, &site.origin, processor, version, exists)
    };
    tokio::task::spawn_blocking(fit).await.map_err(|_| Refusal::Internal)
}

fn version_file(assets: &Path) -> Option<Version> {
    let opened = OpenFile::beneath(assets, &AssetPath::from_plain(VERSION_FILE)?).ok()?;
    let mut text = String::new();
    opened.file.take(64).read_to_string(&mut text).ok()?;
    text.parse().ok()
}
