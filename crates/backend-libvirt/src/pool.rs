//! The storage pool of a host, and the runners' volumes in it.

use std::collections::HashSet;

use runner_manager_core::{Error, ErrorKind, Leftover, NamePrefix, Result};
use serde::Deserialize;
use virt::connect::Connect;
use virt::storage_pool::StoragePool;
use virt::storage_vol::StorageVol;
use virt::stream::Stream;
use virt_sys as sys;

use crate::api::{self, failed, unless_gone};
use crate::config::LibvirtConfig;
use crate::host::{Host, Opened};
use crate::names::{self, Attempt, Part};
use crate::volume::{Image, Volume};
use crate::{seed, volume};

/// How much of a stream is moved at once.
const CHUNK: usize = 64 * 1024;

/// How much of the end of a console log is read.
const CONSOLE_BYTES: u64 = 64 * 1024;

/// How many pieces virtlogd puts aside of one console log, unless told otherwise.
const PIECES: usize = 3;

fn pool(connection: &Connect, name: &str) -> Result<StoragePool> {
    StoragePool::lookup_by_name(connection, name)
        .map_err(failed("find the storage pool"))
        .map_err(|error| error.with_context("storage pool", name))
}

fn find(pool: &StoragePool, name: &str) -> Result<Option<StorageVol>> {
    unless_gone(StorageVol::lookup_by_name(pool, name).map_err(failed("find a volume")))
}

fn describe(volume: &StorageVol) -> Result<Volume> {
    let xml = volume
        .get_xml_desc(0)
        .map_err(failed("read a volume's description"))?;
    Volume::parse(&xml)
}

/// The pool that runners' volumes are in.
pub(crate) struct Pool<'a> {
    connection: &'a Connect,
    pool: StoragePool,
}

impl<'a> Pool<'a> {
    pub(crate) fn open(connection: &'a Connect, config: &LibvirtConfig) -> Result<Self> {
        Ok(Self {
            connection,
            pool: pool(connection, &config.storage_pool)?,
        })
    }

    /// The folder that it stands for.
    pub(crate) fn folder(&self) -> Result<String> {
        #[derive(Deserialize)]
        struct Description {
            target: Option<Target>,
        }
        #[derive(Deserialize)]
        struct Target {
            path: String,
        }
        let xml = self
            .pool
            .get_xml_desc(0)
            .map_err(failed("read the storage pool's description"))?;
        let description: Description = api::read(&xml)?;
        let path = description.target.map(|target| target.path);
        path.filter(|path| path.starts_with('/')).ok_or_else(|| {
            let message = "the storage pool is no folder; use one of type `dir`, `fs` or `netfs`";
            Error::new(ErrorKind::InvalidConfig, message).with_context("key", "storage_pool")
        })
    }

    fn create(&self, xml: &str) -> Result<StorageVol> {
        StorageVol::create_xml(&self.pool, xml, 0).map_err(failed("make a volume"))
    }

    /// Makes the disk of a runner.
    pub(crate) fn make_disk(&self, name: &str, image: &Image, bytes: Option<u64>) -> Result<()> {
        self.create(&volume::disk(name, image, bytes)?).map(drop)
    }

    /// Makes an empty volume, so that it is known under its name before something writes to it.
    pub(crate) fn make_empty(&self, name: &str) -> Result<()> {
        self.create(&volume::raw(name, 0)?).map(drop)
    }

    /// Makes a volume of bytes.
    pub(crate) fn make(&self, name: &str, bytes: &[u8]) -> Result<()> {
        let size = bytes.len() as u64;
        let volume = self.create(&volume::raw(name, size)?)?;
        let stream = Stream::new(self.connection, 0).map_err(failed("upload a volume"))?;
        volume
            .upload(&stream, 0, size, 0)
            .map_err(failed("upload a volume"))?;
        match send(&stream, bytes) {
            Ok(()) => stream.finish().map_err(failed("upload a volume")),
            Err(error) => {
                // The error of the upload says more.
                drop(stream.abort());
                Err(error)
            }
        }
    }

    fn read(&self, volume: &StorageVol, offset: u64, length: u64) -> Result<Vec<u8>> {
        let stream = Stream::new(self.connection, 0).map_err(failed("read a volume"))?;
        volume
            .download(&stream, offset, length, 0)
            .map_err(failed("read a volume"))?;
        let mut bytes = Vec::new();
        let mut chunk = vec![0; CHUNK];
        let outcome = loop {
            match stream.recv(&mut chunk) {
                Ok(0) => break stream.finish().map_err(failed("read a volume")),
                Ok(count) => bytes.extend_from_slice(&chunk[..count]),
                Err(error) => {
                    drop(stream.abort());
                    break Err(failed("read a volume")(error));
                }
            }
        };
        outcome.map(|()| bytes)
    }

    /// Removes a volume. One that is gone already is `Ok`.
    pub(crate) fn remove(&self, name: &str) -> Result<()> {
        let Some(volume) = find(&self.pool, name)? else {
            return Ok(());
        };
        unless_gone(volume.delete(0).map_err(failed("remove a volume")))
            .map(drop)
            .map_err(|error| error.with_context("volume", name))
    }

    /// Removes every volume of an attempt; the first failure is told, the others are tried.
    pub(crate) fn remove_all(&self, attempt: &Attempt, uefi: bool) -> Result<()> {
        if uefi && find(&self.pool, &attempt.volume(Part::Variables))?.is_none() {
            // QEMU's driver made it beside the pool's back.
            self.refresh();
        }
        let console = attempt.volume(Part::Console);
        let pieces = (0..PIECES).map(|piece| format!("{console}.{piece}"));
        let names = [Part::Seed, Part::Disk, Part::Variables].map(|part| attempt.volume(part));
        let names = names.into_iter().chain([console.clone()]).chain(pieces);
        names
            .map(|name| self.remove(&name))
            .fold(Ok(()), Result::and)
    }

    /// Looks at the folder again: files that others made in it become volumes.
    fn refresh(&self) {
        // It is refused while a volume is being made, and then the next look finds what is new.
        if let Err(error) = self.pool.refresh(0) {
            tracing::debug!(%error, "the storage pool was not refreshed");
        }
    }

    /// The end of a console's text.
    pub(crate) fn console(&self, attempt: &Attempt) -> Result<Option<String>> {
        let Some(volume) = find(&self.pool, &attempt.volume(Part::Console))? else {
            return Ok(None);
        };
        let info = volume
            .get_info()
            .map_err(failed("ask for the console log's size"))?;
        let size = info.allocation.max(info.capacity);
        let length = size.min(CONSOLE_BYTES);
        if length == 0 {
            return Ok(Some(String::new()));
        }
        let bytes = self.read(&volume, size - length, length)?;
        let text = String::from_utf8_lossy(&bytes);
        Ok(Some(text.trim_end_matches('\0').to_owned()))
    }

    /// Whether a volume whose name says that it is the manager's is what the manager makes.
    fn is_proven(&self, volume: &StorageVol, part: Part, described: &Volume) -> Result<bool> {
        match part {
            Part::Disk => Ok(described.is_overlay()),
            Part::Seed => {
                let (offset, length) = seed::DESCRIPTOR;
                if described.bytes() < offset + length {
                    return Ok(false);
                }
                let bytes = self.read(volume, offset, length)?;
                // One that was never filled is all zeros.
                Ok(seed::is_ours(&bytes) || bytes.iter().all(|byte| *byte == 0))
            }
            // Made by libvirt, under the name that the manager gave.
            Part::Variables | Part::Console => Ok(true),
        }
    }
}

fn send(stream: &Stream, bytes: &[u8]) -> Result<()> {
    let mut rest = bytes;
    while !rest.is_empty() {
        let chunk = &rest[..rest.len().min(CHUNK)];
        let sent = stream.send(chunk).map_err(failed("upload a volume"))?;
        rest = &rest[sent..];
    }
    Ok(())
}

/// The image that disks are laid over.
pub(crate) fn image(connection: &Connect, config: &LibvirtConfig) -> Result<Image> {
    let pool = pool(connection, config.image_pool())?;
    let missing = || {
        let message = "the image is not in its storage pool; upload it, or refresh the pool";
        Error::new(ErrorKind::NotFound, message)
            .with_context("image", &config.image)
            .with_context("storage pool", config.image_pool())
    };
    let volume = find(&pool, &config.image)?.ok_or_else(missing)?;
    let path = volume
        .get_path()
        .map_err(failed("ask for the image's path"))?;
    Ok(describe(&volume)?.image(path))
}

/// The volumes of a prefix that no domain and no launch under way needs.
pub(crate) fn leftovers(
    host: &Host,
    opened: &Opened,
    config: &LibvirtConfig,
    prefix: &NamePrefix,
) -> Result<Vec<Leftover>> {
    let connection = &opened.session.connection;
    let pool = Pool::open(connection, config)?;
    pool.refresh();
    let volumes = pool
        .pool
        .list_all_volumes(0)
        .map_err(failed("list volumes"))?;
    // After the volumes: what a launch made since is not among them.
    let used = attempts(host, connection, prefix)?;
    let mut found = Vec::new();
    for volume in volumes {
        let name = volume.get_name().map_err(failed("read a volume's name"))?;
        let Some((attempt, part)) = names::owned(prefix, &name) else {
            continue;
        };
        if used.contains(&attempt) {
            continue;
        }
        // It may be gone by now.
        let Some(described) = unless_gone(describe(&volume))? else {
            continue;
        };
        if unless_gone(pool.is_proven(&volume, part, &described))? != Some(true) {
            continue;
        }
        found.push(Leftover {
            kind: part.kind(),
            id: format!("{name}@{}", host.config.uri),
            name: attempt.runner,
            created_at: described.changed_at(),
        });
    }
    Ok(found)
}

/// The attempts of a prefix that have a domain, or are about to.
fn attempts(host: &Host, connection: &Connect, prefix: &NamePrefix) -> Result<HashSet<Attempt>> {
    let mut attempts: HashSet<Attempt> = host.memory().under_way.keys().cloned().collect();
    let flags = sys::VIR_CONNECT_LIST_DOMAINS_ACTIVE | sys::VIR_CONNECT_LIST_DOMAINS_INACTIVE;
    let domains = connection
        .list_all_domains(flags)
        .map_err(failed("list domains"))?;
    for domain in domains {
        let name = domain.get_name().map_err(failed("read a domain's name"))?;
        if let Some(runner) = prefix.owned(&name) {
            let uuid = domain.get_uuid().map_err(failed("read a domain's UUID"))?;
            attempts.insert(Attempt::of(&runner, uuid));
        }
    }
    Ok(attempts)
}
