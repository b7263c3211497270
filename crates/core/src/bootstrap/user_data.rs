//! User-data, as cloud-init takes it.

use std::fmt;
use std::io::Write;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use flate2::{Compression as Level, GzBuilder};
use secrecy::{ExposeSecret, SecretSlice};
use serde::Serialize;

use super::files::{self, BootFile};
use super::reveal::Reveal;
use super::{BASE, Bootstrap, Compression, PartKind, services};
use crate::{Error, ErrorKind, Result};

/// User-data. It holds the runner's credential: hand it to the cloud and to nothing else.
#[derive(Clone)]
pub struct UserData(SecretSlice<u8>);

impl UserData {
    /// The bytes themselves, which are gzip where they had to be.
    #[must_use]
    pub fn expose(&self) -> &[u8] {
        self.0.expose_secret()
    }

    /// In base64, as Nova and EC2 take it.
    #[must_use]
    pub fn expose_base64(&self) -> String {
        STANDARD.encode(self.expose())
    }
}

impl fmt::Debug for UserData {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "UserData({} bytes)", self.expose().len())
    }
}

#[derive(Serialize)]
struct CloudConfig {
    hostname: String,
    manage_etc_hosts: &'static str,
    package_update: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    apt: Option<Apt>,
    #[serde(skip_serializing_if = "Option::is_none")]
    ca_certs: Option<CaCerts>,
    write_files: Vec<WriteFile>,
    runcmd: Vec<Vec<String>>,
}

#[derive(Serialize)]
struct Apt {
    #[serde(skip_serializing_if = "Option::is_none")]
    http_proxy: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    https_proxy: Option<String>,
}

#[derive(Serialize)]
struct CaCerts {
    trusted: Vec<String>,
}

#[derive(Serialize)]
struct WriteFile {
    path: String,
    owner: &'static str,
    permissions: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    encoding: Option<&'static str>,
    content: String,
}

impl From<BootFile> for WriteFile {
    fn from(file: BootFile) -> Self {
        // What a parser of YAML might take for something else goes in base64.
        let plain = |c: char| c == '\n' || c == '\t' || (c.is_ascii() && !c.is_ascii_control());
        let (encoding, content) = if file.content.chars().all(plain) {
            (None, file.content)
        } else {
            (Some("b64"), STANDARD.encode(file.content))
        };
        Self {
            path: format!("{BASE}/{}", file.name),
            owner: "root:root",
            permissions: file.mode,
            encoding,
            content,
        }
    }
}

/// The manager's own part.
pub(super) fn cloud_config(boot: &Bootstrap<'_>, reveal: Reveal) -> Result<String> {
    let proxy = boot.spec.support.proxy_config.as_ref();
    let late = services::are_late(boot.spec);
    let url = |url: Option<&url::Url>| url.map(|url| reveal.url(url));
    let apt = proxy.filter(|_| !late).map(|proxy| Apt {
        http_proxy: url(proxy.http.as_ref()),
        https_proxy: url(proxy.https.as_ref()),
    });
    let trusted = boot.config.ca_certificates.clone();
    let config = CloudConfig {
        hostname: boot.spec.name.to_string(),
        manage_etc_hosts: "localhost",
        package_update: boot.config.update_packages && !late,
        apt: apt.filter(|apt| apt.http_proxy.is_some() || apt.https_proxy.is_some()),
        ca_certs: (!trusted.is_empty()).then_some(CaCerts { trusted }),
        write_files: files::all(boot, reveal)?
            .into_iter()
            .map(WriteFile::from)
            .collect(),
        runcmd: vec![vec!["/bin/bash".to_owned(), files::entry()]],
    };
    let yaml = serde_saphyr::to_string(&config).map_err(|error| {
        Error::new(ErrorKind::Unexpected, "cannot write the cloud-config").with_source(error)
    })?;
    Ok(format!("#cloud-config\n{yaml}"))
}

/// The whole: one part, or several in MIME with the manager's own last.
pub(super) fn document(boot: &Bootstrap<'_>, reveal: Reveal) -> Result<String> {
    let own = cloud_config(boot, reveal)?;
    let extra = &boot.config.extra_parts;
    if extra.is_empty() && boot.parts.is_empty() {
        return Ok(own);
    }
    let backend = boot.parts.iter();
    let backend: Vec<(PartKind, String)> = backend
        .map(|(kind, text)| (*kind, reveal.secret(text)))
        .collect();
    let pool = extra.iter().map(|part| (part.kind, &part.content));
    let before = backend.iter().map(|(kind, text)| (*kind, text)).chain(pool);
    let mut parts: Vec<(&str, &str, &str)> = before
        .map(|(kind, text)| (kind.mime(), "", text.as_str()))
        .collect();
    // Lists of the parts before it are kept, and its own entries come after them.
    let merge = "X-Merge-Type: list(append)+dict(recurse_dict,recurse_list)+str()\n";
    parts.push(("text/cloud-config", merge, &own));
    let mut boundary = String::from("==runner-manager==");
    while parts.iter().any(|(_, _, text)| text.contains(&boundary)) {
        boundary.push('=');
    }
    let mut text =
        format!("Content-Type: multipart/mixed; boundary=\"{boundary}\"\nMIME-Version: 1.0\n\n");
    for (mime, header, content) in parts {
        let (encoding, content) = if content.is_ascii() {
            ("7bit", content.to_owned())
        } else {
            ("base64", STANDARD.encode(content))
        };
        text.push_str(&format!(
            "--{boundary}\nContent-Type: {mime}; charset=\"utf-8\"\n{header}\
             Content-Transfer-Encoding: {encoding}\n\n{content}\n"
        ));
    }
    text.push_str(&format!("--{boundary}--\n"));
    Ok(text)
}

/// Compresses where asked or needed, and refuses what is too large for the backend.
pub(super) fn pack(text: String, compression: Compression, limit: Option<u32>) -> Result<UserData> {
    let limit = limit.and_then(|limit| usize::try_from(limit).ok());
    let fits = |bytes: &[u8]| limit.is_none_or(|limit| bytes.len() <= limit);
    let mut bytes = text.into_bytes();
    let plain = bytes.len();
    if compression == Compression::Always
        || (compression == Compression::WhenNeeded && !fits(&bytes))
    {
        let mut gzip = GzBuilder::new().write(Vec::new(), Level::best());
        let packed = gzip.write_all(&bytes).and_then(|()| gzip.finish());
        bytes = packed.map_err(|error| {
            Error::new(ErrorKind::Unexpected, "cannot compress user-data").with_source(error)
        })?;
    }
    if !fits(&bytes) {
        let message = "user-data is too large for this backend; shorten the extra parts, the \
                       pre-job script and the certificates, or put them into the image";
        return Err(Error::new(ErrorKind::InvalidConfig, message)
            .with_context("bytes", bytes.len())
            .with_context("uncompressed", plain)
            .with_context("limit", limit.unwrap_or_default()));
    }
    Ok(UserData(SecretSlice::from(bytes)))
}
