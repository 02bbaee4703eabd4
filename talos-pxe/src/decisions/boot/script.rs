//! iPXE scripts. They hold nothing that a request said.
//!
//! Every command and setting used here exists in iPXE since 2014, so that the binaries of old
//! distributions can run the scripts; an unknown setting is empty. iPXE ends a script at the first command that fails, and
//! the failure is then that of the `chain` that started it.

use std::fmt::Write;

use super::catalog::Profile;
use super::origin::Origin;

/// The path at which a machine asks what to boot.
const ASK: &str = "/ipxe?uuid=${uuid}&ip=${netX/ip}&mac=${netX/mac:hexhyp}\
    &domain=${domain:uristring}&hostname=${hostname:uristring}&serial=${serial:uristring}\
    &arch=${buildarch}";

/// The entry script: asks what to boot, and asks again as long as that fails.
///
/// It stays in charge while the scripts that it starts come and go. `netX` is the network card
/// that booted, which need not be the first.
pub fn boot_ipxe(origin: &Origin) -> String {
    let ask = origin.url(ASK);
    format!(
        "#!ipxe\n\
         :ask\n\
         chain --autofree {ask}&type=auto && exit ||\n\
         echo Booting failed: the cause is above, trying again in 10 seconds\n\
         prompt --timeout 10000 Press any key to try again now ||\n\
         goto ask\n"
    )
}

/// The menu. The names of its roles are what `type` selects by.
///
/// Asking again replaces the menu that asks, so that a menu which is left alone for days does not
/// use ever more memory; a role's script runs on top of the menu, so that its failure leads back.
pub fn menu(origin: &Origin) -> String {
    let ask = origin.url(ASK);
    format!(
        "#!ipxe\n\
         :menu\n\
         menu iPXE boot menu for Talos\n\
         item --gap Talos Nodes\n\
         item --key i init Bootstrap Node\n\
         item --key c controlplane Master Node\n\
         item --key w worker Worker Node\n\
         item --gap Other\n\
         item --key f refresh Refresh\n\
         item --key s shell iPXE Shell\n\
         item --key r reboot Reboot\n\
         item --key e exit Exit\n\
         choose --default refresh --timeout 5000 choice || goto menu\n\
         goto ${{choice}}\n\
         :refresh\n\
         chain --autofree --replace {ask} || goto failed\n\
         :init\n\
         :controlplane\n\
         :worker\n\
         chain --autofree {ask}&type=${{choice}} || goto failed\n\
         goto menu\n\
         :failed\n\
         echo Booting failed: the cause is above\n\
         prompt --timeout 10000 Press any key to return to the menu ||\n\
         goto menu\n\
         :shell\n\
         echo Leave the shell with: exit\n\
         shell ||\n\
         goto menu\n\
         :reboot\n\
         reboot\n\
         :exit\n\
         exit\n"
    )
}

/// The script that boots a profile's kernel.
///
/// `config` is the URL of this machine's own config; it takes the place of a `talos.config` that
/// leads to our assets. Without one that argument is left out: Talos then waits in maintenance
/// mode, where it would otherwise ask for the missing file for hours.
pub fn kernel(origin: &Origin, profile: &Profile, config: Option<&str>) -> String {
    let images: Vec<Image> =
        profile.initrd.iter().map(|entry| Image::new(origin, entry.as_str())).collect();

    let mut script = "#!ipxe\nimgfree\n".to_owned();
    let _ = write!(script, "kernel {}", origin.link(profile.kernel.as_str()));
    // As an EFI program the kernel finds its initramfs by the image's name; for BIOS the
    // argument means nothing.
    for image in &images {
        let _ = write!(script, " initrd={}", image.name);
    }
    let mut config = config;
    for word in profile.words() {
        let url = word.strip_prefix(Profile::CONFIG_ARG);
        if url.is_some_and(|url| origin.own_asset(url).is_some()) {
            if let Some(config) = config.take() {
                let _ = write!(script, " {}{config}", Profile::CONFIG_ARG);
            }
        } else if !word.starts_with("initrd=") {
            let _ = write!(script, " {}", origin.localize(word));
        }
    }
    script.push('\n');
    for Image { name, url } in &images {
        let _ = writeln!(script, "initrd --name {name} {url}");
    }
    script.push_str("boot\n");
    script
}

/// The script for a machine whose config cannot be made: it says so and fails, and the script that
/// started it asks again.
pub fn broken_config() -> String {
    "#!ipxe\n\
     echo The config of this machine cannot be made: see the log of talos-pxe\n\
     exit 1\n"
        .to_owned()
}

/// An initramfs image: the name that the kernel knows it by, and where it is.
struct Image {
    name: String,
    url: String,
}

impl Image {
    /// Reads a profile's entry: a URL, or `--name NAME URL`.
    fn new(origin: &Origin, entry: &str) -> Self {
        let words: Vec<&str> = entry.split_whitespace().collect();
        let (name, url) = match words.as_slice() {
            ["--name" | "-n", name, url] => (*name, *url),
            _ => {
                let path = entry.split(['?', '#']).next().unwrap_or(entry);
                (path.rsplit('/').next().unwrap_or(path), entry)
            }
        };
        Self { name: name.to_owned(), url: origin.link(url) }
    }
}

#[cfg(test)]
#[path = "script_tests.rs"]
mod tests;
