//! What is on a host: the domains, and which of them are the manager's.

use std::collections::HashSet;

use runner_manager_core::{
    CloudInstance, CloudRunnerState, Error, ErrorKind, NamePrefix, Result, RunnerName,
};
use uuid::Uuid;
use virt::connect::Connect;
use virt::domain::Domain;
use virt::error::ErrorNumber;
use virt_sys as sys;

use crate::api::{self, Native, failed, unless_gone};
use crate::domain::{Mark, NAMESPACE};
use crate::host::{Host, Opened};
use crate::native;
use crate::place::Capacity;

/// A domain that is proven to be the manager's.
pub(crate) struct Owned {
    pub(crate) domain: Domain,
    pub(crate) uuid: Uuid,
}

/// The cloud's own id of an instance: the domain's UUID and its host.
fn native_id(uuid: Uuid, host: &Host) -> String {
    format!("{uuid}@{}", host.config.uri)
}

/// The two parts of [`native_id`].
pub(crate) fn split(native_id: &str) -> Option<(Uuid, &str)> {
    let (uuid, uri) = native_id.split_once('@')?;
    Some((uuid.parse().ok()?, uri))
}

fn instance(mark: &Mark, uuid: Uuid, host: &Host, state: CloudRunnerState) -> CloudInstance {
    CloudInstance {
        name: mark.name.clone(),
        native_id: native_id(uuid, host),
        state,
        created_at: mark.created_at,
        addresses: Vec::new(),
    }
}

/// The instance that a launch has just made.
pub(crate) fn started(mark: &Mark, uuid: Uuid, host: &Host) -> CloudInstance {
    let running = Native {
        state: sys::VIR_DOMAIN_RUNNING,
        reason: 0,
    };
    let instance = instance(mark, uuid, host, api::state(running));
    let mut memory = host.memory();
    memory.marks.insert(uuid, Some(mark.clone()));
    memory.seen.push(instance.clone());
    instance
}

fn uuid_of(domain: &Domain) -> Result<Uuid> {
    domain.get_uuid().map_err(failed("read a domain's UUID"))
}

/// The mark of a domain, when it bears one under its own name. It is asked for once.
fn mark_of(host: &Host, domain: &Domain, uuid: Uuid, name: &RunnerName) -> Result<Option<Mark>> {
    if let Some(known) = host.memory().marks.get(&uuid) {
        return Ok(known.clone());
    }
    let kind = sys::VIR_DOMAIN_METADATA_ELEMENT.cast_signed();
    let mark = match domain.get_metadata(kind, Some(NAMESPACE), 0) {
        // What cannot be read is not the manager's.
        Ok(xml) => api::read::<Mark>(&xml).ok(),
        Err(error) if error.code() == ErrorNumber::NoDomainMetadata => None,
        Err(error) => return Err(failed("read a domain's metadata")(error)),
    };
    let mark = mark.filter(|mark| mark.name == *name);
    host.memory().marks.insert(uuid, mark.clone());
    Ok(mark)
}

/// The instances of a prefix, in one call, and one more for each domain that was never seen.
pub(crate) fn list(
    host: &Host,
    opened: &Opened,
    prefix: &NamePrefix,
) -> Result<Vec<CloudInstance>> {
    let stats = native::domains(&opened.session.connection).map_err(failed("list domains"))?;
    let mut found = Vec::new();
    let mut there = HashSet::new();
    for stats in stats {
        let name = stats
            .domain
            .get_name()
            .map_err(failed("read a domain's name"))?;
        let Some(name) = prefix.owned(&name) else {
            continue;
        };
        let uuid = uuid_of(&stats.domain)?;
        there.insert(uuid);
        // It may be gone by now.
        let mark = unless_gone(mark_of(host, &stats.domain, uuid, &name))?.flatten();
        if let Some(mark) = mark {
            found.push(instance(&mark, uuid, host, api::state(stats.native)));
        }
    }
    let mut memory = host.memory();
    memory.marks.retain(|uuid, _| there.contains(uuid));
    memory.seen.clone_from(&found);
    Ok(found)
}

/// The domain of a name, when it is the manager's.
///
/// # Errors
/// [`ErrorKind::AlreadyExists`] for somebody else's.
pub(crate) fn find(host: &Host, connection: &Connect, name: &RunnerName) -> Result<Option<Owned>> {
    let found = Domain::lookup_by_name(connection, &name.to_string());
    let Some(domain) = unless_gone(found.map_err(failed("look for a domain")))? else {
        return Ok(None);
    };
    let uuid = uuid_of(&domain)?;
    match unless_gone(mark_of(host, &domain, uuid, name))? {
        Some(Some(_)) => Ok(Some(Owned { domain, uuid })),
        Some(None) => {
            let message = "a domain of this name exists, and is not the manager's";
            Err(Error::new(ErrorKind::AlreadyExists, message).with_context("domain", name))
        }
        None => Ok(None),
    }
}

/// The instance of a name, if it is the manager's.
pub(crate) fn get(
    host: &Host,
    opened: &Opened,
    name: &RunnerName,
) -> Result<Option<CloudInstance>> {
    let owned = match find(host, &opened.session.connection, name) {
        Ok(Some(owned)) => owned,
        Ok(None) => return Ok(None),
        Err(error) if error.kind() == ErrorKind::AlreadyExists => return Ok(None),
        Err(error) => return Err(error),
    };
    let state = owned
        .domain
        .get_state()
        .map_err(failed("ask for a domain's state"));
    let native = unless_gone(state)?.map(|(state, reason)| Native {
        state,
        reason: reason.cast_unsigned(),
    });
    let mark = mark_of(host, &owned.domain, owned.uuid, name)?;
    Ok(native
        .zip(mark)
        .map(|(native, mark)| instance(&mark, owned.uuid, host, api::state(native))))
}

/// What a host has room for.
pub(crate) fn capacity(host: &Host, opened: &Opened, overcommit: f64) -> Result<Capacity> {
    let connection = &opened.session.connection;
    let node = connection
        .get_node_info()
        .map_err(failed("ask for the host's size"))?;
    let available = native::available_kib(connection).map_err(failed("ask for free memory"))?;
    let domains = native::domains(connection).map_err(failed("list domains"))?;
    let reserved = u64::from(host.config.reserved_memory_mib);
    let mut capacity = Capacity {
        memory_mib: (node.memory / 1024).saturating_sub(reserved),
        free_mib: (available / 1024).saturating_sub(reserved),
        given_mib: domains.iter().map(|domain| domain.memory_kib / 1024).sum(),
        cpus: f64::from(node.cpus) * overcommit,
        given_cpus: domains.iter().map(|domain| domain.vcpus).sum(),
    };
    for need in host.memory().under_way.values() {
        // Its domain may be among those listed: then it counts twice, for a moment.
        capacity.given_mib += u64::from(need.memory_mib);
        capacity.free_mib = capacity.free_mib.saturating_sub(need.memory_mib.into());
        capacity.given_cpus += need.vcpus;
    }
    Ok(capacity)
}

/// Ends the domain of a runner, and says whether none of this UUID is left. One that is gone
/// already is fine; one without the manager's mark is left alone.
pub(crate) fn destroy(
    host: &Host,
    connection: &Connect,
    uuid: Uuid,
    name: &RunnerName,
) -> Result<bool> {
    let look = || {
        let found = Domain::lookup_by_uuid(connection, uuid).map_err(failed("look for a domain"));
        unless_gone(found)
    };
    let Some(domain) = look()? else {
        return Ok(true);
    };
    match unless_gone(mark_of(host, &domain, uuid, name))? {
        Some(Some(_)) => {}
        Some(None) => return Ok(false),
        None => return Ok(true),
    }
    let error = match domain.destroy() {
        Ok(()) => return Ok(true),
        Err(error) => failed("end a domain")(error),
    };
    // It may have ended by itself just now, which libvirt tells in several ways.
    match look()? {
        None => Ok(true),
        Some(_) => Err(error),
    }
}
