//! Secrets, and where they must not be.

use runner_manager_core::{
    BootSecrets, Connected, CreateRunner, InstanceId, RemoveToken, RunnerCredential, RunnerName,
    Secret, Support, SupportServiceConfig,
};

use crate::bench::poll_times;
use crate::canary::CanarySecret;
use crate::case::check;
use crate::desk::Desk;
use crate::{Bench, Failure, Fault, Outcome, Place, Verdict, logs};
use runner_manager_secret_scan::contains;

/// A runner's whole life with secrets that are known again: created, listed, deleted. `look` is
/// called while it is created, while it listens and after it is gone.
struct Life {
    bench: Bench,
    manager: Connected,
    /// Of the credential and of the remove token.
    canaries: [CanarySecret; 2],
}

impl Life {
    async fn new(b: &Bench) -> Result<Self, Failure> {
        Ok(Self {
            bench: b.clone(),
            manager: b.manager().await?,
            canaries: [CanarySecret::new(), CanarySecret::new()],
        })
    }

    /// Looks into a place for both secrets.
    async fn look(&self, name: &RunnerName, place: Place, when: &str) -> Result<(), Failure> {
        let exposed = self.bench.harness.exposed(name, place).await?;
        for exposure in exposed {
            for canary in &self.canaries {
                let leaks = contains(&exposure.text, &canary.word);
                check!(!leaks, "a secret stands in {} {when}", exposure.place);
            }
        }
        Ok(())
    }

    async fn create(&self, id: &InstanceId, with_token: bool) -> Result<bool, Failure> {
        let [canary, _] = &self.canaries;
        let request = if with_token {
            match self.bench.token_request(&self.manager, canary, id.clone()) {
                Ok(request) => request,
                Err(_) => return Ok(false),
            }
        } else {
            self.bench.request_with(canary, id.clone())
        };
        self.manager.create_runner(request).await?;
        Ok(true)
    }

    async fn delete(&self, id: &InstanceId) -> Result<(), Failure> {
        let token = RemoveToken::new(self.canaries[1].token());
        self.manager.delete_runner(id, &token).await?;
        Ok(())
    }
}

/// The runner's life with each kind of credential, looked at all the while.
async fn kept_out_of(b: Bench, place: Place) -> Verdict {
    let life = Life::new(&b).await?;
    for with_token in [false, true] {
        let id = InstanceId::random();
        let name = b.prefix.runner_name(&id);
        let mut create = std::pin::pin!(life.create(&id, with_token));
        let created = loop {
            // Short-lived processes and files are seen too.
            if let Some(created) = poll_times(create.as_mut(), 3).await {
                break created?;
            }
            life.look(&name, place, "while the runner is created")
                .await?;
        };
        if !created {
            continue;
        }
        life.look(&name, place, "once the runner is created")
            .await?;
        b.listening(&life.manager, &id).await?;
        life.look(&name, place, "while the runner listens").await?;
        life.delete(&id).await?;
        life.look(&name, place, "after the runner is gone").await?;
    }
    Ok(Outcome::Verified)
}

pub(super) async fn not_in_process_arguments(b: Bench) -> Verdict {
    kept_out_of(b, Place::Arguments).await
}

pub(super) async fn not_in_files_that_others_can_read(b: Bench) -> Verdict {
    kept_out_of(b, Place::Files).await
}

pub(super) async fn not_in_metadata_that_others_can_read(b: Bench) -> Verdict {
    let manager = b.manager().await?;
    if let Support::Unsupported(_) = manager.capability().claim {
        return kept_out_of(b, Place::Metadata).await;
    }
    // What an instance boots with can be read by its jobs: it claims its credential.
    let id = InstanceId::random();
    let name = b.prefix.runner_name(&id);
    let canary = CanarySecret::new();
    let secrets = RunnerCredential::JitConfig(canary.jit());
    let secrets = BootSecrets::new(&secrets, &SupportServiceConfig::default())?;
    let nonce = Secret::new(format!("{}{}", InstanceId::random(), InstanceId::random()));
    let desk = Desk::open(nonce.clone(), secrets.to_json()).await?;
    let base = b.harness.reach(&b.prefix, desk.port()).await?;
    let url = format!("{base}/runner/{name}").parse();
    let url = url.map_err(|_| Failure::new("the harness names no URL"))?;
    // Made only now: its instances reach the desk.
    let manager = b.manager().await?;
    let request = CreateRunner {
        credential: RunnerCredential::Claim { url, nonce },
        ..b.request(id.clone())
    };
    manager.create_runner(request).await?;
    b.listening(&manager, &id).await?;
    let claims = desk.claims();
    check!(claims == 1, "the secrets were claimed {claims} times");
    for exposure in b.harness.exposed(&name, Place::Metadata).await? {
        let leaks = contains(&exposure.text, &canary.word);
        check!(!leaks, "a secret stands in {}", exposure.place);
    }
    Ok(Outcome::Verified)
}

pub(super) async fn not_in_logs_of_the_finest_level(b: Bench) -> Verdict {
    let life = Life::new(&b).await?;
    for with_token in [false, true] {
        let id = InstanceId::random();
        if life.create(&id, with_token).await? {
            b.listening(&life.manager, &id).await?;
            life.delete(&id).await?;
        }
    }
    for canary in &life.canaries {
        let lines = logs::lines_with(&canary.word).map_err(Failure::new)?;
        check!(lines.is_empty(), "a secret is logged: {}", lines[0].trim());
    }
    Ok(Outcome::Verified)
}

pub(super) async fn not_in_debug_nor_in_errors(b: Bench) -> Verdict {
    let life = Life::new(&b).await?;
    let [canary, remove] = &life.canaries;
    let mut texts = Vec::new();
    let faults = [
        Fault::Launch,
        Fault::LaunchMidway,
        Fault::LaunchAfterEffect,
        Fault::Quota,
        Fault::Down,
    ];
    let (mut failed, mut cannot) = (0, None);
    for fault in faults {
        let id = InstanceId::random();
        let request = b.request_with(canary, id.clone());
        texts.push(format!("{request:?} {request:#?}"));
        if let Err(reason) = b.harness.fail(&b.prefix, fault).await {
            cannot = Some(reason);
            continue;
        }
        if let Err(error) = life.manager.create_runner(request).await {
            texts.push(format!("{error} {error:?} {error:#?}"));
            failed += 1;
        }
        let token = RemoveToken::new(remove.token());
        let deleted = life.manager.delete_runner(&id, &token).await;
        texts.push(format!("{token:?} {deleted:?}"));
        b.harness.mend(&b.prefix).await;
        life.delete(&id).await?;
    }
    if let (0, Some(cannot)) = (failed, cannot) {
        return Err(cannot.into());
    }
    check!(failed > 0, "no launch failed, so that no error was seen");
    for text in &texts {
        for canary in &life.canaries {
            let leaks = contains(text.as_bytes(), &canary.word);
            check!(!leaks, "a secret is printed: {text}");
        }
    }
    b.cleaned(&life.manager).await?;
    Ok(Outcome::Verified)
}
