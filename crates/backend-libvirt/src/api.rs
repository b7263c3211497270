//! What libvirt answers: the table of native states, the map of its errors, its XML.

use std::time::Duration;

use runner_manager_core::{CloudRunnerState, Error, ErrorKind, Result, Retry};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use virt::error::{ErrorDomain, ErrorNumber};
use virt_sys as sys;

/// Writes a document.
pub(crate) fn xml(value: &impl Serialize) -> Result<String> {
    quick_xml::se::to_string(value).map_err(|error| {
        Error::new(ErrorKind::Unexpected, "cannot write a libvirt document").with_source(error)
    })
}

/// Reads a document.
pub(crate) fn read<T: DeserializeOwned>(xml: &str) -> Result<T> {
    quick_xml::de::from_str(xml).map_err(|error| {
        Error::new(ErrorKind::BadAnswer, "cannot read a libvirt document").with_source(error)
    })
}

/// What a host says once: <https://libvirt.org/formatcaps.html>.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Facts {
    /// What `uname -m` says for each kind of guest that KVM runs.
    kvm: Vec<String>,
}

impl Facts {
    pub(crate) fn parse(capabilities: &str) -> Result<Self> {
        #[derive(Deserialize)]
        struct Capabilities {
            #[serde(rename = "guest", default)]
            guests: Vec<Guest>,
        }
        #[derive(Deserialize)]
        struct Guest {
            arch: Arch,
        }
        #[derive(Deserialize)]
        struct Arch {
            #[serde(rename = "@name")]
            name: String,
            #[serde(rename = "domain", default)]
            domains: Vec<Domain>,
        }
        #[derive(Deserialize)]
        struct Domain {
            #[serde(rename = "@type")]
            kind: String,
        }
        let capabilities: Capabilities = read(capabilities)?;
        let has_kvm = |arch: &Arch| arch.domains.iter().any(|domain| domain.kind == "kvm");
        let arches = capabilities.guests.into_iter().map(|guest| guest.arch);
        Ok(Self {
            kvm: arches.filter(has_kvm).map(|arch| arch.name).collect(),
        })
    }

    /// Whether KVM runs guests of this kind.
    pub(crate) fn has_kvm(&self, uname: &str) -> bool {
        self.kvm.iter().any(|arch| arch == uname)
    }
}

/// The state of a domain, with its reason.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Native {
    /// `virDomainState`.
    pub(crate) state: u32,
    /// One of libvirt's reasons for that state.
    pub(crate) reason: u32,
}

/// The word of a native state.
pub(crate) fn word(state: u32) -> &'static str {
    match state {
        sys::VIR_DOMAIN_RUNNING => "running",
        sys::VIR_DOMAIN_BLOCKED => "blocked",
        sys::VIR_DOMAIN_PAUSED => "paused",
        sys::VIR_DOMAIN_SHUTDOWN => "in shutdown",
        sys::VIR_DOMAIN_SHUTOFF => "shut off",
        sys::VIR_DOMAIN_CRASHED => "crashed",
        sys::VIR_DOMAIN_PMSUSPENDED => "pmsuspended",
        sys::VIR_DOMAIN_NOSTATE => "no state",
        _ => "unheard of",
    }
}

/// The one table from native to contract states. A domain that libvirt itself has paused for a
/// while is kept.
pub(crate) fn state(native: Native) -> CloudRunnerState {
    match native.state {
        sys::VIR_DOMAIN_RUNNING | sys::VIR_DOMAIN_BLOCKED => CloudRunnerState::Active,
        sys::VIR_DOMAIN_SHUTDOWN | sys::VIR_DOMAIN_SHUTOFF | sys::VIR_DOMAIN_PMSUSPENDED => {
            CloudRunnerState::Stopped
        }
        sys::VIR_DOMAIN_CRASHED => CloudRunnerState::Error,
        sys::VIR_DOMAIN_PAUSED => match native.reason {
            sys::VIR_DOMAIN_PAUSED_STARTING_UP => CloudRunnerState::Created,
            sys::VIR_DOMAIN_PAUSED_USER
            | sys::VIR_DOMAIN_PAUSED_UNKNOWN
            | sys::VIR_DOMAIN_PAUSED_SHUTTING_DOWN => CloudRunnerState::Stopped,
            sys::VIR_DOMAIN_PAUSED_IOERROR
            | sys::VIR_DOMAIN_PAUSED_WATCHDOG
            | sys::VIR_DOMAIN_PAUSED_CRASHED
            | sys::VIR_DOMAIN_PAUSED_POSTCOPY_FAILED
            | sys::VIR_DOMAIN_PAUSED_API_ERROR => CloudRunnerState::Error,
            reason => CloudRunnerState::Unexpected(format!("paused for reason {reason}")),
        },
        other => CloudRunnerState::Unexpected(word(other).to_owned()),
    }
}

/// What an error of libvirt means.
fn classify(code: ErrorNumber, domain: ErrorDomain) -> (ErrorKind, Retry) {
    let soon = Retry::After(Duration::from_secs(5));
    match code {
        // A socket that is missing, refuses, or was closed by the daemon's end.
        ErrorNumber::SystemError | ErrorNumber::InternalError | ErrorNumber::OperationFailed
            if matches!(domain, ErrorDomain::Rpc | ErrorDomain::Remote) =>
        {
            (ErrorKind::Unreachable, soon)
        }
        ErrorNumber::NoDomain
        | ErrorNumber::NoStorageVolume
        | ErrorNumber::NoStoragePool
        | ErrorNumber::NoNetwork => (ErrorKind::NotFound, Retry::Never),
        ErrorNumber::DomExist | ErrorNumber::StorageVolExist => {
            (ErrorKind::AlreadyExists, Retry::Never)
        }
        ErrorNumber::AuthFailed | ErrorNumber::AuthCancelled | ErrorNumber::AuthUnavailable => {
            (ErrorKind::Unauthenticated, Retry::Never)
        }
        ErrorNumber::OperationDenied | ErrorNumber::AccessDenied => {
            (ErrorKind::PermissionDenied, Retry::Never)
        }
        ErrorNumber::NoConnect
        | ErrorNumber::InvalidConn
        | ErrorNumber::Rpc
        | ErrorNumber::GnutlsError
        | ErrorNumber::Libssh
        | ErrorNumber::Ssh
        | ErrorNumber::UnknownHost
        | ErrorNumber::AgentUnresponsive
        | ErrorNumber::AgentUnsynced => (ErrorKind::Unreachable, soon),
        ErrorNumber::OperationTimeout
        | ErrorNumber::AgentCommandTimeout
        | ErrorNumber::OperationAborted => (ErrorKind::TimedOut, soon),
        ErrorNumber::NoMemory | ErrorNumber::ResourceBusy => {
            (ErrorKind::NoCapacity, Retry::After(Duration::from_secs(30)))
        }
        ErrorNumber::NoSupport | ErrorNumber::ConfigUnsupported => {
            (ErrorKind::Unsupported, Retry::Never)
        }
        ErrorNumber::XmlError | ErrorNumber::XmlDetail | ErrorNumber::InvalidArg => {
            (ErrorKind::InvalidRequest, Retry::Never)
        }
        ErrorNumber::SystemError
        | ErrorNumber::OperationFailed
        | ErrorNumber::OperationInvalid
        | ErrorNumber::InternalError => (ErrorKind::Unexpected, soon),
        _ => (ErrorKind::Unexpected, Retry::Never),
    }
}

/// Whether an error's words are those of a host that is full. QEMU and the file system say so
/// under codes that stand for anything.
fn is_full(words: &str) -> bool {
    words.contains("Cannot allocate memory") || words.contains("No space left on device")
}

/// An error of a call. `action` fits after "cannot".
pub(crate) fn failed(action: &str) -> impl Fn(virt::error::Error) -> Error {
    move |error| {
        let (kind, retry) = match is_full(error.message()) {
            true => classify(ErrorNumber::NoMemory, error.domain()),
            false => classify(error.code(), error.domain()),
        };
        let message = format!("cannot {action}: {}", error.message());
        Error::new(kind, message).with_retry(retry)
    }
}

/// What may be gone already.
pub(crate) fn unless_gone<T>(outcome: Result<T>) -> Result<Option<T>> {
    match outcome {
        Ok(value) => Ok(Some(value)),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_native_state_is_mapped() {
        let told = |state| self::state(Native { state, reason: 0 }).to_string();
        for (state, word, contract) in [
            (0, "no state", "unexpected (no state)"),
            (1, "running", "active"),
            (2, "blocked", "active"),
            (3, "paused", "stopped"),
            (4, "in shutdown", "stopped"),
            (5, "shut off", "stopped"),
            (6, "crashed", "error"),
            (7, "pmsuspended", "stopped"),
            (8, "unheard of", "unexpected (unheard of)"),
        ] {
            assert_eq!((super::word(state), &*told(state)), (word, contract));
        }
    }

    #[test]
    fn what_libvirt_pauses_for_a_while_is_kept() {
        let told = |reason| self::state(Native { state: 3, reason }).to_string();
        let table: Vec<String> = (0..=15).map(told).collect();
        let want = [
            "stopped",
            "stopped",
            "unexpected (paused for reason 2)",
            "unexpected (paused for reason 3)",
            "unexpected (paused for reason 4)",
            "error",
            "error",
            "unexpected (paused for reason 7)",
            "stopped",
            "unexpected (paused for reason 9)",
            "error",
            "created",
            "unexpected (paused for reason 12)",
            "error",
            "error",
            "unexpected (paused for reason 15)",
        ];
        assert_eq!(table, want);
    }

    #[test]
    fn kvm_is_found_in_the_capabilities() {
        let guest = |arch: &str, domains: &str| {
            format!(
                "<guest><os_type>hvm</os_type><arch name='{arch}'><wordsize>64</wordsize>\
                 <machine maxCpus='1'>q35</machine>{domains}</arch></guest>"
            )
        };
        let x86 = guest("x86_64", "<domain type='qemu'/><domain type='kvm'/>");
        let arm = guest("aarch64", "<domain type='qemu'/>");
        let text = format!("<capabilities><host><cpu/></host>{x86}{arm}</capabilities>");
        let facts = Facts::parse(&text).expect("capabilities");
        assert!(facts.has_kvm("x86_64") && !facts.has_kvm("aarch64"));
    }

    #[test]
    fn errors_are_classified() {
        for (code, kind) in [
            (ErrorNumber::NoDomain, ErrorKind::NotFound),
            (ErrorNumber::NoStorageVolume, ErrorKind::NotFound),
            (ErrorNumber::StorageVolExist, ErrorKind::AlreadyExists),
            (ErrorNumber::AuthFailed, ErrorKind::Unauthenticated),
            (ErrorNumber::AccessDenied, ErrorKind::PermissionDenied),
            (ErrorNumber::NoConnect, ErrorKind::Unreachable),
            (ErrorNumber::AgentUnresponsive, ErrorKind::Unreachable),
            (ErrorNumber::AgentCommandTimeout, ErrorKind::TimedOut),
            (ErrorNumber::NoMemory, ErrorKind::NoCapacity),
            (ErrorNumber::ConfigUnsupported, ErrorKind::Unsupported),
            (ErrorNumber::XmlError, ErrorKind::InvalidRequest),
            (ErrorNumber::SExprSerial, ErrorKind::Unexpected),
        ] {
            assert_eq!(classify(code, ErrorDomain::Qemu).0, kind, "{code}");
        }
        let closed = classify(ErrorNumber::SystemError, ErrorDomain::Rpc);
        assert_eq!(closed.0, ErrorKind::Unreachable);
    }
}
