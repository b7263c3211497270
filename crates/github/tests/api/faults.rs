//! What goes wrong at GitHub, and what callers are told.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use runner_manager_core::{Effect, ErrorKind, Labels, Retry};
use runner_manager_github::{Deleted, JitRequest};
use serde_json::json;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;

use crate::fake::{Fake, Reply, error_reply, html_reply, json_reply, org, page, runner};

fn jit() -> JitRequest {
    JitRequest {
        name: "app-1".into(),
        group: None,
        labels: Labels::parse(["big"]).unwrap(),
    }
}

#[tokio::test]
async fn a_revoked_token_a_forbidden_and_an_unseen_scope_say_what_to_do() {
    for (status, kind, advice) in [
        (401, ErrorKind::Unauthenticated, "expired or revoked"),
        (403, ErrorKind::PermissionDenied, "admin:org"),
        (404, ErrorKind::NotFound, "admin:org"),
    ] {
        let fake = Fake::start(move |_, _| error_reply(status, "Nope")).await;
        let error = fake.client().runners(&org()).await.unwrap_err();
        assert_eq!((error.kind(), error.retry()), (kind, Retry::Never));
        let text = error.to_string();
        assert!(text.contains(advice) && text.contains("\"Nope\""), "{text}");
        assert_eq!(fake.lines().len(), 1, "{status} is not sent again");
    }
}

#[tokio::test]
async fn a_rate_limit_stops_later_calls_before_they_are_sent() {
    for status in [403, 429] {
        let fake = Fake::start(move |_, _| {
            error_reply(status, "You have exceeded a secondary rate limit").with("retry-after", &40)
        })
        .await;
        let github = fake.client();
        for _ in 0..3 {
            let error = github.clone().registration_token(&org()).await.unwrap_err();
            assert_eq!(error.kind(), ErrorKind::RateLimited);
            let Retry::After(wait) = error.retry() else {
                panic!("{error:?}")
            };
            assert!(wait > Duration::from_secs(20) && wait <= Duration::from_secs(40));
        }
        assert_eq!((fake.lines().len(), github.calls()), (1, 1));
    }
}

#[tokio::test]
async fn a_rate_limit_that_only_its_text_tells_is_no_missing_permission() {
    for text in [
        "API rate limit exceeded for installation ID 12345.",
        "You have triggered an abuse detection mechanism. Please wait a few minutes.",
        "You have exceeded a secondary rate limit.",
    ] {
        let fake = Fake::start(move |_, _| error_reply(403, text)).await;
        let github = fake.client();
        for _ in 0..3 {
            let error = github.runners(&org()).await.unwrap_err();
            assert_eq!(error.kind(), ErrorKind::RateLimited, "{text}");
        }
        assert_eq!(fake.lines().len(), 1, "{text}");
    }
}

#[tokio::test]
async fn a_used_up_budget_for_registrations_leaves_the_lists_alone() {
    let fake = Fake::start(|seen, _| {
        let (status, resource, left) = if seen.line.starts_with("POST") {
            (403, "actions_runner_registration", 0)
        } else {
            (200, "core", 14_000)
        };
        json_reply(status, &page(0, []))
            .with("date", &"Tue, 24 Nov 2026 09:00:00 GMT")
            .with("x-ratelimit-limit", &15_000)
            .with("x-ratelimit-remaining", &left)
            .with("x-ratelimit-reset", &1_795_511_100)
            .with("x-ratelimit-resource", &resource)
    })
    .await;
    let github = fake.client();
    for _ in 0..3 {
        let error = github.jit_config(&org(), &jit()).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::RateLimited);
        github.runners(&org()).await.unwrap();
    }
    let posts = fake
        .lines()
        .iter()
        .filter(|l| l.starts_with("POST"))
        .count();
    assert_eq!(posts, 1);
    assert_eq!(github.rate_limit().unwrap().remaining, 14_000);
}

#[tokio::test]
async fn the_budget_is_read_and_obeyed_once_used_up() {
    let fake = Fake::start(|_, before| {
        json_reply(200, &page(0, []))
            .with("date", &"Tue, 24 Nov 2026 09:00:00 GMT")
            .with("x-ratelimit-limit", &5000)
            .with("x-ratelimit-remaining", &(1 - before.min(1)))
            .with("x-ratelimit-reset", &1_795_511_100)
    })
    .await;
    let github = fake.client();
    assert_eq!(github.rate_limit(), None);
    github.runners(&org()).await.unwrap();
    let limit = github.rate_limit().unwrap();
    assert_eq!((limit.limit, limit.remaining), (5000, 1));
    assert_eq!(limit.reset_at.as_second(), 1_795_511_100);
    github.runners(&org()).await.unwrap();
    let error = github.runners(&org()).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::RateLimited);
    // GitHub's own clock says five minutes, whatever this machine's says.
    assert!(
        matches!(error.retry(), Retry::After(wait) if wait.as_secs() > 200 && wait.as_secs() <= 300)
    );
    assert_eq!(fake.lines().len(), 2);
}

#[tokio::test]
async fn a_passing_failure_is_overcome_and_a_lasting_one_has_a_budget() {
    let fake = Fake::start(|_, before| match before {
        0 => error_reply(500, "boom"),
        1 => html_reply(502, "<html>Unicorn"),
        _ => json_reply(200, &page(1, [5])),
    })
    .await;
    assert_eq!(
        fake.client().runners(&org()).await.unwrap().runners.len(),
        1
    );
    assert_eq!(fake.lines().len(), 3);

    let fake = Fake::start(|_, _| error_reply(503, "down")).await;
    let github = fake.client();
    let error = github.runners(&org()).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unreachable);
    assert_eq!(error.retry(), Retry::Exhausted { attempts: 3 });
    assert_eq!(error.effect(), Effect::None);
    let error = github.delete_runner(&org(), 4).await.unwrap_err();
    assert_eq!(error.effect(), Effect::Unknown);
    assert_eq!(fake.lines().len(), 6);
}

#[tokio::test]
async fn a_jit_call_that_may_have_worked_is_not_made_again() {
    let fake = Fake::start(|_, _| error_reply(502, "Server Error")).await;
    let error = fake.client().jit_config(&org(), &jit()).await.unwrap_err();
    assert_eq!(
        (error.kind(), error.effect()),
        (ErrorKind::Unreachable, Effect::Unknown)
    );
    assert_eq!(fake.lines().len(), 1);

    let fake = Fake::start(|_, _| Reply::Never).await;
    let error = fake.hasty().jit_config(&org(), &jit()).await.unwrap_err();
    assert_eq!(
        (error.kind(), error.effect()),
        (ErrorKind::TimedOut, Effect::Unknown)
    );
    assert_eq!(fake.lines().len(), 1);
}

#[tokio::test]
async fn a_delete_whose_answer_was_lost_ends_as_gone() {
    let fake = Fake::start(|seen, before| {
        if seen.line.starts_with("GET") {
            return json_reply(200, &page(0, []));
        }
        match before {
            0 => error_reply(502, "Server Error"),
            _ => error_reply(404, "Not Found"),
        }
    })
    .await;
    assert_eq!(
        fake.client().delete_runner(&org(), 4).await.unwrap(),
        Deleted::WasGone
    );
}

#[tokio::test]
async fn a_silent_server_meets_the_deadline() {
    let fake = Fake::start(|_, _| Reply::Never).await;
    let error = fake.hasty().runners(&org()).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::TimedOut);
    assert_eq!(error.retry(), Retry::Exhausted { attempts: 3 });
    assert_eq!(fake.lines().len(), 3);
}

#[tokio::test]
async fn html_is_named_with_its_place_and_is_never_a_404() {
    let fake = Fake::start(|seen, _| match seen.line.as_str() {
        line if line.starts_with("DELETE") => html_reply(404, "<h1>No such page</h1>"),
        _ => html_reply(200, "<html>\n<title>Corporate login</title>"),
    })
    .await;
    let github = fake.client();
    let error = github.runners(&org()).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::BadAnswer);
    let text = error.to_string();
    for part in [
        "text/html",
        "Corporate login",
        "/orgs/octo-org/actions/runners",
        "proxy",
    ] {
        assert!(text.contains(part), "{part}: {text}");
    }
    let error = github.delete_runner(&org(), 1).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::BadAnswer);
}

#[tokio::test]
async fn json_of_another_shape_is_told_without_its_content() {
    let fake = Fake::start(|seen, _| {
        if seen.line.contains("jitconfig") {
            let body =
                json!({"runner": runner(1, "offline", false), "encoded_jit_config": ["k3y"]});
            return json_reply(201, &body);
        }
        json_reply(201, &json!({"token": {"is": "s3cret"}}))
    })
    .await;
    let github = fake.client();
    let error = github.registration_token(&org()).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::BadAnswer);
    assert!(
        !format!("{error} {error:?}").contains("s3cret"),
        "{error:?}"
    );
    let error = github.jit_config(&org(), &jit()).await.unwrap_err();
    assert_eq!(error.effect(), Effect::Unknown, "the registration exists");
    assert!(!format!("{error} {error:?}").contains("k3y"), "{error:?}");
}

#[tokio::test]
async fn redirects_are_followed_for_reads_within_one_host_only() {
    let other = Fake::start(|_, _| json_reply(200, &page(0, []))).await;
    let away = format!("{}elsewhere?sig=s3cret", other.url);
    let fake = Fake::start(move |seen, _| {
        if seen.line.starts_with("POST") {
            return json_reply(307, &json!({})).with("location", &"/api/v3/moved");
        }
        match seen.line.as_str() {
            "GET /moved" => json_reply(200, &page(1, [3])),
            line if line.contains("/orgs/far/") => {
                json_reply(302, &json!({})).with("location", &&away)
            }
            line if line.contains("/orgs/loop/") => {
                json_reply(302, &json!({})).with("location", &line.trim_start_matches("GET "))
            }
            _ => json_reply(301, &json!({})).with("location", &"/api/v3/moved"),
        }
    })
    .await;
    let github = fake.client();
    assert_eq!(github.runners(&org()).await.unwrap().runners.len(), 1);
    let error = github.registration_token(&org()).await.unwrap_err();
    assert!(error.message().contains("not followed"), "{error}");
    let far = runner_manager_core::GitHubPath::parse("far", None).unwrap();
    let error = github.runners(&far).await.unwrap_err();
    assert!(error.message().contains("elsewhere"), "{error}");
    assert!(!error.to_string().contains("s3cret"), "{error}");
    assert_eq!(other.lines().len(), 0, "the credential stays with its host");
    let circle = runner_manager_core::GitHubPath::parse("loop", None).unwrap();
    let error = github.runners(&circle).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::BadAnswer);
}

/// A server that sends these bytes to everyone and hangs up.
async fn raw(answer: Vec<u8>) -> (GitHubUrl, Arc<AtomicU64>, tokio::task::JoinHandle<()>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let count = Arc::new(AtomicU64::new(0));
    let counted = Arc::clone(&count);
    let task = tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            counted.fetch_add(1, Ordering::SeqCst);
            let mut request = [0; 4096];
            let _ = stream.read(&mut request).await;
            let _ = stream.write_all(&answer).await;
            let _ = stream.shutdown().await;
        }
    });
    (url.parse().unwrap(), count, task)
}

type GitHubUrl = url::Url;

fn client(url: GitHubUrl) -> runner_manager_github::GitHub {
    let auth = runner_manager_github::Auth::Token(runner_manager_core::Secret::new("t"));
    runner_manager_github::GitHub::new(runner_manager_github::GitHubConfig::new(url, auth)).unwrap()
}

#[tokio::test]
async fn a_body_that_breaks_off_is_read_again_and_then_an_error() {
    let answer = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: 500\r\n\r\n{\"total_count\":1,\"runners\":[";
    let (url, count, task) = raw(answer.to_vec()).await;
    let error = client(url).runners(&org()).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unreachable);
    assert!(error.message().contains("broke off"), "{error}");
    assert_eq!(count.load(Ordering::SeqCst), 3);
    task.abort();
}

#[tokio::test]
async fn a_body_without_end_is_cut_off() {
    let mut answer = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\n\r\n".to_vec();
    answer.resize(17 * 1024 * 1024, b' ');
    let (url, _, task) = raw(answer).await;
    let error = client(url).runners(&org()).await.unwrap_err();
    assert!(error.message().contains("16 MiB"), "{error}");
    task.abort();
}
