//! One session for everything: requests, their budget, deadlines and errors, and the renewal of
//! the token.

use std::sync::Arc;
use std::time::Duration;

use osauth::services::{self, ServiceType};
use osauth::{ApiVersion, ServiceRequestBuilder, Session};
use runner_manager_core::{Budget, Effect, Error, ErrorKind, Result, Retry};
use serde_json::Value;
use tokio::sync::RwLock;

use crate::api::{self, Changes};
use crate::clouds::Credentials;

/// The version of the compute API that is spoken: tags at creation came with 2.52 (Pike).
const COMPUTE: &str = "2.52";

/// The version for a boot volume made beforehand, and all else of Cinder.
const VOLUME: &str = "volume 3.27";

/// The most bytes of one answer.
const MAX_ANSWER: usize = 32 * 1024 * 1024;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Service {
    Compute,
    Network,
    Volume,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Verb {
    Get,
    Post,
    Delete,
}

/// One request. Its body may hold user-data: it has no `Debug`.
#[derive(Clone)]
pub(crate) struct Request {
    service: Service,
    verb: Verb,
    path: Vec<String>,
    query: Vec<(&'static str, String)>,
    body: Option<Value>,
}

impl Request {
    pub(crate) fn new(service: Service, verb: Verb, path: &[&str]) -> Self {
        let path = path.iter().map(|part| (*part).to_owned()).collect();
        Self {
            service,
            verb,
            path,
            query: Vec::new(),
            body: None,
        }
    }

    pub(crate) fn query(mut self, key: &'static str, value: impl Into<String>) -> Self {
        self.query.push((key, value.into()));
        self
    }

    pub(crate) fn body(mut self, body: Value) -> Self {
        self.body = Some(body);
        self
    }

    fn changes(&self) -> Changes {
        match self.verb {
            Verb::Get => Changes::Nothing,
            _ => Changes::Something,
        }
    }
}

/// The connection to one cloud.
pub(crate) struct Api {
    credentials: Credentials,
    session: RwLock<Arc<Session>>,
    budget: Arc<Budget>,
    timeout: Duration,
}

/// What the session's own errors mean: those of logging in, and of the way to the cloud.
pub(crate) fn translate(error: &osauth::Error) -> Error {
    use osauth::ErrorKind as Os;
    let kind = match error.kind() {
        Os::AuthenticationFailed => ErrorKind::Unauthenticated,
        Os::AccessDenied => ErrorKind::PermissionDenied,
        Os::ResourceNotFound => ErrorKind::NotFound,
        Os::EndpointNotFound | Os::InvalidConfig | Os::IncompatibleApiVersion => {
            ErrorKind::InvalidConfig
        }
        Os::InvalidInput => ErrorKind::InvalidRequest,
        Os::ProtocolError | Os::InternalServerError => ErrorKind::Unreachable,
        Os::OperationTimedOut => ErrorKind::TimedOut,
        Os::InvalidResponse => ErrorKind::BadAnswer,
        _ => ErrorKind::Unexpected,
    };
    let retry = match kind {
        ErrorKind::Unreachable | ErrorKind::TimedOut => Retry::After(Duration::from_secs(10)),
        _ => Retry::Never,
    };
    Error::new(kind, api::message(&error.to_string())).with_retry(retry)
}

impl Api {
    /// Logs in.
    pub(crate) async fn connect(
        credentials: Credentials,
        budget: Arc<Budget>,
        timeout: Duration,
    ) -> Result<Self> {
        let session = log_in(&credentials, timeout).await?;
        Ok(Self {
            credentials,
            session: RwLock::new(Arc::new(session)),
            budget,
            timeout,
        })
    }

    /// The session of just now; it renews its token by itself before that expires.
    pub(crate) async fn session(&self) -> Arc<Session> {
        Arc::clone(&*self.session.read().await)
    }

    /// The same connection with another deadline for each request.
    pub(crate) fn with_timeout(self, timeout: Duration) -> Self {
        Self { timeout, ..self }
    }

    /// Logs in anew, for a token that was revoked before its time; once for all who ask.
    async fn renew(&self, old: &Arc<Session>) -> Result<()> {
        let mut place = self.session.write().await;
        if Arc::ptr_eq(&place, old) {
            *place = Arc::new(log_in(&self.credentials, self.timeout).await?);
        }
        Ok(())
    }

    /// Sends a request, when the budget says so. One that is told that its token is no good is
    /// sent once more with a new one.
    pub(crate) async fn send(&self, request: &Request) -> Result<Value> {
        let session = self.session().await;
        let first = self.budget.spend(self.attempt(&session, request)).await;
        let outcome = match first {
            Err(error) if error.kind() == ErrorKind::Unauthenticated => {
                self.renew(&session).await?;
                let session = self.session().await;
                self.budget.spend(self.attempt(&session, request)).await
            }
            outcome => outcome,
        };
        outcome.map_err(|e| e.with_context("request", request.path.join("/")))
    }

    /// The same, with "not found" as `None`.
    pub(crate) async fn find(&self, request: &Request) -> Result<Option<Value>> {
        match self.send(request).await {
            Ok(answer) => Ok(Some(answer)),
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }

    async fn attempt(&self, session: &Session, request: &Request) -> Result<Value> {
        let sent = async {
            match request.service {
                Service::Compute => {
                    let builder = start(session, services::COMPUTE, request);
                    let version = builder.header("x-openstack-nova-api-version", COMPUTE);
                    finish(
                        version.header("openstack-api-version", format!("compute {COMPUTE}")),
                        request,
                    )
                    .await
                }
                Service::Network => {
                    finish(start(session, services::NETWORK, request), request).await
                }
                Service::Volume => {
                    let service = BlockStorage::of(session).await;
                    let builder = start(session, service, request);
                    finish(builder.header("openstack-api-version", VOLUME), request).await
                }
            }
        };
        match tokio::time::timeout(self.timeout, sent).await {
            Ok(outcome) => outcome,
            Err(_) => Err(Error::new(
                ErrorKind::TimedOut,
                "the cloud gave no answer before the deadline",
            )
            .with_retry(Retry::After(self.timeout))
            .with_effect(match request.changes() {
                Changes::Nothing => Effect::None,
                Changes::Something => Effect::Unknown,
            })
            .with_context("deadline", format!("{} s", self.timeout.as_secs_f64()))),
        }
    }
}

/// Cinder, by the type that it has in the catalogue of a cloud: `block-storage`, or `volumev3`,
/// which most clouds still say.
///
/// <https://service-types.openstack.org/>
#[derive(Debug, Clone, Copy)]
struct BlockStorage(&'static str);

impl BlockStorage {
    async fn of(session: &Session) -> Self {
        let found = session.get_endpoint(services::BLOCK_STORAGE, &[""]).await;
        match found {
            Err(error) if error.kind() == osauth::ErrorKind::EndpointNotFound => Self("volumev3"),
            _ => Self(services::BLOCK_STORAGE.catalog_type()),
        }
    }
}

impl ServiceType for BlockStorage {
    fn catalog_type(&self) -> &'static str {
        self.0
    }

    fn major_version_supported(&self, version: ApiVersion) -> bool {
        services::BLOCK_STORAGE.major_version_supported(version)
    }
}

async fn log_in(credentials: &Credentials, timeout: Duration) -> Result<Session> {
    let named = |e: Error| e.with_context("cloud", &credentials.label);
    match tokio::time::timeout(timeout, credentials.config.clone().create_session()).await {
        Ok(session) => session.map_err(|e| named(translate(&e))),
        Err(_) => Err(named(
            Error::new(
                ErrorKind::TimedOut,
                "Keystone gave no answer before the deadline",
            )
            .with_retry(Retry::After(timeout)),
        )),
    }
}

fn start<S: ServiceType + Send + Clone>(
    session: &Session,
    service: S,
    request: &Request,
) -> ServiceRequestBuilder<S> {
    let path = &request.path;
    match request.verb {
        Verb::Get => session.get(service, path),
        Verb::Post => session.post(service, path),
        Verb::Delete => session.delete(service, path),
    }
}

async fn finish<S: ServiceType + Send + Clone>(
    builder: ServiceRequestBuilder<S>,
    request: &Request,
) -> Result<Value> {
    let builder = builder.query(&request.query);
    let builder = match &request.body {
        Some(body) => builder.json(body),
        None => builder,
    };
    let unsure = |e: Error| match request.changes() {
        Changes::Something if e.kind() == ErrorKind::Unreachable => e.with_effect(Effect::Unknown),
        _ => e,
    };
    let mut answer = builder
        .send_unchecked()
        .await
        .map_err(|e| unsure(translate(&e)))?;
    let status = answer.status().as_u16();
    let retry_after = answer
        .headers()
        .get("retry-after")
        .and_then(|value| value.to_str().ok()?.parse().ok());
    let mut body = Vec::new();
    while let Some(chunk) = answer
        .chunk()
        .await
        .map_err(|e| unsure(translate(&e.into())))?
    {
        if body.len() + chunk.len() > MAX_ANSWER {
            return Err(Error::new(
                ErrorKind::BadAnswer,
                "the cloud's answer is too large",
            ));
        }
        body.extend_from_slice(&chunk);
    }
    if !(200..300).contains(&status) {
        let text = String::from_utf8_lossy(&body);
        let after = retry_after.map(Duration::from_secs);
        return Err(api::classify(status, after, &text, request.changes()));
    }
    if body.is_empty() {
        return Ok(Value::Null);
    }
    serde_json::from_slice(&body).map_err(|e| {
        Error::new(ErrorKind::BadAnswer, "the cloud's answer is not JSON").with_source(e)
    })
}
