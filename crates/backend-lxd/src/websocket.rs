//! Web sockets of the server, over the same connections as its other requests (RFC 6455).

use reqwest::header::{CONNECTION, SEC_WEBSOCKET_ACCEPT, SEC_WEBSOCKET_KEY};
use reqwest::header::{SEC_WEBSOCKET_VERSION, UPGRADE};
use reqwest::{StatusCode, Upgraded};
use runner_manager_core::Result;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::handshake::client::generate_key;
use tokio_tungstenite::tungstenite::handshake::derive_accept_key;
use tokio_tungstenite::tungstenite::protocol::{Role, WebSocketConfig};

use crate::api::{strange, unanswered};
use crate::client::Client;

/// A web socket to the server.
pub(crate) type Socket = WebSocketStream<Upgraded>;

/// The largest message: the server sends a command's output in pieces of at most 128 KiB.
const MAX_MESSAGE: usize = 1024 * 1024;

impl Client {
    /// Opens one of the sockets of an operation.
    pub(crate) async fn websocket(&self, operation: &str, secret: &str) -> Result<Socket> {
        let path = ["operations", operation, "websocket"];
        let url = self.url(&path, &[("secret", secret)])?;
        let key = generate_key();
        let request = self
            .endpoint()
            .http
            .get(url)
            .timeout(self.timeout)
            .header(CONNECTION, "Upgrade")
            .header(UPGRADE, "websocket")
            .header(SEC_WEBSOCKET_VERSION, "13")
            .header(SEC_WEBSOCKET_KEY, &key);
        let response = self.send(request).await?;
        let accept = response.headers().get(SEC_WEBSOCKET_ACCEPT);
        let accepted =
            accept.is_some_and(|a| a.as_bytes() == derive_accept_key(key.as_bytes()).as_bytes());
        if response.status() != StatusCode::SWITCHING_PROTOCOLS || !accepted {
            return Err(strange("no web socket"));
        }
        let stream = response.upgrade().await.map_err(unanswered)?;
        let config = WebSocketConfig::default()
            .max_message_size(Some(MAX_MESSAGE))
            .max_frame_size(Some(MAX_MESSAGE));
        Ok(WebSocketStream::from_raw_socket(stream, Role::Client, Some(config)).await)
    }
}
