//! A small HTTP client: plain HTTP/1.1, one request a connection, as fast to start as can be.

use std::time::Duration;

use serde_json::Value;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

/// The most that an answer holds.
const MAX_ANSWER: u64 = 1024 * 1024;

/// A server.
#[derive(Debug, Clone)]
pub(super) struct Server {
    authority: String,
}

/// An answer.
#[derive(Debug)]
pub(super) struct Reply {
    pub(super) status: u16,
    pub(super) body: Value,
}

impl Reply {
    /// What the server says is wrong.
    pub(super) fn message(&self) -> String {
        let said = self.body["message"].as_str().unwrap_or_default();
        format!("status {}: {said}", self.status)
    }
}

/// Splits a web address into its server and its path.
pub(super) fn split(url: &str) -> Result<(Server, String), String> {
    let rest = url.strip_prefix("http://").ok_or_else(|| {
        format!(
            "`{url}` is not an http:// address; the stand-in runner speaks to the simulator only"
        )
    })?;
    let (authority, path) = rest.split_once('/').unwrap_or((rest, ""));
    let authority = if authority.contains(':') {
        authority.to_owned()
    } else {
        format!("{authority}:80")
    };
    Ok((Server { authority }, format!("/{path}")))
}

impl Server {
    /// Posts an object; an error is a failure on the way.
    pub(super) async fn post(
        &self,
        path: &str,
        body: &Value,
        within: Duration,
    ) -> Result<Reply, String> {
        let exchange = self.exchange(path, body);
        match tokio::time::timeout(within, exchange).await {
            Ok(Ok(bytes)) => parse(&bytes),
            Ok(Err(error)) => Err(format!("{}: {error}", self.authority)),
            Err(_) => Err(format!("{}: no answer within {within:?}", self.authority)),
        }
    }

    async fn exchange(&self, path: &str, body: &Value) -> std::io::Result<Vec<u8>> {
        let mut stream = TcpStream::connect(&self.authority).await?;
        stream.set_nodelay(true)?;
        let body = body.to_string();
        let request = format!(
            "POST {path} HTTP/1.1\r\nhost: {}\r\ncontent-type: application/json\r\n\
             content-length: {}\r\nconnection: close\r\n\r\n{body}",
            self.authority,
            body.len()
        );
        stream.write_all(request.as_bytes()).await?;
        let mut answer = Vec::new();
        stream.take(MAX_ANSWER).read_to_end(&mut answer).await?;
        Ok(answer)
    }
}

fn parse(bytes: &[u8]) -> Result<Reply, String> {
    let text = String::from_utf8_lossy(bytes);
    let (head, body) = text
        .split_once("\r\n\r\n")
        .ok_or("the connection closed without an answer")?;
    let status = head.split(' ').nth(1).and_then(|word| word.parse().ok());
    let status = status.ok_or("the answer is not HTTP")?;
    let lines = head.lines().filter_map(|line| line.split_once(':'));
    let length = lines
        .filter(|(name, _)| name.eq_ignore_ascii_case("content-length"))
        .find_map(|(_, value)| value.trim().parse::<usize>().ok());
    if length.is_some_and(|length| body.len() < length) {
        return Err("the answer was cut off".into());
    }
    let body = serde_json::from_str(body).unwrap_or(Value::Null);
    Ok(Reply { status, body })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_are_read_and_cut_ones_are_errors() {
        let reply = parse(b"HTTP/1.1 201 Created\r\nContent-Length: 7\r\n\r\n{\"a\":1}").unwrap();
        assert_eq!((reply.status, reply.body["a"].as_u64()), (201, Some(1)));
        assert!(parse(b"HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\n{}").is_err());
        assert!(parse(b"").is_err());
    }

    #[test]
    fn addresses_are_split() {
        let (server, path) = split("http://127.0.0.1:80/acme/app").unwrap();
        assert_eq!((&*server.authority, &*path), ("127.0.0.1:80", "/acme/app"));
        assert!(split("https://github.com/acme").is_err());
    }
}
