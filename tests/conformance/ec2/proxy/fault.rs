//! What goes wrong with a call.

use axum::body::Body;
use axum::response::Response;

use super::request::{Answer, Call};

/// A fault that was planted.
#[derive(Debug, Clone)]
pub(crate) struct Rule {
    /// The action; empty is any.
    pub(crate) action: &'static str,
    /// A parameter that the call must have, as `KEY=VALUE`; empty is any.
    pub(crate) parameter: String,
    /// What happens.
    pub(crate) what: What,
    /// How often; `None` is until it is mended.
    pub(crate) times: Option<usize>,
}

/// What happens to a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum What {
    /// It is refused with this status and code, and has no effect.
    Refuse(u16, &'static str),
    /// It is refused for as long as it is about one instance, that of the first call, and has no
    /// effect. Once that instance was asked for alone, the fault is over.
    RefuseOne,
    /// It takes effect, and its answer is this error.
    AfterEffect(u16, &'static str),
    /// It has no effect and no answer.
    Hang,
    /// It takes effect, and its answer never comes.
    HangAfterEffect,
    /// It takes effect, and its answer breaks off midway.
    CutShort,
}

impl Rule {
    /// A fault of an action, until it is mended.
    pub(crate) fn of(action: &'static str, what: What) -> Self {
        Self {
            action,
            parameter: String::new(),
            what,
            times: None,
        }
    }

    /// Only so often.
    pub(crate) fn times(mut self, times: usize) -> Self {
        self.times = Some(times);
        self
    }

    /// Only of calls with this parameter.
    pub(crate) fn when(mut self, parameter: impl Into<String>) -> Self {
        self.parameter = parameter.into();
        self
    }

    fn concerns(&self, call: &Call) -> bool {
        let named = self.action.is_empty() || self.action == call.action;
        let pair = |(key, value): &(String, String)| format!("{key}={value}") == self.parameter;
        let dry = call.value("DryRun") == Some("true");
        if self.what == What::RefuseOne && !self.parameter.is_empty() {
            return named && call.values("InstanceId.").contains(&self.parameter);
        }
        named && !dry && (self.parameter.is_empty() || call.form.iter().any(pair))
    }
}

/// The first fault that concerns a call, which is then used up once.
pub(super) fn take(rules: &mut Vec<Rule>, call: &Call) -> Option<What> {
    let index = rules.iter().position(|rule| rule.concerns(call))?;
    let what = rules[index].what;
    if what == What::RefuseOne {
        let ids = call.values("InstanceId.");
        if rules[index].parameter.is_empty() {
            rules[index].parameter = ids.first().cloned().unwrap_or_default();
        }
        if ids.len() == 1 {
            rules.remove(index);
        }
        return Some(what);
    }
    if let Some(times) = &mut rules[index].times {
        *times -= 1;
        if *times == 0 {
            rules.remove(index);
        }
    }
    Some(what)
}

/// What a fault answers before the call has an effect.
pub(super) async fn before(what: Option<What>, call: &Call) -> Option<Answer> {
    match what {
        Some(What::Refuse(status, code)) => Some(Answer::error(call, status, code)),
        Some(What::RefuseOne) => Some(Answer::error(call, 400, "OperationNotPermitted")),
        Some(What::Hang) => std::future::pending().await,
        _ => None,
    }
}

/// What a fault makes of the answer.
pub(super) async fn after(what: Option<What>, call: &Call, answer: Answer) -> Response {
    match what {
        Some(What::AfterEffect(status, code)) => Answer::error(call, status, code).into_response(),
        Some(What::HangAfterEffect) => std::future::pending().await,
        Some(What::CutShort) => {
            let half = answer.body[..answer.body.len() / 2].to_owned();
            let chunks = [Ok(half), Err(std::io::Error::other("planted"))];
            Response::builder()
                .status(answer.status)
                .header("content-type", "text/xml")
                .body(Body::from_stream(futures::stream::iter(chunks)))
                .expect("a response")
        }
        _ => answer.into_response(),
    }
}
