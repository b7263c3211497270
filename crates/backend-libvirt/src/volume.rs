//! Volumes as libvirt's XML has them: <https://libvirt.org/formatstorage.html>.

use jiff::Timestamp;
use runner_manager_core::Result;
use serde::{Deserialize, Serialize};

use crate::api;

#[derive(Serialize)]
#[serde(rename = "volume")]
struct NewVolume<'a> {
    name: &'a str,
    capacity: Size,
    target: NewTarget,
    #[serde(rename = "backingStore", skip_serializing_if = "Option::is_none")]
    backing: Option<Backing<'a>>,
}

#[derive(Serialize)]
struct Size {
    #[serde(rename = "@unit")]
    unit: &'static str,
    #[serde(rename = "$text")]
    bytes: u64,
}

#[derive(Serialize)]
struct NewTarget {
    format: Format<'static>,
    permissions: Permissions,
}

#[derive(Serialize)]
struct Format<'a> {
    #[serde(rename = "@type")]
    kind: &'a str,
}

#[derive(Serialize)]
struct Permissions {
    mode: &'static str,
}

#[derive(Serialize)]
struct Backing<'a> {
    path: &'a str,
    format: Format<'a>,
}

/// The image that disks are laid over.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Image {
    pub(crate) path: String,
    /// `qcow2`, `raw`, …
    pub(crate) format: String,
    /// In bytes.
    pub(crate) capacity: u64,
}

fn new(name: &str, bytes: u64, format: &'static str, backing: Option<&Image>) -> Result<String> {
    api::xml(&NewVolume {
        name,
        capacity: Size {
            unit: "bytes",
            bytes,
        },
        target: NewTarget {
            format: Format { kind: format },
            // A seed holds what only this runner may know, and a disk what its job wrote.
            permissions: Permissions { mode: "0600" },
        },
        backing: backing.map(|image| Backing {
            path: &image.path,
            format: Format {
                kind: &image.format,
            },
        }),
    })
}

/// A copy-on-write disk over an image, of at least the image's size.
pub(crate) fn disk(name: &str, image: &Image, bytes: Option<u64>) -> Result<String> {
    let bytes = bytes.unwrap_or_default().max(image.capacity);
    new(name, bytes, "qcow2", Some(image))
}

/// A volume for bytes.
pub(crate) fn raw(name: &str, bytes: u64) -> Result<String> {
    new(name, bytes, "raw", None)
}

/// What libvirt says of a volume.
#[derive(Debug, Clone, Deserialize)]
pub(crate) struct Volume {
    capacity: SizeRead,
    target: Target,
    #[serde(rename = "backingStore")]
    backing: Option<Target>,
}

#[derive(Debug, Clone, Deserialize)]
struct SizeRead {
    #[serde(rename = "$text")]
    bytes: u64,
}

#[derive(Debug, Clone, Deserialize)]
struct Target {
    path: Option<String>,
    format: Option<FormatRead>,
    timestamps: Option<Timestamps>,
}

#[derive(Debug, Clone, Deserialize)]
struct FormatRead {
    #[serde(rename = "@type")]
    kind: String,
}

#[derive(Debug, Clone, Deserialize)]
struct Timestamps {
    mtime: Option<String>,
    ctime: Option<String>,
}

impl Volume {
    pub(crate) fn parse(xml: &str) -> Result<Self> {
        api::read(xml)
    }

    fn format(&self) -> Option<&str> {
        Some(self.target.format.as_ref()?.kind.as_str())
    }

    /// Whether it is what disks of this backend are: a qcow2 file over another one.
    pub(crate) fn is_overlay(&self) -> bool {
        let backing = self.backing.as_ref().and_then(|b| b.path.as_ref());
        self.format() == Some("qcow2") && backing.is_some()
    }

    /// Its size.
    pub(crate) fn bytes(&self) -> u64 {
        self.capacity.bytes
    }

    /// As an image to lay disks over.
    pub(crate) fn image(&self, path: String) -> Image {
        Image {
            path,
            format: self.format().unwrap_or("raw").to_owned(),
            capacity: self.capacity.bytes,
        }
    }

    /// When it was changed last, as a file: what is written is not old. `None` where the pool
    /// keeps no times.
    pub(crate) fn changed_at(&self) -> Option<Timestamp> {
        let times = self.target.timestamps.as_ref()?;
        let read = |text: &Option<String>| {
            // Seconds and nanoseconds since the epoch, with a point between them.
            let seconds = text.as_deref()?.split('.').next()?.parse().ok()?;
            Timestamp::from_second(seconds).ok()
        };
        read(&times.mtime).max(read(&times.ctime))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn image() -> Image {
        Image {
            path: "/images/a & b.qcow2".into(),
            format: "qcow2".into(),
            capacity: 2048,
        }
    }

    #[test]
    fn a_disk_lies_over_its_image_and_is_never_smaller() {
        let xml = disk("app.qcow2", &image(), Some(1024)).expect("XML");
        assert_eq!(
            xml,
            "<volume><name>app.qcow2</name><capacity unit=\"bytes\">2048</capacity><target>\
             <format type=\"qcow2\"/><permissions><mode>0600</mode></permissions></target>\
             <backingStore><path>/images/a &amp; b.qcow2</path><format type=\"qcow2\"/>\
             </backingStore></volume>"
        );
        let wide = disk("app.qcow2", &image(), Some(4096)).expect("XML");
        assert!(wide.contains(">4096<"), "{wide}");
    }

    #[test]
    fn what_libvirt_says_is_read() {
        let xml = "<volume type='file'><name>a</name><key>/p/a</key>
            <capacity unit='bytes'>1048576</capacity><allocation unit='bytes'>200704</allocation>
            <physical unit='bytes'>196608</physical>
            <target><path>/p/a</path><format type='qcow2'/>
              <permissions><mode>0600</mode><owner>0</owner><group>0</group></permissions>
              <timestamps><atime>1764000000.5</atime><mtime>1764000000.1</mtime>
                <ctime>1764000009.123456789</ctime></timestamps>
              <compat>1.1</compat><clusterSize unit='B'>65536</clusterSize><features/></target>
            <backingStore><path>/p/base</path><format type='qcow2'/></backingStore></volume>";
        let volume = Volume::parse(xml).expect("a volume");
        assert!(volume.is_overlay());
        let changed = volume.changed_at().map(Timestamp::as_second);
        assert_eq!(changed, Some(1_764_000_009));
        assert_eq!(volume.image("/p/a".into()).capacity, 1_048_576);
        let bare = "<volume><capacity>1</capacity><target><path>/p/a</path></target></volume>";
        let bare = Volume::parse(bare).expect("a volume");
        assert!(!bare.is_overlay());
        assert_eq!(bare.changed_at(), None);
    }
}
