//! Where machines reach us over HTTP.

use std::net::Ipv4Addr;

use crate::wire::AssetPath;

/// iPXE's name for the server that its DHCP lease points at. Beside another DHCP server that is
/// not us, so we put our own address in its place.
const NEXT_SERVER: &str = "${next-server}";

/// The port that profiles are written for.
const USUAL_PORT: u16 = 8080;

/// Our address and HTTP port as the machines on the boot network see them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Origin {
    /// Our address on the boot network.
    pub address: Ipv4Addr,
    /// The TCP port of our HTTP server.
    pub port: u16,
}

impl Origin {
    /// The URL of a path on us; `path` starts with a slash.
    pub fn url(&self, path: &str) -> String {
        format!("http://{}:{}{path}", self.address, self.port)
    }

    /// A profile's text with our address in place of `${next-server}`.
    pub fn localize(&self, text: &str) -> String {
        text.replace(NEXT_SERVER, &self.address.to_string())
    }

    /// A profile's URL as a machine can fetch it: on us if it names no other server.
    pub fn link(&self, url: &str) -> String {
        match self.own_path(url) {
            Some(path) => self.url(path),
            None if url.contains(':') || url.starts_with("${") => self.localize(url),
            None => self.url(&format!("/{url}")),
        }
    }

    /// The part of a URL behind `/assets/`, if it leads to our own assets in any spelling.
    pub fn own_asset<'a>(&self, url: &'a str) -> Option<&'a str> {
        let asset = self.own_path(url)?.strip_prefix("/assets/")?;
        asset.split(['?', '#']).next()
    }

    /// The file of our assets that a URL leads to, if it can exist at all.
    pub fn asset_path(&self, url: &str) -> Option<AssetPath> {
        AssetPath::from_url(self.own_asset(url)?)
    }

    /// The path of a URL that leads to us.
    fn own_path<'a>(&self, url: &'a str) -> Option<&'a str> {
        if url.starts_with('/') && !url.starts_with("//") {
            return Some(url);
        }
        const SCHEME: &str = "http://";
        let rest = url
            .get(..SCHEME.len())
            .filter(|scheme| scheme.eq_ignore_ascii_case(SCHEME))
            .and_then(|_| url.get(SCHEME.len()..))?;
        // `${netX/next-server}` has a slash of its own.
        let host_end = if rest.starts_with("${") { rest.find('}')? } else { 0 };
        let (authority, path) = rest.split_at(rest.get(host_end..)?.find('/')? + host_end);
        let (host, port) = match authority.rsplit_once(':') {
            Some((host, port)) => (host, port.parse().ok()?),
            None => (authority, 80),
        };
        let ours = host == NEXT_SERVER
            || (host.starts_with("${") && host.ends_with("/next-server}"))
            || host.parse() == Ok(self.address);
        (ours && [self.port, USUAL_PORT].contains(&port)).then_some(path)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const ORIGIN: Origin = Origin { address: Ipv4Addr::new(192, 168, 123, 1), port: 18080 };

    #[test]
    fn knows_its_own_assets_in_every_spelling() {
        for url in [
            "http://${next-server}:8080/assets/worker.yaml",
            "http://${next-server}:18080/assets/worker.yaml",
            "http://${netX/next-server}:8080/assets/worker.yaml",
            "http://192.168.123.1:18080/assets/worker.yaml",
            "HTTP://192.168.123.1:8080/assets/worker.yaml?uuid=${uuid}",
            "/assets/worker%2Eyaml",
        ] {
            assert_eq!(ORIGIN.asset_path(url).unwrap().as_str(), "worker.yaml", "{url}");
        }
    }

    #[test]
    fn leaves_other_servers_alone() {
        for url in [
            "http://192.168.123.2:8080/assets/worker.yaml",
            "https://192.168.123.1:8080/assets/worker.yaml",
            "http://192.168.123.1/assets/worker.yaml",
            "http://${next-server}:8080/metadata",
            "http://example.com/assets/worker.yaml",
            "//192.168.123.1/assets/x",
            "metal-iso",
            "",
        ] {
            assert_eq!(ORIGIN.own_asset(url), None, "{url}");
        }
    }

    #[test]
    fn links_to_itself_what_names_no_other_server() {
        for (url, link) in [
            ("/assets/vmlinuz", "http://192.168.123.1:18080/assets/vmlinuz"),
            ("assets/vmlinuz", "http://192.168.123.1:18080/assets/vmlinuz"),
            ("http://${next-server}:8080/assets/k", "http://192.168.123.1:18080/assets/k"),
            ("tftp://${next-server}/k", "tftp://192.168.123.1/k"),
            ("https://factory.talos.dev/k", "https://factory.talos.dev/k"),
        ] {
            assert_eq!(ORIGIN.link(url), link);
        }
    }

    proptest! {
        #[test]
        fn takes_any_url(url in prop_oneof!["\\PC*", "http://(\\$\\{|a|/|:|\\}|é){0,9}"]) {
            let _ = (ORIGIN.asset_path(&url), ORIGIN.link(&url));
        }
    }
}
