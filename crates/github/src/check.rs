//! Looks whether everything that the manager needs of GitHub is there.

use jiff::Timestamp;
use runner_manager_core::{Error, ErrorKind, GitHubPath};
use serde_json::json;

use crate::answer::Answer;
use crate::call::{Call, Safety};
use crate::jobs::repository;
use crate::model::Finding;
use crate::{GitHub, urls};

/// The most that this machine's clock may differ from GitHub's, in seconds. App proofs are
/// backdated by 60.
const MAX_SKEW: i64 = 45;

impl GitHub {
    /// Looks at the way to GitHub, the clock, the credential, the permissions in a scope and
    /// the calls that are left, and says what to do about what is wrong. Makes about five
    /// calls, and a registration and a removal token that nobody uses.
    pub async fn check(&self, path: &GitHubPath) -> Vec<Finding> {
        let mut findings = Vec::new();
        let url = urls::join(&self.0.api, &["meta"], &[]);
        let call = Call::get(url.clone(), "none");
        match self.0.rest.send(&call, &url, None, None).await {
            Ok(answer) => {
                let reached = reach(&answer);
                // Another server's clock says nothing.
                let clock = reached.ok.then(|| clock(&answer, Timestamp::now()));
                findings.push(reached);
                findings.extend(clock.flatten());
            }
            Err(failure) => findings.push(bad("GitHub cannot be reached", &failure.error)),
        }
        if findings.first().is_some_and(|finding| !finding.ok) {
            return findings;
        }
        self.check_scope(path, &mut findings).await;
        if let Some(limit) = self.rate_limit() {
            let ok = limit.remaining > limit.limit / 10;
            findings.push(Finding {
                ok,
                what: format!(
                    "{} of {} calls are left until {}",
                    limit.remaining, limit.limit, limit.reset_at
                ),
                advice: (!ok).then(|| "wait, or use a GitHub App of its own".to_owned()),
            });
        }
        findings
    }

    /// Looks whether the queued jobs of a repository can be read: one call.
    pub async fn check_repository(&self, owner: &str, repo: &str) -> Finding {
        let segments = ["repos", owner, repo, "actions", "runs"];
        let query = [("status", "queued"), ("per_page", "1")];
        let url = urls::join(&self.0.api, &segments, &query);
        let call = Call::get(url, urls::NEEDS_JOBS);
        match self.send(&repository(owner, repo), &call).await {
            Ok(_) => good(&format!("the jobs of {owner}/{repo} can be read")),
            Err(e) => bad(&format!("the jobs of {owner}/{repo} cannot be read"), &e),
        }
    }

    /// Looks whether a GitHub Enterprise Server knows just-in-time configs, by a request that makes
    /// nothing: one call. Hosted ones do, and are not asked.
    pub async fn check_jit(&self, path: &GitHubPath) -> Option<Finding> {
        if !self.0.api.path().starts_with("/api/v3") {
            return None;
        }
        let rest = ["actions", "runners", "generate-jitconfig"];
        let url = urls::in_scope(&self.0.api, path, &rest, &[]);
        // It names no runner, which is refused where this is known.
        let call = Call::post(url, Some(json!({})), Safety::Once, urls::needs(path));
        let error = self.send(path, &call).await.err()?;
        let error = self.explain_jit(path, error).await;
        (error.kind() == ErrorKind::NotFound).then(|| {
            bad(
                &format!("just-in-time configs cannot be had in {path}"),
                &error,
            )
        })
    }

    async fn check_scope(&self, path: &GitHubPath, findings: &mut Vec<Finding>) {
        let url = urls::in_scope(&self.0.api, path, &["actions", "runners"], &[]);
        let first = Call::get(url, urls::needs(path));
        if let Err(e) = self.bearer(path, &first).await {
            findings.push(bad("the credential does not work", &e));
            return;
        }
        match self.first_runner(path).await {
            Err(e) if e.kind() == ErrorKind::Unauthenticated => {
                findings.push(bad("the credential does not work", &e));
                return;
            }
            Err(e) => {
                findings.push(bad(&format!("the runners of {path} cannot be listed"), &e));
                return;
            }
            Ok(()) => {
                findings.push(good("the credential is taken"));
                findings.push(good(&format!("the runners of {path} can be listed")));
            }
        }
        findings.push(match self.registration_token(path).await {
            Ok(_) => good(&format!("runners can be registered in {path}")),
            Err(e) => bad(&format!("runners cannot be registered in {path}"), &e),
        });
        findings.push(match self.remove_token(path).await {
            Ok(_) => good(&format!("runners can be removed from {path}")),
            Err(e) => bad(&format!("runners cannot be removed from {path}"), &e),
        });
        if let Some(group) = path.group() {
            findings.push(match self.group_id(path, Some(group)).await {
                Ok(_) => good(&format!("the runner group `{group}` is there")),
                Err(e) => bad(&format!("the runner group `{group}` cannot be used"), &e),
            });
        }
    }
}

fn good(what: &str) -> Finding {
    Finding {
        ok: true,
        what: what.to_owned(),
        advice: None,
    }
}

/// The client's errors end with what to do.
fn bad(what: &str, error: &Error) -> Finding {
    let advice = match error.message().split_once("; ") {
        Some((_, advice)) => advice.to_owned(),
        None => "see the error".to_owned(),
    };
    Finding {
        ok: false,
        what: format!("{what}: {error}"),
        advice: Some(advice),
    }
}

fn reach(answer: &Answer) -> Finding {
    let (status, kind) = (answer.status.as_u16(), answer.content_type());
    if !answer.may_be_api() {
        return Finding {
            ok: false,
            what: format!("what answers is not GitHub's API: status {status} with {kind}"),
            advice: Some(
                "check that `url` is GitHub's base address and that no proxy or login page stands between"
                    .to_owned(),
            ),
        };
    }
    if answer.status.is_server_error() {
        return Finding {
            ok: false,
            what: format!("GitHub is failing: status {status}"),
            advice: Some("look at https://www.githubstatus.com and try again later".to_owned()),
        };
    }
    good("GitHub can be reached")
}

fn clock(answer: &Answer, now: Timestamp) -> Option<Finding> {
    let ahead = now.as_second() - answer.date()?.as_second();
    let ok = ahead.abs() <= MAX_SKEW;
    let side = if ahead < 0 { "behind" } else { "ahead of" };
    Some(Finding {
        ok,
        what: format!("this machine's clock is {} s {side} GitHub's", ahead.abs()),
        advice: (!ok).then(|| "set the clock, for example with an NTP service".to_owned()),
    })
}
