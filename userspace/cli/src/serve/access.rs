//! Who may ask: this host alone, or whoever knows a token, over TLS. Anything else has to be asked for by name.

use std::fs::File;
use std::io::Read;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::sync::Arc;

use rustls::ServerConfig;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use subtle::ConstantTimeEq;
use tokio_rustls::TlsAcceptor;

use crate::exit::{Code, Failure};
use crate::flags;

/// Shorter ones can be guessed.
const TOKEN_BYTES: std::ops::RangeInclusive<usize> = 16..=4096;

#[derive(Clone)]
pub(super) struct Access {
    pub tls: Option<TlsAcceptor>,
    token: Option<Arc<str>>,
}

/// Without what must not be seen.
impl std::fmt::Debug for Access {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let (tls, token) = (self.tls.is_some(), self.token.is_some());
        f.debug_struct("Access").field("tls", &tls).field("token", &token).finish()
    }
}

impl Access {
    pub(super) fn new(flags: &flags::Serve) -> Result<Self, Failure> {
        let guarded = flags.tls_cert.is_some() && flags.token_file.is_some();
        if !flags.listen.ip().is_loopback() && !guarded && !flags.insecure {
            let what = format!("--listen {}: other hosts could read commands and figures", flags.listen);
            let next =
                "give --tls-cert, --tls-key and --token-file, or listen on 127.0.0.1, or say --insecure";
            return Err(Failure::new(Code::Usage, what, next));
        }
        let tls = match (&flags.tls_cert, &flags.tls_key) {
            (Some(certificate), Some(key)) => Some(acceptor(certificate, key)?),
            _ => None,
        };
        let token = flags.token_file.as_deref().map(token).transpose()?;
        Ok(Self { tls, token })
    }

    /// Whether an `Authorization` header, if any, lets one in. Takes the same time wherever a token of the right length differs.
    pub(super) fn admits(&self, authorization: Option<&[u8]>) -> bool {
        let Some(token) = &self.token else { return true };
        let given = authorization.and_then(|header| {
            let (scheme, token) = header.split_at_checked("Bearer ".len())?;
            scheme.eq_ignore_ascii_case(b"Bearer ").then_some(token)
        });
        given.is_some_and(|given| given.ct_eq(token.as_bytes()).into())
    }
}

fn wrong(option: &str, path: &Path, what: impl std::fmt::Display, next: &str) -> Failure {
    Failure::new(Code::Usage, format!("{option} {}: {what}", path.display()), next)
}

fn token(path: &Path) -> Result<Arc<str>, Failure> {
    let wrong = |what: &dyn std::fmt::Display| {
        let next = "make one: (umask 077; openssl rand -hex 32 > token)";
        wrong("--token-file", path, what, next)
    };
    let mut file = File::open(path).map_err(|error| wrong(&error))?;
    let mode = file.metadata().map_err(|error| wrong(&error))?.permissions().mode();
    if mode & 0o077 != 0 {
        return Err(wrong(&format!("others than its owner may use it (mode {:o})", mode & 0o777)));
    }
    let mut text = String::new();
    let most = *TOKEN_BYTES.end() as u64 + 2;
    file.by_ref().take(most).read_to_string(&mut text).map_err(|error| wrong(&error))?;
    let token = text.trim_end();
    if !TOKEN_BYTES.contains(&token.len()) || !token.bytes().all(|byte| byte.is_ascii_graphic()) {
        let (least, most) = (TOKEN_BYTES.start(), TOKEN_BYTES.end());
        return Err(wrong(&format!("a token has {least} to {most} printable ASCII characters, no spaces")));
    }
    Ok(token.into())
}

fn acceptor(certificate: &Path, key: &Path) -> Result<TlsAcceptor, Failure> {
    const NEXT: &str = "name PEM files: the certificate with its chain, and its private key";
    let chain = CertificateDer::pem_file_iter(certificate)
        .and_then(Iterator::collect::<Result<Vec<_>, _>>)
        .map_err(|error| wrong("--tls-cert", certificate, error, NEXT))?;
    let private = PrivateKeyDer::from_pem_file(key).map_err(|error| wrong("--tls-key", key, error, NEXT))?;
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .and_then(|builder| builder.with_no_client_auth().with_single_cert(chain, private))
        .map_err(|error| wrong("--tls-cert", certificate, error, NEXT))?;
    Ok(TlsAcceptor::from(Arc::new(config)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_lets_in_and_nothing_else() {
        let access = Access { tls: None, token: Some("0123456789abcdef".into()) };
        let admits = |header: &str| access.admits(Some(header.as_bytes()));
        assert!(admits("Bearer 0123456789abcdef") && admits("bearer 0123456789abcdef"));
        for header in ["", "Bearer", "Bearer ", "Bearer 0123456789abcdeg", "Basic 0123456789abcdef"] {
            assert!(!admits(header), "{header}");
        }
        assert!(!admits("Bearer 0123456789abcdef0") && !access.admits(None));
        assert!(Access { tls: None, token: None }.admits(None));
    }
}
