//! A runner's domain as libvirt's XML has it: <https://libvirt.org/formatdomain.html>.

use jiff::Timestamp;
use runner_manager_core::{Machine, Result, RunnerName};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::api;
use crate::config::{Firmware, LibvirtConfig, Network};
use crate::names::{Attempt, Part};

/// The name space of this backend's metadata.
pub(crate) const NAMESPACE: &str = "urn:runner-manager:libvirt:1";

/// The channel of the QEMU guest agent.
const AGENT: &str = "org.qemu.guest_agent.0";

/// The metadata that proves a domain to be the manager's.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename = "runner")]
pub(crate) struct Mark {
    #[serde(rename = "@name")]
    pub(crate) name: RunnerName,
    #[serde(rename = "@created-at")]
    pub(crate) created_at: Timestamp,
    #[serde(rename = "@mac")]
    pub(crate) mac: String,
}

/// What a domain is made of.
pub(crate) struct Plan<'a> {
    pub(crate) config: &'a LibvirtConfig,
    pub(crate) machine: Machine,
    pub(crate) uuid: Uuid,
    pub(crate) mark: Mark,
    /// The folder of the storage pool, on the host.
    pub(crate) folder: &'a str,
    /// Whether KVM runs the guest.
    pub(crate) kvm: bool,
}

#[derive(Serialize)]
#[serde(rename = "domain")]
struct Domain<'a> {
    #[serde(rename = "@type")]
    kind: &'static str,
    name: String,
    uuid: String,
    metadata: Metadata<'a>,
    memory: Memory,
    vcpu: u32,
    os: Os<'a>,
    features: Features,
    cpu: Mode,
    on_poweroff: &'static str,
    on_reboot: &'static str,
    on_crash: &'static str,
    devices: Devices<'a>,
}

#[derive(Serialize)]
struct Metadata<'a> {
    #[serde(rename = "rm:runner")]
    runner: Marked<'a>,
}

/// [`Mark`] under its name space.
#[derive(Serialize)]
struct Marked<'a> {
    #[serde(rename = "@xmlns:rm")]
    namespace: &'static str,
    #[serde(rename = "@name")]
    name: &'a RunnerName,
    #[serde(rename = "@created-at")]
    created_at: Timestamp,
    #[serde(rename = "@mac")]
    mac: &'a str,
}

#[derive(Serialize)]
struct Memory {
    #[serde(rename = "@unit")]
    unit: &'static str,
    #[serde(rename = "$text")]
    size: u32,
}

#[derive(Serialize)]
struct Os<'a> {
    #[serde(rename = "@firmware", skip_serializing_if = "Option::is_none")]
    firmware: Option<&'static str>,
    #[serde(rename = "type")]
    kind: OsType,
    #[serde(skip_serializing_if = "Option::is_none")]
    nvram: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    kernel: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    initrd: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    cmdline: Option<&'a str>,
}

#[derive(Serialize)]
struct OsType {
    #[serde(rename = "@arch")]
    arch: &'static str,
    #[serde(rename = "@machine")]
    machine: &'static str,
    #[serde(rename = "$text")]
    kind: &'static str,
}

#[derive(Serialize)]
struct Features {
    acpi: Empty,
}

#[derive(Serialize)]
struct Empty {}

#[derive(Serialize)]
struct Mode {
    #[serde(rename = "@mode")]
    mode: &'static str,
}

#[derive(Serialize)]
struct Devices<'a> {
    disk: [Disk<'a>; 2],
    interface: Interface<'a>,
    serial: Serial,
    channel: Channel,
    rng: Rng,
}

#[derive(Serialize)]
struct Disk<'a> {
    #[serde(rename = "@type")]
    kind: &'static str,
    #[serde(rename = "@device")]
    device: &'static str,
    driver: Driver,
    source: VolumeSource<'a>,
    target: DiskTarget,
    #[serde(skip_serializing_if = "Option::is_none")]
    readonly: Option<Empty>,
}

#[derive(Serialize)]
struct Driver {
    #[serde(rename = "@name")]
    name: &'static str,
    #[serde(rename = "@type")]
    kind: &'static str,
    #[serde(rename = "@cache", skip_serializing_if = "Option::is_none")]
    cache: Option<&'static str>,
}

#[derive(Serialize)]
struct VolumeSource<'a> {
    #[serde(rename = "@pool")]
    pool: &'a str,
    #[serde(rename = "@volume")]
    volume: String,
}

#[derive(Serialize)]
struct DiskTarget {
    #[serde(rename = "@dev")]
    dev: &'static str,
    #[serde(rename = "@bus")]
    bus: &'static str,
}

#[derive(Serialize)]
struct Interface<'a> {
    #[serde(rename = "@type")]
    kind: &'static str,
    mac: Address<'a>,
    #[serde(skip_serializing_if = "Option::is_none")]
    source: Option<InterfaceSource<'a>>,
    model: Type,
}

#[derive(Serialize)]
struct Address<'a> {
    #[serde(rename = "@address")]
    address: &'a str,
}

#[derive(Serialize)]
struct InterfaceSource<'a> {
    #[serde(rename = "@network", skip_serializing_if = "Option::is_none")]
    network: Option<&'a str>,
    #[serde(rename = "@bridge", skip_serializing_if = "Option::is_none")]
    bridge: Option<&'a str>,
}

#[derive(Serialize)]
struct Type {
    #[serde(rename = "@type")]
    kind: &'static str,
}

#[derive(Serialize)]
struct Serial {
    #[serde(rename = "@type")]
    kind: &'static str,
    source: FileSource,
    target: SerialTarget,
}

#[derive(Serialize)]
struct FileSource {
    #[serde(rename = "@path")]
    path: String,
}

#[derive(Serialize)]
struct SerialTarget {
    #[serde(rename = "@port")]
    port: u32,
}

#[derive(Serialize)]
struct Channel {
    #[serde(rename = "@type")]
    kind: &'static str,
    target: ChannelTarget,
}

#[derive(Serialize)]
struct ChannelTarget {
    #[serde(rename = "@type")]
    kind: &'static str,
    #[serde(rename = "@name")]
    name: &'static str,
}

#[derive(Serialize)]
struct Rng {
    #[serde(rename = "@model")]
    model: &'static str,
    backend: RngBackend,
}

#[derive(Serialize)]
struct RngBackend {
    #[serde(rename = "@model")]
    model: &'static str,
    #[serde(rename = "$text")]
    source: &'static str,
}

impl Plan<'_> {
    /// The document of the domain.
    pub(crate) fn xml(&self) -> Result<String> {
        api::xml(&Domain {
            kind: if self.kvm { "kvm" } else { "qemu" },
            name: self.mark.name.to_string(),
            uuid: self.uuid.to_string(),
            metadata: Metadata {
                runner: Marked {
                    namespace: NAMESPACE,
                    name: &self.mark.name,
                    created_at: self.mark.created_at,
                    mac: &self.mark.mac,
                },
            },
            memory: Memory {
                unit: "MiB",
                size: self.config.memory_mib,
            },
            vcpu: self.config.vcpus,
            os: self.os(),
            features: Features { acpi: Empty {} },
            cpu: Mode {
                // The translator's own default lacks what current distributions need.
                mode: if self.kvm {
                    "host-passthrough"
                } else {
                    "maximum"
                },
            },
            // A domain is transient: destroyed, it is gone. One that boots anew has lost its
            // runner.
            on_poweroff: "destroy",
            on_reboot: "destroy",
            on_crash: "destroy",
            devices: self.devices(),
        })
    }

    fn attempt(&self) -> Attempt {
        Attempt::of(&self.mark.name, self.uuid)
    }

    fn file(&self, part: Part) -> String {
        format!("{}/{}", self.folder, self.attempt().volume(part))
    }

    fn os(&self) -> Os<'_> {
        let kernel = self.config.kernel.as_ref();
        let uefi = self.config.firmware == Firmware::Uefi;
        let machine = match self.machine {
            Machine::Amd64 => "q35",
            Machine::Arm64 => "virt",
        };
        Os {
            firmware: uefi.then_some("efi"),
            kind: OsType {
                arch: self.machine.uname(),
                machine,
                kind: "hvm",
            },
            nvram: uefi.then(|| self.file(Part::Variables)),
            kernel: kernel.and_then(|kernel| kernel.path.to_str()),
            initrd: kernel.and_then(|kernel| kernel.initrd.as_ref()?.to_str()),
            cmdline: kernel
                .map(|kernel| kernel.command_line.as_str())
                .filter(|line| !line.is_empty()),
        }
    }

    fn devices(&self) -> Devices<'_> {
        let source = |network, bridge| Some(InterfaceSource { network, bridge });
        let (kind, source) = match &self.config.network {
            Network::Network(name) => ("network", source(Some(name.as_str()), None)),
            Network::Bridge(name) => ("bridge", source(None, Some(name.as_str()))),
            Network::User => ("user", None),
        };
        Devices {
            disk: [
                // What a power cut loses was this runner's alone.
                self.disk(Part::Disk, "qcow2", "vda", Some("unsafe")),
                self.disk(Part::Seed, "raw", "vdb", None),
            ],
            interface: Interface {
                kind,
                mac: Address {
                    address: &self.mark.mac,
                },
                source,
                model: Type { kind: "virtio" },
            },
            serial: Serial {
                kind: "file",
                source: FileSource {
                    path: self.file(Part::Console),
                },
                target: SerialTarget { port: 0 },
            },
            channel: Channel {
                kind: "unix",
                target: ChannelTarget {
                    kind: "virtio",
                    name: AGENT,
                },
            },
            rng: Rng {
                model: "virtio",
                backend: RngBackend {
                    model: "random",
                    source: "/dev/urandom",
                },
            },
        }
    }

    fn disk(
        &self,
        part: Part,
        format: &'static str,
        dev: &'static str,
        cache: Option<&'static str>,
    ) -> Disk<'_> {
        Disk {
            kind: "volume",
            device: "disk",
            driver: Driver {
                name: "qemu",
                kind: format,
                cache,
            },
            source: VolumeSource {
                pool: &self.config.storage_pool,
                volume: self.attempt().volume(part),
            },
            target: DiskTarget { dev, bus: "virtio" },
            readonly: (part == Part::Seed).then_some(Empty {}),
        }
    }
}

/// A hardware address for a guest: QEMU's range, and chance.
pub(crate) fn mac(chance: Uuid) -> String {
    let bytes = chance.into_bytes();
    format!(
        "52:54:00:{:02x}:{:02x}:{:02x}",
        bytes[0], bytes[1], bytes[2]
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Kernel;

    fn plan(config: &LibvirtConfig, kvm: bool) -> Plan<'_> {
        Plan {
            config,
            machine: Machine::Amd64,
            uuid: Uuid::from_u128(0x0123_4567_89ab_cdef_0123_4567_89ab_cdef),
            mark: Mark {
                name: "app-0123456789ab".parse().expect("a name"),
                created_at: Timestamp::UNIX_EPOCH,
                mac: "52:54:00:00:00:01".into(),
            },
            folder: "/pool",
            kvm,
        }
    }

    fn config(more: &serde_json::Value) -> LibvirtConfig {
        let mut section = serde_json::json!({"image": "debian.qcow2"});
        let keys = more.as_object().expect("an object").clone();
        section.as_object_mut().expect("an object").extend(keys);
        runner_manager_core::parse_section(section).expect("a configuration")
    }

    #[test]
    fn the_whole_domain() {
        let config = config(&serde_json::json!({}));
        let xml = plan(&config, true).xml().expect("XML");
        insta::assert_snapshot!(xml.replace("><", ">\n<"));
    }

    #[test]
    fn hostile_values_stay_values() {
        let mut config = config(&serde_json::json!({"network": {"bridge": "b'\"<&>"}}));
        config.kernel = Some(Kernel {
            path: "/boot/<vmlinuz>".into(),
            initrd: None,
            command_line: "a='</cmdline><devices/>' ]]>".into(),
        });
        let xml = plan(&config, false).xml().expect("XML");
        assert!(
            xml.contains("<kernel>/boot/&lt;vmlinuz&gt;</kernel>"),
            "{xml}"
        );
        assert!(
            xml.contains("a='&lt;/cmdline&gt;&lt;devices/&gt;' ]]&gt;"),
            "{xml}"
        );
        assert!(xml.contains("bridge=\"b'&quot;&lt;&amp;&gt;\""), "{xml}");
        assert!(xml.starts_with("<domain type=\"qemu\">"), "{xml}");
    }

    #[test]
    fn uefi_keeps_its_variables_in_the_pool() {
        let config = config(&serde_json::json!({"firmware": "uefi"}));
        let xml = plan(&config, true).xml().expect("XML");
        let nvram = "<nvram>/pool/app-0123456789ab.01234567.fd</nvram>";
        assert!(
            xml.contains("<os firmware=\"efi\">") && xml.contains(nvram),
            "{xml}"
        );
    }

    #[test]
    fn the_mark_is_read_as_libvirt_gives_it_back() {
        // libvirt gives the element with its prefix, and the name space declared on it.
        let xml = "<rm:runner xmlns:rm=\"urn:runner-manager:libvirt:1\" \
                   name=\"app-0123456789ab\" created-at=\"1970-01-01T00:00:00Z\" \
                   mac=\"52:54:00:00:00:01\"/>";
        let config = config(&serde_json::json!({}));
        let mark: Mark = api::read(xml).expect("a mark");
        assert_eq!(mark, plan(&config, true).mark);
        assert!(api::read::<Mark>("<rm:runner name='x'/>").is_err());
    }
}
