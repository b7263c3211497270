//! The Actions service behind scale sets: the part of it that the fleet uses.

use std::time::Duration;

use runner_manager_github::Request;
use serde_json::{Value, json};
use tokio::time::{Instant, timeout_at};

use super::{Line, parameter};
use crate::hub::{Registration, ScaleSet};
use crate::world::State;

/// Where the service is.
const BASE: &str = "http://127.0.0.1:9/tenants/acme";
/// How long a question for messages waits for news.
const POLL: Duration = Duration::from_secs(50);

/// A question for the messages of a queue.
struct Poll {
    set: u64,
    session: u64,
    last: u64,
}

impl Poll {
    fn of(request: &Request) -> Option<Self> {
        let path = request.url.path().strip_prefix("/tenants/acme/queues/")?;
        let set = path.strip_suffix("/messages")?;
        let number = |text: Option<String>| text.and_then(|text| text.parse().ok()).unwrap_or(0);
        Some(Self {
            set: set.parse().ok()?,
            session: number(parameter(request, "sessionId")),
            last: number(parameter(request, "lastMessageId")),
        })
    }
}

fn exception(status: u16, class: &str) -> (u16, Value) {
    let body = json!({
        "message": format!("refused: {class}"),
        "typeName": format!("GitHub.Actions.{class}, GitHub.Actions"),
        "typeKey": class,
    });
    (status, body)
}

fn gone() -> (u16, Value) {
    exception(404, "RunnerScaleSetNotFoundException")
}

fn list(value: &[Value]) -> (u16, Value) {
    (200, json!({ "count": value.len(), "value": value }))
}

fn agent(runner: &Registration) -> Value {
    json!({ "id": runner.id, "name": runner.name, "runnerScaleSetId": runner.set })
}

fn shape(state: &State, set: &ScaleSet) -> Value {
    let label = |name: &String| json!({ "type": "System", "name": name });
    json!({
        "id": set.id,
        "name": set.name,
        "runnerGroupId": 1,
        "labels": set.labels.iter().map(label).collect::<Vec<_>>(),
        "statistics": state.hub.statistics(set.id),
    })
}

impl Line {
    /// Whatever the request is for: one for messages waits until there are some.
    pub(super) async fn await_news(&self, request: &Request) {
        let Some(poll) = Poll::of(request) else {
            return;
        };
        let until = Instant::now() + POLL;
        {
            let mut state = self.0.state();
            if !state.hub.has_session(poll.set, poll.session) {
                return;
            }
            let capacity = request.headers.get("x-scalesetmaxcapacity");
            let capacity = capacity.and_then(|value| value.to_str().ok()?.parse().ok());
            state.hub.advertise(poll.set, capacity.unwrap_or(0));
            self.0.assign(&mut state);
        }
        loop {
            // Made before the look, so that nothing comes in between.
            let news = self.0.news.notified();
            if self.0.state().hub.has_news(poll.set, poll.last) {
                return;
            }
            if timeout_at(until, news).await.is_err() {
                return;
            }
        }
    }

    /// The answer to a request that is for the service.
    pub(super) fn service(&self, state: &mut State, request: &Request) -> (u16, Value) {
        let world = &self.0;
        if world.strikes(state, |f| f.token_refused) {
            return exception(401, "UnauthorizedRequestException");
        }
        let path = request.url.path().trim_start_matches("/tenants/acme/");
        let parts: Vec<&str> = path.split('/').collect();
        let method = request.method.as_str();
        match parts.as_slice() {
            ["queues", _, "messages"] => self.poll(state, request),
            ["queues", set, "messages", message] => {
                state.hub.acknowledge(number(set), number(message));
                (204, Value::Null)
            }
            ["_apis", "distributedtask", "pools", "0", "agents"] => {
                let name = parameter(request, "agentName").unwrap_or_default();
                let found = state.hub.named(&name);
                let found = found.and_then(|id| state.hub.runners.get(&id));
                list(found.map(agent).as_slice())
            }
            ["_apis", "distributedtask", "pools", "0", "agents", id] => {
                match self.delete(state, number(id)) {
                    (422, _) => exception(400, "JobStillRunningException"),
                    (404, _) => exception(404, "AgentNotFoundException"),
                    done => done,
                }
            }
            ["_apis", "runtime", "runnerscalesets"] if method == "GET" => {
                let name = parameter(request, "name").unwrap_or_default();
                let found = state.hub.set_named(&name);
                list(found.map(|set| shape(state, set)).as_slice())
            }
            ["_apis", "runtime", "runnerscalesets"] => make(state, request),
            ["_apis", "runtime", "runnerscalesets", set, rest @ ..] => {
                self.of_set(state, request, number(set), rest)
            }
            _ => gone(),
        }
    }

    fn of_set(
        &self,
        state: &mut State,
        request: &Request,
        set: u64,
        rest: &[&str],
    ) -> (u16, Value) {
        match (request.method.as_str(), rest) {
            ("GET", []) => match state.hub.set(set) {
                Some(set) => (200, shape(state, set)),
                None => gone(),
            },
            ("POST", ["sessions"]) => {
                let opened = state.hub.open_session(set);
                self.0.assign(state);
                opened.map_or_else(gone, |session| session_shape(state, set, session))
            }
            ("PATCH", ["sessions", session]) => {
                let session = number(session);
                if state.hub.has_session(set, session) {
                    return session_shape(state, set, session);
                }
                gone()
            }
            ("DELETE", ["sessions", session]) => {
                if !state.hub.has_session(set, number(session)) {
                    return gone();
                }
                state.hub.end_session(set);
                (204, Value::Null)
            }
            ("POST", ["acquirejobs"]) => {
                let asked = request.body.as_ref().and_then(Value::as_array);
                let asked = asked.into_iter().flatten().filter_map(Value::as_u64);
                let got = state.hub.acquire(set, &asked.collect::<Vec<_>>());
                self.0.assign(state);
                (200, json!({ "count": got.len(), "value": got }))
            }
            ("POST", ["generatejitconfig"]) => {
                let body = request.body.clone().unwrap_or_default();
                let name = body["name"].as_str().unwrap_or_default();
                match state.hub.register_in(set, name) {
                    Ok(runner) => {
                        let config = runner.id.to_string();
                        let runner = agent(runner);
                        (200, json!({ "runner": runner, "encodedJITConfig": config }))
                    }
                    Err(_) => exception(409, "AgentExistsException"),
                }
            }
            _ => gone(),
        }
    }

    fn poll(&self, state: &mut State, request: &Request) -> (u16, Value) {
        let Some(poll) = Poll::of(request) else {
            return gone();
        };
        if self.0.strikes(state, |f| f.session_lost) {
            state.hub.end_session(poll.set);
        }
        if !state.hub.has_session(poll.set, poll.session) {
            return gone();
        }
        match state.hub.message(poll.set, poll.last) {
            Some(message) => (200, message),
            None => (202, Value::Null),
        }
    }
}

fn number(text: &str) -> u64 {
    text.parse().unwrap_or(0)
}

/// `POST /actions/runner-registration`.
pub(super) fn connection() -> (u16, Value) {
    (200, json!({ "url": BASE, "token": "AAAA" }))
}

fn make(state: &mut State, request: &Request) -> (u16, Value) {
    let body = request.body.clone().unwrap_or_default();
    let name = body["name"].as_str().unwrap_or_default();
    let labels = body["labels"].as_array().into_iter().flatten();
    let labels = labels.filter_map(|label| Some(label["name"].as_str()?.to_owned()));
    let made = state.hub.make_set(name, labels.collect());
    match made.and_then(|id| state.hub.set(id)) {
        Some(set) => (200, shape(state, set)),
        None => exception(400, "RunnerScaleSetExistsException"),
    }
}

fn session_shape(state: &State, set: u64, session: u64) -> (u16, Value) {
    let queue = format!("{BASE}/queues/{set}/messages?sessionId={session}");
    let body = json!({
        "sessionId": session.to_string(),
        "messageQueueUrl": queue,
        "messageQueueAccessToken": "AAAA",
        "statistics": state.hub.statistics(set),
    });
    (200, body)
}
