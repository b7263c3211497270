//! GitHub's objects.

use jiff::Timestamp;
use serde_json::{Map, Value, json};

use crate::core::Core;
use crate::state::{Job, Run, Runner};

/// The commit that every run is of.
const SHA: &str = "6dcb09b5b57875f334f61aebed695e2e4193db5e";

/// A time as GitHub writes it: whole seconds, UTC.
pub(crate) fn time(at: Timestamp) -> String {
    at.strftime("%Y-%m-%dT%H:%M:%SZ").to_string()
}

/// A number for a name, the same every time.
pub(crate) fn number(name: &str) -> u64 {
    let fold = |sum: u64, byte: u8| (sum * 31 + u64::from(byte.to_ascii_lowercase())) % 1_000_003;
    name.bytes().fold(7, fold) + 1
}

/// A runner.
pub(crate) fn runner(runner: &Runner) -> Value {
    let labels: Vec<Value> = runner
        .labels
        .iter()
        .map(|name| {
            let given = ["self-hosted", "linux", "x64", "arm64"];
            let own = given.iter().any(|word| name.eq_ignore_ascii_case(word));
            let kind = if own { "read-only" } else { "custom" };
            json!({ "id": number(name), "name": name, "type": kind })
        })
        .collect();
    json!({
        "id": runner.id,
        "runner_group_id": runner.group_id,
        "name": runner.name,
        "os": if runner.online_at.is_some() { "Linux" } else { "unknown" },
        "status": if runner.is_online() { "online" } else { "offline" },
        "busy": runner.job.is_some(),
        "ephemeral": runner.ephemeral,
        "labels": labels,
    })
}

/// A runner group.
pub(crate) fn group(base: &str, id: u64, name: &str) -> Value {
    json!({
        "id": id,
        "name": name,
        "visibility": "all",
        "default": id == 1,
        "runners_url": format!("{base}/actions/runner-groups/{id}/runners"),
        "inherited": false,
        "allows_public_repositories": true,
        "restricted_to_workflows": false,
        "selected_workflows": [],
        "workflow_restrictions_read_only": false,
    })
}

/// A job.
pub(crate) fn job(url: &str, job: &Job) -> Value {
    let repo = &job.spec.repo;
    let (api, web) = (
        format!("{url}/api/v3/repos/{repo}"),
        format!("{url}/{repo}"),
    );
    let (id, run) = (job.id, job.run_id());
    let runner = job.picked_up_by();
    let group = runner.map(|(_, _, group)| if *group == 1 { "Default" } else { "Other" });
    json!({
        "id": id,
        "run_id": run,
        "run_url": format!("{api}/actions/runs/{run}"),
        "run_attempt": 1,
        "node_id": format!("J_{id}"),
        "head_sha": SHA,
        "head_branch": job.spec.branch,
        "url": format!("{api}/actions/jobs/{id}"),
        "html_url": format!("{web}/actions/runs/{run}/job/{id}"),
        "status": job.status.as_str(),
        "conclusion": job.conclusion.map(crate::Conclusion::as_str),
        "created_at": time(job.queued_at),
        // GitHub fills this for waiting jobs too.
        "started_at": time(job.started_at.unwrap_or(job.queued_at)),
        "completed_at": job.completed_at.map(time),
        "name": job.spec.name,
        "steps": [],
        "check_run_url": format!("{api}/check-runs/{id}"),
        "labels": job.spec.labels,
        "runner_id": runner.map(|(id, ..)| id),
        "runner_name": runner.map(|(_, name, _)| name),
        "runner_group_id": runner.map(|(_, _, group)| group),
        "runner_group_name": group,
        "workflow_name": job.spec.workflow,
    })
}

/// A workflow run.
pub(crate) fn run(core: &Core, all: &Run<'_>) -> Value {
    let job = all.first;
    let (repo, run) = (&job.spec.repo, job.run_id());
    let api = format!("{}/repos/{repo}", core.api_url());
    let url = format!("{api}/actions/runs/{run}");
    let workflow = number(&job.spec.workflow);
    let author = json!({ "name": "Octo Cat", "email": "octocat@example.com" });
    json!({
        "id": run,
        "name": job.spec.workflow,
        "node_id": format!("R_{run}"),
        "head_branch": job.spec.branch,
        "head_sha": SHA,
        "path": format!(".github/workflows/{}.yml", job.spec.workflow),
        "display_title": job.spec.workflow,
        "run_number": job.id,
        "run_attempt": 1,
        "event": job.spec.event,
        "status": all.status,
        "conclusion": all.conclusion.map(crate::Conclusion::as_str),
        "workflow_id": workflow,
        "url": url,
        "html_url": format!("{}/{repo}/actions/runs/{run}", core.url),
        "pull_requests": [],
        "created_at": time(job.queued_at),
        "updated_at": time(all.changed_at),
        "run_started_at": time(job.queued_at),
        "jobs_url": format!("{url}/jobs"),
        "logs_url": format!("{url}/logs"),
        "check_suite_url": format!("{api}/check-suites/{run}"),
        "artifacts_url": format!("{url}/artifacts"),
        "cancel_url": format!("{url}/cancel"),
        "rerun_url": format!("{url}/rerun"),
        "workflow_url": format!("{api}/actions/workflows/{workflow}"),
        "head_commit": {
            "id": SHA,
            "tree_id": SHA,
            "message": "A commit",
            "timestamp": time(job.queued_at),
            "author": author,
            "committer": author,
        },
        "repository": repository(&core.url, repo),
        "head_repository": repository(&core.url, repo),
    })
}

/// An account.
pub(crate) fn user(url: &str, login: &str, kind: &str) -> Value {
    let api = format!("{url}/api/v3/users/{login}");
    let mut user = Map::new();
    for name in [
        "followers",
        "following",
        "gists",
        "starred",
        "subscriptions",
        "organizations",
        "repos",
        "events",
        "received_events",
    ] {
        user.insert(format!("{name}_url"), json!(format!("{api}/{name}")));
    }
    let fixed = json!({
        "login": login,
        "id": number(login),
        "node_id": format!("U_{}", number(login)),
        "avatar_url": format!("{url}/avatars/{login}"),
        "gravatar_id": "",
        "url": api,
        "html_url": format!("{url}/{login}"),
        "type": kind,
        "site_admin": false,
    });
    extend(user, fixed)
}

/// A repository, with all of its many addresses.
pub(crate) fn repository(url: &str, full_name: &str) -> Value {
    let api = format!("{url}/api/v3/repos/{full_name}");
    let (owner, name) = full_name.split_once('/').unwrap_or((full_name, ""));
    let mut repository = Map::new();
    for name in [
        "archive",
        "assignees",
        "blobs",
        "branches",
        "collaborators",
        "comments",
        "commits",
        "compare",
        "contents",
        "contributors",
        "deployments",
        "downloads",
        "events",
        "forks",
        "git_commits",
        "git_refs",
        "git_tags",
        "hooks",
        "issue_comment",
        "issue_events",
        "issues",
        "keys",
        "labels",
        "languages",
        "merges",
        "milestones",
        "notifications",
        "pulls",
        "releases",
        "stargazers",
        "statuses",
        "subscribers",
        "subscription",
        "tags",
        "teams",
        "trees",
    ] {
        repository.insert(format!("{name}_url"), json!(format!("{api}/{name}")));
    }
    let fixed = json!({
        "id": number(full_name),
        "node_id": format!("R_{}", number(full_name)),
        "name": name,
        "full_name": full_name,
        "owner": user(url, owner, "Organization"),
        "private": true,
        "html_url": format!("{url}/{full_name}"),
        "description": null,
        "fork": false,
        "url": api,
    });
    extend(repository, fixed)
}

/// A repository as webhooks show it: with more facts than the API's short form.
pub(crate) fn webhook_repository(url: &str, full_name: &str) -> Value {
    let host = url.trim_start_matches("http://");
    let web = format!("{url}/{full_name}");
    let more = json!({
        "archived": false,
        "clone_url": format!("{web}.git"),
        "created_at": time(Timestamp::UNIX_EPOCH),
        "default_branch": "main",
        "disabled": false,
        "forks": 0,
        "forks_count": 0,
        "git_url": format!("git://{host}/{full_name}.git"),
        "has_downloads": false,
        "has_issues": true,
        "has_pages": false,
        "has_projects": false,
        "has_wiki": false,
        "homepage": null,
        "language": null,
        "license": null,
        "mirror_url": null,
        "open_issues": 0,
        "open_issues_count": 0,
        "pushed_at": time(Timestamp::UNIX_EPOCH),
        "size": 1,
        "ssh_url": format!("ssh://git@{host}/{full_name}.git"),
        "stargazers_count": 0,
        "svn_url": web,
        "updated_at": time(Timestamp::UNIX_EPOCH),
        "watchers": 0,
        "watchers_count": 0,
    });
    match repository(url, full_name) {
        Value::Object(short) => extend(short, more),
        other => other,
    }
}

/// The organization of a repository, as webhooks show it.
pub(crate) fn webhook_organization(url: &str, repository: &str) -> Value {
    let login = repository.split('/').next().unwrap_or_default();
    let api = format!("{url}/api/v3/orgs/{login}");
    json!({
        "login": login,
        "id": number(login),
        "node_id": format!("O_{}", number(login)),
        "url": api,
        "avatar_url": format!("{url}/avatars/{login}"),
        "description": null,
        "events_url": format!("{api}/events"),
        "hooks_url": format!("{api}/hooks"),
        "issues_url": format!("{api}/issues"),
        "members_url": format!("{api}/members{{/member}}"),
        "public_members_url": format!("{api}/public_members{{/member}}"),
        "repos_url": format!("{api}/repos"),
    })
}

fn extend(mut map: Map<String, Value>, more: Value) -> Value {
    if let Value::Object(more) = more {
        map.extend(more);
    }
    Value::Object(map)
}
