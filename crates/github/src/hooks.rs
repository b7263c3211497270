//! Webhooks on GitHub's side: making them, and asking for what they failed to deliver.

use jiff::Timestamp;
use reqwest::header::LINK;
use runner_manager_core::{Error, ErrorKind, GitHubPath, Result};
use serde::Deserialize;
use serde_json::{Value, json};
use url::Url;

use crate::answer::Answer;
use crate::call::{Call, Safety};
use crate::lenient::{Maybe, Record, Texts};
use crate::model::{FailedDelivery, HookChange, HookPlace, HookSpec};
use crate::{GitHub, urls};

/// The event that runners are about.
const EVENT: &str = "workflow_job";
/// The most pages of 100 that one question about deliveries or hooks reads.
const MAX_PAGES: usize = 10;

const NEEDS_APP: &str = "to be a GitHub App";

/// A webhook that was made.
#[derive(Deserialize)]
struct Made {
    id: u64,
}

#[derive(Deserialize)]
struct HookConfig {
    #[serde(default)]
    url: Maybe<String>,
    #[serde(default)]
    content_type: Maybe<String>,
}

impl HookConfig {
    fn goes_to(&self, wanted: &Url) -> bool {
        let url = self.url.0.as_deref().map(Url::parse);
        url.is_some_and(|url| url.is_ok_and(|url| url == *wanted))
    }

    fn is_json(&self) -> bool {
        self.content_type.0.as_deref() == Some("json")
    }
}

/// A webhook, in a list with those of others.
#[derive(Deserialize)]
struct Hook {
    #[serde(default)]
    id: Maybe<u64>,
    #[serde(default)]
    active: Maybe<bool>,
    #[serde(default)]
    events: Texts,
    #[serde(default)]
    config: Record<HookConfig>,
}

#[derive(Deserialize)]
struct Delivery {
    #[serde(default)]
    id: Maybe<u64>,
    #[serde(default)]
    guid: Maybe<String>,
    #[serde(default)]
    delivered_at: Maybe<Timestamp>,
    #[serde(default)]
    status_code: Maybe<u64>,
    #[serde(default)]
    event: Maybe<String>,
}

#[derive(Deserialize)]
struct App {
    #[serde(default)]
    events: Vec<String>,
}

fn needs(path: &GitHubPath) -> &'static str {
    match path {
        GitHubPath::Organization { .. } => {
            "the organization permission `Webhooks: write` (classic token: scope `admin:org_hook`)"
        }
        GitHubPath::Repository { .. } => {
            "the repository permission `Webhooks: write` (classic token: scope `admin:repo_hook`)"
        }
        GitHubPath::Enterprise { .. } => {
            "a GitHub App: an enterprise has no webhooks of its own here"
        }
    }
}

fn config(spec: &HookSpec) -> Value {
    json!({
        "url": spec.url.as_str(),
        "content_type": "json",
        "secret": spec.secret.expose(),
        "insecure_ssl": "0",
    })
}

impl GitHub {
    /// How many GitHub Apps the credential is made of; none for a token.
    #[must_use]
    pub fn apps(&self) -> usize {
        self.0.credentials.apps()
    }

    /// The webhook of an organization or repository that goes to this address.
    ///
    /// # Errors
    /// When GitHub cannot be asked; [`ErrorKind::Unsupported`] for an enterprise.
    pub async fn find_hook(&self, path: &GitHubPath, url: &Url) -> Result<Option<u64>> {
        Ok(self.hook_to(path, url).await?.map(|(id, _)| id))
    }

    async fn hook_to(&self, path: &GitHubPath, url: &Url) -> Result<Option<(u64, Hook)>> {
        if matches!(path, GitHubPath::Enterprise { .. }) {
            let message = "an enterprise's webhooks cannot be managed through the API; use a GitHub App, or pools of organizations";
            return Err(Error::new(ErrorKind::Unsupported, message).with_context("scope", path));
        }
        for page in 1..=MAX_PAGES {
            let page = page.to_string();
            let query = [("per_page", "100"), ("page", page.as_str())];
            let url_of_page = urls::in_scope(&self.0.api, path, &["hooks"], &query);
            let call = Call::get(url_of_page, needs(path));
            let hooks: Vec<Record<Hook>> = self.send(path, &call).await?.json()?;
            let more = hooks.len() == 100;
            let found = hooks.into_iter().find_map(|hook| {
                let hook = hook.0?;
                let goes_here = hook.config.0.as_ref()?.goes_to(url);
                Some((hook.id.0?, hook)).filter(|_| goes_here)
            });
            if found.is_some() || !more {
                return Ok(found);
            }
        }
        Ok(None)
    }

    /// Makes the webhook of an organization or repository, or makes the one that goes to this
    /// address what is asked for. Its secret is set in any case: GitHub does not show it.
    ///
    /// # Errors
    /// As [`find_hook`](Self::find_hook).
    pub async fn install_hook(
        &self,
        path: &GitHubPath,
        spec: &HookSpec,
    ) -> Result<(HookPlace, HookChange)> {
        let place = |id| HookPlace::Hook {
            path: path.clone(),
            id,
        };
        let mut body = json!({ "config": config(spec), "events": [EVENT], "active": true });
        let Some((id, hook)) = self.hook_to(path, &spec.url).await? else {
            body["name"] = json!("web");
            let url = urls::in_scope(&self.0.api, path, &["hooks"], &[]);
            // A second one would deliver everything twice.
            let call = Call::post(url, Some(body), Safety::Once, needs(path));
            let made: Made = self.send(path, &call).await?.json()?;
            return Ok((place(made.id), HookChange::Made));
        };
        let same = hook.active.0 == Some(true)
            && hook.events.0.is_some_and(|events| events == [EVENT])
            && hook.config.0.is_some_and(|config| config.is_json());
        let number = id.to_string();
        let url = urls::in_scope(&self.0.api, path, &["hooks", &number], &[]);
        self.send(path, &Call::patch(url, body, needs(path)))
            .await?;
        let change = if same {
            HookChange::SecretOnly
        } else {
            HookChange::Changed
        };
        Ok((place(id), change))
    }

    /// Makes the webhook of a GitHub App what is asked for. Also tells whether the App is
    /// subscribed to the event, which only its settings page can change.
    ///
    /// # Errors
    /// When GitHub cannot be asked; [`ErrorKind::Unsupported`] without that App.
    pub async fn install_app_hook(
        &self,
        app: usize,
        spec: &HookSpec,
    ) -> Result<(HookChange, bool)> {
        let url = urls::join(&self.0.api, &["app", "hook", "config"], &[]);
        let before: HookConfig = self
            .as_app(app, &Call::get(url.clone(), NEEDS_APP))
            .await?
            .json()?;
        let same = before.goes_to(&spec.url) && before.is_json();
        self.as_app(app, &Call::patch(url, config(spec), NEEDS_APP))
            .await?;
        let about = urls::join(&self.0.api, &["app"], &[]);
        let about: App = self
            .as_app(app, &Call::get(about, NEEDS_APP))
            .await?
            .json()?;
        let change = if same {
            HookChange::SecretOnly
        } else {
            HookChange::Changed
        };
        Ok((change, about.events.iter().any(|event| event == EVENT)))
    }

    /// Has GitHub send a `ping` to a webhook of an organization or repository.
    ///
    /// # Errors
    /// When GitHub cannot be asked; [`ErrorKind::Unsupported`] for an App's.
    pub async fn ping_hook(&self, place: &HookPlace) -> Result<()> {
        let HookPlace::Hook { path, id } = place else {
            let message = "GitHub sends no ping to the webhook of an App on demand; see the deliveries on the App's settings page";
            return Err(Error::new(ErrorKind::Unsupported, message));
        };
        let id = id.to_string();
        let url = urls::in_scope(&self.0.api, path, &["hooks", &id, "pings"], &[]);
        let call = Call::post(url, None, Safety::Repeatable, needs(path));
        self.send(path, &call).await.map(|_| ())
    }

    /// The `workflow_job` deliveries that failed since then, the newest attempt of each, oldest
    /// first. At most the newest 1,000 attempts are looked at.
    ///
    /// # Errors
    /// When GitHub cannot be asked or refuses.
    pub async fn failed_deliveries(
        &self,
        place: &HookPlace,
        since: Timestamp,
    ) -> Result<Vec<FailedDelivery>> {
        let query = [("per_page", "100"), ("status", "failure")];
        let mut url = self.deliveries(place, &[], &query);
        let mut found: Vec<FailedDelivery> = Vec::new();
        for _ in 0..MAX_PAGES {
            let needs = match place {
                HookPlace::App(_) => NEEDS_APP,
                HookPlace::Hook { path, .. } => needs(path),
            };
            let answer = self.at(place, &Call::get(url.clone(), needs)).await?;
            let page: Vec<Record<Delivery>> = answer.json()?;
            let page = page.into_iter().filter_map(|delivery| delivery.0);
            let mut past = false;
            for delivery in page {
                let is_old = delivery.delivered_at.0.is_some_and(|at| at < since);
                past |= is_old;
                // A GitHub that does not know the filter shows those that arrived, too.
                let arrived = delivery
                    .status_code
                    .0
                    .is_some_and(|s| (200..400).contains(&s));
                let (Some(id), Some(guid)) = (delivery.id.0, delivery.guid.0) else {
                    continue;
                };
                let is_known = found.iter().any(|known| known.guid == guid);
                let is_event = delivery.event.0.as_deref() == Some(EVENT);
                if is_event && !arrived && !is_known && !is_old {
                    found.push(FailedDelivery { id, guid });
                }
            }
            match next_page(&answer, &self.0.api) {
                Some(next) if !past => url = next,
                _ => break,
            }
        }
        found.reverse();
        Ok(found)
    }

    /// Has GitHub deliver something again. It comes with the id that it had.
    ///
    /// # Errors
    /// When GitHub cannot be asked or refuses.
    pub async fn redeliver(&self, place: &HookPlace, delivery: u64) -> Result<()> {
        let id = delivery.to_string();
        let url = self.deliveries(place, &[&id, "attempts"], &[]);
        let call = Call::post(url, None, Safety::Repeatable, NEEDS_APP);
        self.at(place, &call).await.map(|_| ())
    }

    fn deliveries(&self, place: &HookPlace, rest: &[&str], query: &[(&str, &str)]) -> Url {
        match place {
            HookPlace::App(_) => {
                let segments = [&["app", "hook", "deliveries"], rest].concat();
                urls::join(&self.0.api, &segments, query)
            }
            HookPlace::Hook { path, id } => {
                let id = id.to_string();
                let segments = [&["hooks", &id, "deliveries"], rest].concat();
                urls::in_scope(&self.0.api, path, &segments, query)
            }
        }
    }

    async fn at(&self, place: &HookPlace, call: &Call) -> Result<Answer> {
        match place {
            HookPlace::App(app) => self.as_app(*app, call).await,
            HookPlace::Hook { path, .. } => self.send(path, call).await,
        }
    }

    async fn as_app(&self, app: usize, call: &Call) -> Result<Answer> {
        let proof = self.0.credentials.proof(app)?;
        self.0.rest.call(call, &proof).await
    }
}

/// Where the next page is; followed only within the API.
fn next_page(answer: &Answer, api: &Url) -> Option<Url> {
    let links = answer.header(LINK)?.split(',');
    let next = links.filter_map(|link| {
        let (address, rest) = link.trim().strip_prefix('<')?.split_once('>')?;
        rest.contains("rel=\"next\"").then_some(address)
    });
    let url = Url::parse(next.into_iter().next()?).ok()?;
    (url.origin() == api.origin()).then_some(url)
}
