//! The way into a runner: its own processes and files.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use jiff::Timestamp;
use runner_manager_core::{
    Error, ErrorKind, ExchangeFile, Guest, GuestFile, GuestProbe, Result, RunnerName, StopMode,
    StopOutcome,
};

use crate::cloud::blocking;
use crate::host::Host;
use crate::record::Record;
use crate::scan::Seen;
use crate::{end, exchange};

/// How long the runner program may take to show its listener's process.
const STARTING: Duration = Duration::from_secs(60);

#[derive(Debug)]
pub(crate) struct ProcessGuest {
    pub(crate) host: Arc<Host>,
    pub(crate) name: RunnerName,
}

/// What the processes say.
fn judge(record: &Record, members: &[Seen], installed: bool, age: Duration) -> GuestProbe {
    let has = |comm: &str| members.iter().any(|seen| seen.comm == comm);
    // While the runner program starts, its main process stands for its listener.
    let starts = age < STARTING && members.iter().any(|seen| Some(seen.id) == record.main);
    GuestProbe {
        installed,
        cloud_init: None,
        listener: has(end::LISTENER) || starts,
        worker: has(end::WORKER),
    }
}

fn record(host: &Host, name: &RunnerName) -> Result<Record> {
    host.record(name)?
        .ok_or_else(|| Error::new(ErrorKind::NotFound, "the runner's folder is gone"))
}

fn probe(host: &Host, name: &RunnerName) -> Result<GuestProbe> {
    let record = record(host, name)?;
    let installed = exchange::has(
        &host.folder(name),
        ExchangeFile::Installed,
        host.owner(&record),
    )?;
    let members = host.fence(&record).members(&host.scanner)?;
    let age = Timestamp::now().duration_since(record.created_at);
    let age = Duration::try_from(age).unwrap_or_default();
    Ok(judge(&record, &members, installed, age))
}

#[async_trait]
impl Guest for ProcessGuest {
    async fn probe(&self) -> Result<GuestProbe> {
        let (host, name) = (Arc::clone(&self.host), self.name.clone());
        blocking(move || probe(&host, &name)).await
    }

    async fn stop_runner(&self, mode: StopMode) -> Result<StopOutcome> {
        let (host, name) = (Arc::clone(&self.host), self.name.clone());
        blocking(move || end::stop(&host, &name, mode)).await
    }

    async fn read_file(&self, file: ExchangeFile) -> Result<GuestFile> {
        let (host, name) = (Arc::clone(&self.host), self.name.clone());
        blocking(move || {
            let record = record(&host, &name)?;
            exchange::read(&host.folder(&name), file.file_name(), host.owner(&record))
        })
        .await
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record::{Identity, Phase};

    #[test]
    fn a_starting_main_process_stands_for_the_listener_for_a_minute() {
        let main = Identity { pid: 2, start: 3 };
        let record = Record {
            name: "app-0123456789ab".parse().unwrap(),
            created_at: Timestamp::UNIX_EPOCH,
            phase: Phase::Running,
            uid: None,
            boot_id: String::new(),
            main: Some(main),
        };
        let seen = |id, comm: &str| Seen {
            id,
            parent: 1,
            session: 2,
            comm: comm.into(),
            state: 'S',
            uid: 0,
            marker: None,
        };
        let (young, old) = (Duration::from_secs(1), Duration::from_secs(61));
        let shell = [seen(main, "sh")];
        assert!(judge(&record, &shell, true, young).listener);
        assert!(!judge(&record, &shell, true, old).listener);
        assert!(!judge(&record, &[], true, young).listener);
        let other = Identity { pid: 9, start: 9 };
        let listens = [seen(main, "sh"), seen(other, end::LISTENER)];
        assert!(judge(&record, &listens, true, old).listener);
        assert!(!judge(&record, &listens, true, old).worker);
        assert!(judge(&record, &[seen(other, end::WORKER)], true, old).worker);
    }
}
