//! Whose call it is: the credential that goes with each.

use runner_manager_core::{GitHubPath, Result, Secret};
use url::Url;

use crate::app::App;
use crate::transport::Transport;
use crate::{Auth, GitHubConfig};

/// Which budget a call counts against. Never a secret.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Identity {
    /// The personal token.
    Token,
    /// The App itself.
    App,
    /// One installation of the App.
    Installation(u64),
    /// The Actions service behind scale sets, with limits of its own.
    Service,
}

/// What goes into the `authorization` header.
#[derive(Debug, Clone)]
pub(crate) struct Bearer {
    pub(crate) secret: Secret,
    pub(crate) identity: Identity,
    /// The word before the secret.
    pub(crate) scheme: &'static str,
}

impl Bearer {
    pub(crate) fn new(secret: Secret, identity: Identity) -> Self {
        Self {
            secret,
            identity,
            scheme: "Bearer",
        }
    }

    /// A registration token, which buys a connection to the Actions service.
    pub(crate) fn remote(secret: Secret) -> Self {
        Self {
            scheme: "RemoteAuth",
            ..Self::new(secret, Identity::Service)
        }
    }
}

/// The credential in use.
#[derive(Debug)]
pub(crate) enum Credentials {
    Token(Secret),
    App(Box<App>),
}

impl Credentials {
    pub(crate) fn new(config: &GitHubConfig, api: &Url) -> Result<Self> {
        match &config.auth {
            Auth::Token(token) => {
                crate::app::usable(token.expose(), "token")?;
                Ok(Self::Token(token.clone()))
            }
            Auth::App {
                app_id,
                installation_id,
                private_key,
            } => {
                let patience = config.request_timeout * 4;
                let app = App::new(app_id, *installation_id, private_key, api, patience)?;
                Ok(Self::App(Box::new(app)))
            }
        }
    }

    /// The credential for a scope; made or renewed first where needed.
    pub(crate) async fn bearer(&self, transport: &Transport, path: &GitHubPath) -> Result<Bearer> {
        match self {
            Self::Token(secret) => Ok(Bearer::new(secret.clone(), Identity::Token)),
            Self::App(app) => app.bearer(transport, path).await,
        }
    }

    /// Drops a token that GitHub refused. True when another one can be had.
    pub(crate) async fn forget(&self, refused: &Bearer) -> bool {
        match self {
            Self::Token(_) => false,
            Self::App(app) => app.forget(refused).await,
        }
    }
}
