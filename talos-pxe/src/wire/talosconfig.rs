//! `talosconfig`: who may talk to a cluster's machines, as `talosctl gen config` writes it.
//!
//! The file holds the key of the cluster's administrator. Nothing here prints any of it: the
//! types have no `Debug` of their contents, and an error never quotes the file.

use std::collections::BTreeMap;
use std::fmt;

use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use serde::Deserialize;

/// The longest file that is read, in bytes: a usual one has 2,000.
pub const MAX_LENGTH: usize = 256 * 1024;

/// What mutual TLS with a cluster's machines needs, each in PEM.
#[derive(Clone, PartialEq, Eq)]
pub struct Identity {
    /// The certificates that the machines' own are checked with.
    pub ca: String,
    /// Our certificate, perhaps with those between it and the CA.
    pub certificate: String,
    /// Its private key, labelled by the format that it really has.
    pub key: String,
}

impl fmt::Debug for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Identity")
    }
}

/// Why a file is no usable talosconfig.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TalosconfigError {
    /// It is far too long.
    #[error("it is longer than {MAX_LENGTH} bytes")]
    TooLong,
    /// It is no YAML, or has other things than a talosconfig has.
    #[error("line {line}, column {column}: not what `talosctl gen config` writes")]
    Syntax {
        /// From 1; 0 when the parser does not say.
        line: usize,
        /// From 1; 0 when the parser does not say.
        column: usize,
    },
    /// It names no current context.
    #[error("it has no `context`; choose one with `talosctl config context NAME`")]
    NoContext,
    /// The current context is not there.
    #[error("its `context` is none of its `contexts`")]
    UnknownContext,
    /// A field of the context is missing.
    #[error("its context has no `{0}`: only contexts with a client certificate can be used")]
    Missing(&'static str),
    /// A field of the context does not hold what it should.
    #[error("`{0}` of its context is no PEM in base64")]
    NotPem(&'static str),
    /// The key has a format that nobody reads.
    #[error("`key` of its context holds no private key")]
    NoKey,
}

/// The file, with what is used of it. Unknown fields are left alone: later versions add some.
#[derive(Deserialize)]
struct File {
    #[serde(default)]
    context: String,
    #[serde(default)]
    contexts: BTreeMap<String, Context>,
}

#[derive(Deserialize)]
struct Context {
    ca: Option<String>,
    crt: Option<String>,
    key: Option<String>,
}

impl Identity {
    /// Reads the identity of the file's current context.
    ///
    /// # Errors
    /// See [`TalosconfigError`].
    pub fn from_talosconfig(text: &str) -> Result<Self, TalosconfigError> {
        if text.len() > MAX_LENGTH {
            return Err(TalosconfigError::TooLong);
        }
        // The parser's own message may quote a key.
        let file: File = serde_yaml_ng::from_str(text).map_err(|error| {
            let at = error.location();
            TalosconfigError::Syntax {
                line: at.as_ref().map_or(0, serde_yaml_ng::Location::line),
                column: at.as_ref().map_or(0, serde_yaml_ng::Location::column),
            }
        })?;
        if file.context.is_empty() {
            return Err(TalosconfigError::NoContext);
        }
        let context = file.contexts.get(&file.context).ok_or(TalosconfigError::UnknownContext)?;
        Ok(Self {
            ca: certificates("ca", context.ca.as_deref())?,
            certificate: certificates("crt", context.crt.as_deref())?,
            key: private_key(&pem("key", context.key.as_deref())?)?,
        })
    }
}

fn pem(field: &'static str, value: Option<&str>) -> Result<String, TalosconfigError> {
    let value = value.filter(|value| !value.is_empty()).ok_or(TalosconfigError::Missing(field))?;
    let bytes = BASE64.decode(value.trim()).map_err(|_| TalosconfigError::NotPem(field))?;
    String::from_utf8(bytes).map_err(|_| TalosconfigError::NotPem(field))
}

fn certificates(field: &'static str, value: Option<&str>) -> Result<String, TalosconfigError> {
    let pem = pem(field, value)?;
    let mut found = CertificateDer::pem_slice_iter(pem.as_bytes()).peekable();
    if found.peek().is_none() || found.any(|certificate| certificate.is_err()) {
        return Err(TalosconfigError::NotPem(field));
    }
    Ok(pem)
}

/// The same key under the label of its format. Talos labels keys by their algorithm, such as
/// `ED25519 PRIVATE KEY`, where the label should say that the bytes are PKCS #8 (RFC 7468
/// section 10).
fn private_key(pem: &str) -> Result<String, TalosconfigError> {
    const END: &str = " PRIVATE KEY-----";
    let mut lines = pem.lines().map(str::trim).skip_while(|line| !is_mark(line, "BEGIN"));
    lines.next().ok_or(TalosconfigError::NoKey)?;
    let body: Vec<&str> = lines.take_while(|line| !is_mark(line, "END")).collect();
    let der = BASE64.decode(body.concat()).map_err(|_| TalosconfigError::NoKey)?;
    let label = match PrivateKeyDer::try_from(der.as_slice()) {
        Ok(PrivateKeyDer::Pkcs8(_)) => "",
        Ok(PrivateKeyDer::Sec1(_)) => " EC",
        Ok(PrivateKeyDer::Pkcs1(_)) => " RSA",
        _ => return Err(TalosconfigError::NoKey),
    };
    let body = body.join("\n");
    Ok(format!("-----BEGIN{label}{END}\n{body}\n-----END{label}{END}\n"))
}

/// Whether the line begins or ends a private key of any kind.
fn is_mark(line: &str, mark: &str) -> bool {
    let label = line.strip_prefix("-----").and_then(|line| line.strip_prefix(mark));
    label.is_some_and(|label| label.starts_with(' ') && label.ends_with(" PRIVATE KEY-----"))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use rcgen::{CertificateParams, KeyPair, PKCS_ECDSA_P256_SHA256, PKCS_ED25519};

    use super::*;

    fn base64(text: &str) -> String {
        BASE64.encode(text)
    }

    /// A talosconfig as `talosctl` writes it, with this key, and its certificate in PEM.
    fn talosconfig(key: &str, key_pair: &KeyPair) -> (String, String) {
        let params = CertificateParams::new(Vec::new()).unwrap();
        let certificate = params.self_signed(key_pair).unwrap().pem();
        let text = format!(
            "context: lab\ncontexts:\n    lab:\n        endpoints: []\n        nodes:\n            \
             - 10.0.0.5\n        ca: {ca}\n        crt: {ca}\n        key: {key}\n    other: {{}}\n",
            ca = base64(&certificate),
            key = base64(key),
        );
        (text, certificate)
    }

    #[test]
    fn keys_get_the_label_of_their_format() {
        for (algorithm, talos) in
            [(&PKCS_ED25519, "ED25519"), (&PKCS_ECDSA_P256_SHA256, "EC"), (&PKCS_ED25519, "RSA")]
        {
            let key_pair = KeyPair::generate_for(algorithm).unwrap();
            let plain = key_pair.serialize_pem().replace("\r\n", "\n");
            let labelled = plain.replace(" PRIVATE KEY", &format!(" {talos} PRIVATE KEY"));
            assert_ne!(labelled, plain);
            let (text, certificate) = talosconfig(&labelled, &key_pair);
            let identity = Identity::from_talosconfig(&text).unwrap();
            assert_eq!(identity.key, plain, "{talos}");
            assert_eq!((&identity.ca, &identity.certificate), (&certificate, &certificate));
        }
    }

    #[test]
    fn a_key_of_the_older_format_keeps_its_label() {
        // SEC 1: a sequence of version 1 and the key as octets (RFC 5915 section 3).
        let der = [&[0x30, 0x25, 0x02, 0x01, 0x01, 0x04, 0x20][..], &[7; 32]].concat();
        let body = BASE64.encode(der);
        let pem = format!("-----BEGIN EC PRIVATE KEY-----\n{body}\n-----END EC PRIVATE KEY-----\n");
        assert_eq!(private_key(&pem).unwrap(), pem);
    }

    #[test]
    fn says_what_is_wrong_and_never_quotes() {
        let key_pair = KeyPair::generate_for(&PKCS_ED25519).unwrap();
        let key = key_pair.serialize_pem();
        let (good, _) = talosconfig(&key, &key_pair);
        assert!(Identity::from_talosconfig(&good).is_ok());
        let secret = base64(&key);
        for (from, to, error) in [
            ("context: lab", "context: ''", TalosconfigError::NoContext),
            ("context: lab", "context: more", TalosconfigError::UnknownContext),
            ("context: lab", "context: other", TalosconfigError::Missing("ca")),
            ("crt: ", "crt: '' #", TalosconfigError::Missing("crt")),
            ("crt: ", "crt: '?' #", TalosconfigError::NotPem("crt")),
            ("ca: ", "ca: aGVsbG8= #", TalosconfigError::NotPem("ca")),
            ("key: ", "key: aGVsbG8= #", TalosconfigError::NoKey),
            ("        key: ", "    wrong: ", TalosconfigError::Syntax { line: 9, column: 12 }),
        ] {
            let text = good.replace(from, to);
            assert_ne!(text, good);
            let found = Identity::from_talosconfig(&text).unwrap_err();
            assert_eq!(found, error, "{from}");
            assert!(!format!("{found} {found:?}").contains(&secret[..16]));
        }
        let long = "#".repeat(MAX_LENGTH + 1);
        assert_eq!(Identity::from_talosconfig(&long), Err(TalosconfigError::TooLong));
        let identity = Identity::from_talosconfig(&good).unwrap();
        assert_eq!(format!("{identity:?}"), "Identity");
    }

    proptest! {
        #[test]
        fn takes_any_text(
            text in prop_oneof!["\\PC*", "(context: a\n|contexts:\n|  a: |key: |[&*]x|\\{|\n){0,12}"],
            key in "(-----|BEGIN|END| |EC|PRIVATE KEY|MC4C|\n|\\PC){0,20}",
        ) {
            let _ = Identity::from_talosconfig(&text);
            if let Ok(relabelled) = private_key(&key) {
                prop_assert_eq!(private_key(&relabelled), Ok(relabelled.clone()));
            }
        }
    }
}
