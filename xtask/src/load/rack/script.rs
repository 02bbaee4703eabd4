//! What a machine does with an iPXE script: of the language only what leads to a kernel.

use crate::load::frame::Mac;

/// Where a script leads.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Script {
    /// To another one.
    Chain(String),
    /// To a system.
    System {
        /// The kernel's URL.
        kernel: String,
        /// The initramfs's.
        initramfs: String,
        /// The machine config's.
        config: String,
    },
}

impl Script {
    /// Reads a script as the machine with this Ethernet address would; none when it leads nowhere
    /// by itself, as a menu does.
    pub fn read(text: &str, mac: Mac) -> Option<Script> {
        let mut lines = text.strip_prefix("#!ipxe")?.lines().map(str::split_whitespace);
        let url = |word: &&str| word.starts_with("http://");
        let kernel = lines.clone().find(|line| line.clone().next() == Some("kernel"));
        let mut initrd = lines.clone().filter(|line| line.clone().next() == Some("initrd"));
        if let (Some(mut kernel), Some(mut initramfs)) = (kernel, initrd.next()) {
            let config = kernel.clone().find_map(|word| word.strip_prefix("talos.config="))?;
            return Some(Script::System {
                kernel: kernel.find(url)?.to_owned(),
                initramfs: initramfs.find(url)?.to_owned(),
                config: config.to_owned(),
            });
        }
        let mut chain = lines.find(|line| line.clone().next() == Some("chain"))?;
        Some(Script::Chain(expand(chain.find(url)?, mac)))
    }
}

/// Puts the machine's settings into a URL; what it does not have is empty.
fn expand(url: &str, mac: Mac) -> String {
    let mut parts = url.split("${");
    let mut text = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        let (name, rest) = part.split_once('}').unwrap_or((part, ""));
        match name {
            "mac:hexhyp" | "netX/mac:hexhyp" => {
                text.push_str(&mac.map(|octet| format!("{octet:02x}")).join("-"));
            }
            "buildarch" => text.push_str("x86_64"),
            _ => {}
        }
        text.push_str(rest);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    const MAC: Mac = [6, 0x70, 0, 0, 1, 0xfe];

    #[test]
    fn a_chain_is_followed_with_the_machine_s_settings() {
        let text = "#!ipxe\n:ask\nchain --autofree http://10.0.0.1/ipxe?uuid=${uuid}&\
                    mac=${netX/mac:hexhyp}&arch=${buildarch}&type=auto && exit ||\n";
        let url = "http://10.0.0.1/ipxe?uuid=&mac=06-70-00-00-01-fe&arch=x86_64&type=auto";
        assert_eq!(Script::read(text, MAC), Some(Script::Chain(url.to_owned())));
    }

    #[test]
    fn a_system_has_three_parts() {
        let text = "#!ipxe\nkernel http://a/k initrd=i talos.config=http://a/c quiet\n\
                    initrd --name i http://a/i\nboot\n";
        let system = Script::System {
            kernel: "http://a/k".to_owned(),
            initramfs: "http://a/i".to_owned(),
            config: "http://a/c".to_owned(),
        };
        assert_eq!(Script::read(text, MAC), Some(system));
    }

    #[test]
    fn a_menu_leads_nowhere() {
        assert_eq!(Script::read("#!ipxe\nmenu Choose\nchoose x\n", MAC), None);
        assert_eq!(Script::read("<html>", MAC), None);
    }
}
