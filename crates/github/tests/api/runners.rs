//! Registering, listing and removing runners.

use runner_manager_core::{ErrorKind, GitHubPath, Labels};
use runner_manager_github::{Deleted, JitRequest};
use serde_json::json;

use crate::fake::{Fake, TOKEN, error_reply, json_reply, org, page, runner};

fn request(group: Option<&str>) -> JitRequest {
    JitRequest {
        name: "app-000000000001".into(),
        group: group.map(Into::into),
        labels: Labels::parse(["self-hosted", "big"]).unwrap(),
    }
}

#[tokio::test]
async fn tokens_are_made_for_every_kind_of_scope() {
    let fake = Fake::start(|_, _| {
        let body = json!({"token": "AABBCC", "expires_at": "2030-01-22T12:13:35.123-08:00"});
        json_reply(201, &body)
    })
    .await;
    let github = fake.client();
    for (scope, web) in [
        ("octo-org", "octo-org"),
        ("octo/hello", "octo/hello"),
        ("enterprises/acme", "enterprises/acme"),
    ] {
        let path = GitHubPath::parse(scope, None).unwrap();
        let token = github.registration_token(&path).await.unwrap();
        assert_eq!(token.token.expose(), "AABBCC");
        assert_eq!(token.expires_at.to_string(), "2030-01-22T20:13:35.123Z");
        let removal = github.remove_token(&path).await.unwrap();
        assert_eq!(removal.token.secret().expose(), "AABBCC");
        assert_eq!(github.scope_url(&path), format!("{}{web}", fake.url));
    }
    assert_eq!(
        fake.lines(),
        [
            "POST /orgs/octo-org/actions/runners/registration-token",
            "POST /orgs/octo-org/actions/runners/remove-token",
            "POST /repos/octo/hello/actions/runners/registration-token",
            "POST /repos/octo/hello/actions/runners/remove-token",
            "POST /enterprises/acme/actions/runners/registration-token",
            "POST /enterprises/acme/actions/runners/remove-token",
        ]
    );
    let first = &fake.seen()[0];
    assert_eq!(first.header("authorization"), format!("Bearer {TOKEN}"));
    assert_eq!(first.header("accept"), "application/vnd.github+json");
    assert_eq!(first.header("x-github-api-version"), "2022-11-28");
    assert!(first.header("user-agent").starts_with("runner-manager/"));
    assert_eq!(github.calls(), 6);
}

#[tokio::test]
async fn a_jit_config_carries_name_group_and_labels() {
    let fake = Fake::start(|seen, _| {
        if seen
            .line
            .starts_with("GET /orgs/octo-org/actions/runner-groups")
        {
            let groups = json!([{"id": 1, "name": "Default"}, {"id": 42, "name": "Big Ones"}]);
            return json_reply(200, &json!({"total_count": 2, "runner_groups": groups}));
        }
        let jit = json!({"runner": runner(9, "offline", false), "encoded_jit_config": "eyJh"});
        json_reply(201, &jit)
    })
    .await;
    let github = fake.client();
    let made = github.jit_config(&org(), &request(None)).await.unwrap();
    assert_eq!((made.runner.id, made.config.expose()), (9, "eyJh"));
    assert!(!made.runner.online);
    for _ in 0..2 {
        let grouped = request(Some("big ones"));
        github.jit_config(&org(), &grouped).await.unwrap();
    }
    let bodies: Vec<_> = fake.seen().into_iter().map(|seen| seen.body).collect();
    let body = |group| json!({"name": "app-000000000001", "runner_group_id": group, "labels": ["self-hosted", "big"]});
    assert_eq!(bodies[0], body(1));
    assert_eq!((&bodies[2], &bodies[3]), (&body(42), &body(42)));
    assert_eq!(bodies.len(), 4, "the group is looked up once");

    let error = github
        .jit_config(&org(), &request(Some("none")))
        .await
        .unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidConfig);
    let repo = GitHubPath::parse("octo/hello", None).unwrap();
    let error = github
        .jit_config(&repo, &request(Some("big")))
        .await
        .unwrap_err();
    assert!(error.message().contains("no runner groups"), "{error}");
}

#[tokio::test]
async fn a_taken_name_and_bad_labels_are_told_apart() {
    let fake = Fake::start(|_, before| match before {
        0 => error_reply(
            409,
            "Already exists - A runner with the name already exists.",
        ),
        _ => error_reply(422, "Validation Failed"),
    })
    .await;
    let github = fake.client();
    let taken = github.jit_config(&org(), &request(None)).await.unwrap_err();
    assert_eq!(taken.kind(), ErrorKind::AlreadyExists);
    assert_eq!(taken.context("runner"), Some("app-000000000001"));
    let invalid = github.jit_config(&org(), &request(None)).await.unwrap_err();
    assert_eq!(invalid.kind(), ErrorKind::InvalidRequest);
    assert_eq!(fake.lines().len(), 2, "neither is sent again");
}

#[tokio::test]
async fn listings_read_all_pages_and_unchanged_ones_are_free() {
    let fake = Fake::start(|seen, _| {
        let number = seen.line.rsplit("page=").next().unwrap().to_owned();
        let etag = format!("W/\"page-{number}\"");
        if seen.header("if-none-match") == etag {
            return json_reply(304, &json!(null)).with("etag", &etag);
        }
        let ids = match number.as_str() {
            "1" => 1..=100,
            "2" => 101..=200,
            _ => 201..=230,
        };
        json_reply(200, &page(230, ids)).with("etag", &etag)
    })
    .await;
    let github = fake.client();
    let first = github.runners(&org()).await.unwrap();
    assert_eq!(first.runners.len(), 230);
    let one = &first.runners[0];
    assert!(one.online && !one.busy && one.ephemeral == Some(true));
    assert_eq!(one.labels, ["self-hosted", "big"]);
    let again = github.runners(&org()).await.unwrap();
    assert_eq!(again.runners, first.runners);
    let conditional = fake
        .seen()
        .iter()
        .filter(|s| !s.header("if-none-match").is_empty())
        .count();
    assert_eq!((fake.lines().len(), conditional), (6, 3));
}

#[tokio::test]
async fn a_failing_page_fails_the_whole_listing() {
    let fake = Fake::start(|seen, _| {
        if seen.line.ends_with("page=2") {
            return error_reply(502, "Server Error");
        }
        json_reply(200, &page(150, 1..=100))
    })
    .await;
    let error = fake.client().runners(&org()).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unreachable);
    assert!(error.to_string().contains("page=2"), "{error}");
}

#[tokio::test]
async fn a_list_that_shifts_between_pages_is_read_anew() {
    // Runner 1 goes between the pages, so that 101 moves to the first page unseen.
    let fake = Fake::start(|seen, before| {
        let second = seen.line.ends_with("page=2");
        json_reply(
            200,
            &match (second, before) {
                (false, 0) => page(150, 1..=100),
                (true, _) => page(149, 102..=150),
                (false, _) => page(149, 2..=101),
            },
        )
    })
    .await;
    let listing = fake.client().runners(&org()).await.unwrap();
    let ids: Vec<u64> = listing.runners.iter().map(|runner| runner.id).collect();
    assert_eq!(ids, (2..=150).collect::<Vec<u64>>());
}

#[tokio::test]
async fn a_list_that_never_settles_is_an_error() {
    let fake = Fake::start(|seen, before| {
        let before = u64::try_from(before).unwrap();
        let second = seen.line.ends_with("page=2");
        json_reply(
            200,
            &if second {
                page(150 + before, 200 + before..=240)
            } else {
                page(150, 1..=100)
            },
        )
    })
    .await;
    let error = fake.client().runners(&org()).await.unwrap_err();
    assert!(error.message().contains("kept changing"), "{error}");
}

#[tokio::test]
async fn what_was_seen_on_any_page_holds_although_the_list_does_not_settle() {
    let fake = Fake::start(|seen, before| {
        let before = u64::try_from(before).unwrap();
        let second = seen.line.ends_with("page=2");
        json_reply(
            200,
            &if second {
                page(150 + before, 200 + before..=240)
            } else {
                page(150, 1..=100)
            },
        )
    })
    .await;
    let observed = fake.client().observe_runners(&org()).await.unwrap();
    let ids: Vec<u64> = observed.listing.runners.iter().map(|r| r.id).collect();
    assert_eq!(ids, (1..=100).chain(200..=240).collect::<Vec<u64>>());
    assert!(observed.gap.unwrap().message().contains("kept changing"));

    let fake = Fake::start(|seen, _| {
        if seen.line.ends_with("page=2") {
            return error_reply(502, "Server Error");
        }
        json_reply(200, &page(150, 1..=100))
    })
    .await;
    let observed = fake.client().observe_runners(&org()).await.unwrap();
    assert_eq!(observed.listing.runners.len(), 100);
    assert!(observed.gap.unwrap().to_string().contains("page=2"));
}

#[tokio::test]
async fn an_odd_record_does_not_fail_the_list_and_is_not_absent() {
    let without = |id: u64, field: &str| {
        let mut odd = runner(id, "online", false);
        odd.as_object_mut().unwrap().remove(field);
        odd
    };
    for (odd, known) in [
        (without(8, "busy"), Some(8)),
        (without(8, "status"), Some(8)),
        (without(8, "name"), Some(8)),
        (without(8, "id"), None),
        (json!({"id": 8, "name": null, "labels": [null]}), Some(8)),
        (json!(null), None),
        (json!(["x"]), None),
    ] {
        let records = json!({"total_count": 2, "runners": [odd, runner(9, "online", true)]});
        let body = records.clone();
        let fake = Fake::start(move |_, _| json_reply(200, &body)).await;
        let listing = fake.client().runners(&org()).await.unwrap();
        let ids: Vec<u64> = listing.runners.iter().map(|r| r.id).collect();
        assert_eq!(ids, [9], "{records}");
        assert_eq!(listing.unread.len(), 1);
        assert_eq!(listing.unread[0].id, known);
        assert_eq!(fake.lines().len(), 1, "it is not read again");
    }
    // Labels decide nothing.
    let mut odd = runner(8, "online", false);
    odd["labels"] = json!([null, {"name": 5}, {"name": "big"}]);
    let body = json!({"runners": [odd]});
    let fake = Fake::start(move |_, _| json_reply(200, &body)).await;
    let listing = fake.client().runners(&org()).await.unwrap();
    assert_eq!(listing.runners[0].labels, ["big"]);
}

#[tokio::test]
async fn a_server_without_just_in_time_configs_is_told_from_one_that_forbids_them() {
    let fake = Fake::start(|seen, _| match seen.line.as_str() {
        line if line.contains("registration-token") => json_reply(
            201,
            &json!({"token": "AABBCC", "expires_at": "2030-01-22T12:13:35Z"}),
        ),
        _ => error_reply(404, "Not Found"),
    })
    .await;
    let error = fake.client().jit_config(&org(), &request(None)).await;
    let error = error.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NotFound);
    assert!(
        error.message().contains("registration = \"token\""),
        "{error}"
    );

    let fake = Fake::start(|_, _| error_reply(404, "Not Found")).await;
    let error = fake.client().jit_config(&org(), &request(None)).await;
    let error = error.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NotFound);
    assert!(error.message().contains("admin:org"), "{error}");
}

#[tokio::test]
async fn a_runner_is_found_by_its_whole_name_only() {
    let fake = Fake::start(|seen, _| {
        let found = if seen.line.contains("name=app-00000000000a") {
            10..=10
        } else {
            16..=16
        };
        json_reply(200, &page(1, found))
    })
    .await;
    let github = fake.client();
    let found = github
        .runner_by_name(&org(), "app-00000000000a")
        .await
        .unwrap();
    assert_eq!(found.map(|runner| runner.id), Some(10));
    let prefix = github.runner_by_name(&org(), "app-").await.unwrap();
    assert_eq!(prefix, None);
}

#[tokio::test]
async fn deletes_tell_gone_busy_and_unseen_apart() {
    let fake = Fake::start(|seen, _| match seen.line.as_str() {
        "DELETE /orgs/octo-org/actions/runners/1" => json_reply(204, &json!(null)),
        "DELETE /orgs/octo-org/actions/runners/3" => error_reply(
            422,
            "Bad request - Runner is currently running a job and cannot be deleted.",
        ),
        line if line.starts_with("GET /orgs/octo-org/") => json_reply(200, &page(0, [])),
        _ => error_reply(404, "Not Found"),
    })
    .await;
    let github = fake.client();
    let path = org();
    assert_eq!(
        github.delete_runner(&path, 1).await.unwrap(),
        Deleted::Deleted
    );
    assert_eq!(
        github.delete_runner(&path, 2).await.unwrap(),
        Deleted::WasGone
    );
    assert_eq!(
        github.delete_runner(&path, 2).await.unwrap(),
        Deleted::WasGone
    );
    let busy = github.delete_runner(&path, 3).await.unwrap_err();
    assert_eq!(busy.kind(), ErrorKind::Busy);
    let unseen = GitHubPath::parse("other-org", None).unwrap();
    let error = github.delete_runner(&unseen, 2).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NotFound);
    assert!(error.message().contains("admin:org"), "{error}");
    let proofs = fake
        .lines()
        .iter()
        .filter(|line| line.starts_with("GET /orgs/octo-org"))
        .count();
    assert_eq!(proofs, 1, "the scope is looked at once");
}
