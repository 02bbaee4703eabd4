//! TFTP: which file a name stands for, and how it is sent.

pub mod transfer;

/// The name under which iPXE gets its script.
pub const SCRIPT: &str = "boot.ipxe";

/// What a request may read.
#[must_use]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wanted<'a> {
    /// iPXE's entry script.
    Script,
    /// A boot file with this plain name, if there is one.
    BootFile(&'a str),
}

/// The name is no plain file name, so nothing can be behind it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not a plain file name")]
pub struct Refused;

/// Reads a requested name. Firmware writes leading slashes as it likes.
///
/// # Errors
/// For a name that leads into another folder or is none.
pub fn wanted(name: &str) -> Result<Wanted<'_>, Refused> {
    let name = name.trim_start_matches('/');
    let plain = !name.is_empty()
        && !name.starts_with('.')
        && !name.contains("..")
        && !name.contains(|c: char| c == '/' || c == '\\' || c.is_control());
    match plain {
        false => Err(Refused),
        true if name.eq_ignore_ascii_case(SCRIPT) => Ok(Wanted::Script),
        true => Ok(Wanted::BootFile(name)),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn firmware_spells_names_as_it_likes() {
        assert_eq!(wanted("undionly.kpxe"), Ok(Wanted::BootFile("undionly.kpxe")));
        assert_eq!(wanted("/undionly.kpxe"), Ok(Wanted::BootFile("undionly.kpxe")));
        assert_eq!(wanted("//SNPONLY.EFI"), Ok(Wanted::BootFile("SNPONLY.EFI")));
        assert_eq!(wanted("/boot.ipxe"), Ok(Wanted::Script));
        assert_eq!(wanted("BOOT.IPXE"), Ok(Wanted::Script));
    }

    #[test]
    fn nothing_else_is_looked_up() {
        for name in [
            "",
            "/",
            "..",
            "../etc/passwd",
            "/../x",
            "a/b",
            "a\\b",
            "..\\x",
            "x..",
            "a\0b",
            ".x",
            "a\n",
            "./x",
        ] {
            assert_eq!(wanted(name), Err(Refused), "{name:?}");
        }
    }

    proptest! {
        #[test]
        fn never_names_a_folder(name in prop_oneof![".*", "[./\\\\a%]{0,9}"]) {
            if let Ok(Wanted::BootFile(file)) = wanted(&name) {
                let path = std::path::Path::new(file);
                prop_assert_eq!(path.file_name(), Some(path.as_os_str()));
            }
        }
    }
}
