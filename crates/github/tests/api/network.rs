//! Proxies, certificates and unreachable hosts.

use std::io::Write;
use std::sync::Arc;

use runner_manager_core::{ErrorKind, Labels, Retry, Secret};
use runner_manager_github::{Auth, GitHub, GitHubConfig, JitRequest};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::ServerConfig;
use tokio_rustls::rustls::crypto::aws_lc_rs;
use url::Url;

use crate::fake::{Fake, TOKEN, html_reply, json_reply, org, page};

fn config(url: &str) -> GitHubConfig {
    GitHubConfig::new(Url::parse(url).unwrap(), Auth::Token(Secret::new(TOKEN)))
}

#[tokio::test]
async fn calls_go_through_the_proxy_with_its_credentials() {
    let proxy = Fake::start(|seen, _| {
        if seen.header("proxy-authorization") == "Basic bWU6aHVudGVyMg==" {
            json_reply(200, &page(0, []))
        } else {
            html_reply(407, "who are you?")
        }
    })
    .await;
    // Nothing listens on this port: only the proxy can answer.
    let mut config = config("http://127.0.0.1:9");
    let mut url = proxy.url.clone();
    config.proxy = Some(url.clone());
    let error = GitHub::new(config.clone())
        .unwrap()
        .runners(&org())
        .await
        .unwrap_err();
    assert!(
        error.message().contains("the proxy wants credentials"),
        "{error}"
    );
    url.set_username("me").unwrap();
    url.set_password(Some("hunter2")).unwrap();
    config.proxy = Some(url);
    assert!(!format!("{config:?}").contains("hunter2"));
    GitHub::new(config).unwrap().runners(&org()).await.unwrap();
    assert_eq!(proxy.seen()[1].header("host"), "127.0.0.1:9");
}

#[tokio::test]
async fn an_unreachable_proxy_or_host_is_told_without_secrets() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let dead = listener.local_addr().unwrap();
    drop(listener);
    let mut through = config("https://github.com");
    through.proxy = Some(Url::parse(&format!("http://me:hunter2@{dead}")).unwrap());
    for config in [through, config(&format!("http://{dead}"))] {
        let github = GitHub::new(config).unwrap();
        let request = JitRequest {
            name: "app-1".into(),
            group: None,
            labels: Labels::parse(["big"]).unwrap(),
        };
        // What was not sent is sent again, even where a second time would matter.
        let error = github.jit_config(&org(), &request).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Unreachable);
        assert_eq!(error.retry(), Retry::Exhausted { attempts: 3 });
        assert_eq!(error.effect(), runner_manager_core::Effect::None);
        let text = format!("{error} {error:?}");
        assert!(!text.contains("hunter2") && !text.contains(TOKEN), "{text}");
        assert_eq!(github.calls(), 3);
    }
}

#[test]
fn unusable_proxies_bundles_and_tokens_are_refused_at_once() {
    let refused = |config: GitHubConfig, part: &str| {
        let error = GitHub::new(config).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidConfig, "{error}");
        assert!(error.to_string().contains(part), "{part}: {error}");
    };
    let mut bad = config("https://github.com");
    bad.proxy = Some(Url::parse("ftp://proxy:21").unwrap());
    refused(bad.clone(), "ftp://proxy");
    bad.proxy = None;
    bad.ca_bundle = Some("/nonexistent/ca.pem".into());
    refused(bad.clone(), "/nonexistent/ca.pem");
    for content in [
        "",
        "not PEM",
        "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n",
    ] {
        let mut file = tempfile::NamedTempFile::new().unwrap();
        file.write_all(content.as_bytes()).unwrap();
        bad.ca_bundle = Some(file.path().into());
        refused(bad.clone(), &file.path().display().to_string());
    }
    for token in ["", "two words", "new\nline"] {
        let auth = Auth::Token(Secret::new(token));
        refused(
            GitHubConfig::new(Url::parse("https://github.com").unwrap(), auth),
            "token",
        );
    }
}

/// A TLS server with a certificate of its own, that lists no runners. Gives its port and PEM.
async fn tls() -> (u16, String, tokio::task::JoinHandle<()>) {
    let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    let key = made.signing_key.serialize_der();
    let tls = ServerConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![made.cert.der().clone()], key.try_into().unwrap())
        .unwrap();
    let acceptor = TlsAcceptor::from(Arc::new(tls));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let task = tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let Ok(mut stream) = acceptor.accept(stream).await else {
                continue;
            };
            let mut request = [0; 4096];
            let _ = stream.read(&mut request).await;
            let body = r#"{"total_count":0,"runners":[]}"#;
            let head = format!(
                "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: {}\r\nconnection: close\r\n\r\n{body}",
                body.len()
            );
            let _ = stream.write_all(head.as_bytes()).await;
            let _ = stream.shutdown().await;
        }
    });
    (port, made.cert.pem(), task)
}

#[tokio::test]
async fn a_ca_bundle_makes_a_private_server_trusted() {
    let (port, pem, task) = tls().await;
    let mut config = config(&format!("https://localhost:{port}"));
    let mut file = tempfile::NamedTempFile::new().unwrap();
    // Some bundle is given in both cases, so that the system's own roots do not matter.
    let stranger = rcgen::generate_simple_self_signed(["other".to_owned()]).unwrap();
    file.write_all(stranger.cert.pem().as_bytes()).unwrap();
    config.ca_bundle = Some(file.path().into());
    let github = GitHub::new(config.clone()).unwrap();
    let error = github.runners(&org()).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unreachable);
    assert!(error.message().contains("ca_bundle"), "{error}");
    assert_eq!(github.calls(), 1, "the same certificate would come again");
    file.write_all(pem.as_bytes()).unwrap();
    let github = GitHub::new(config).unwrap();
    assert_eq!(github.runners(&org()).await.unwrap().runners, []);
    task.abort();
}
