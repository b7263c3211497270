//! `DescribeInstances`, as EC2 has it: pages of a bounded number, late, stale, or too short.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};

use super::request::{Answer, Call};
use super::{Shared, xml};

/// What goes wrong with the lists of a prefix.
#[derive(Default)]
pub(super) struct Lists {
    pub(super) truncated: bool,
    /// What lists answered when they were frozen.
    pub(super) frozen: Option<Vec<String>>,
}

/// The pages that callers have not asked for yet, by token.
#[derive(Default)]
pub(super) struct Pages(Mutex<HashMap<String, Rest>>);

/// What stands before the instances of an answer, the instances that are left, and what stands
/// after them.
type Rest = (String, Vec<String>, String);

/// The most that moto is asked for at once.
const ALL: &str = "1000000";

/// Everything of a prefix, with moto's own idea of it.
pub(super) async fn of_prefix(shared: &Arc<Shared>, prefix: &str) -> Vec<String> {
    let form = [
        ("Action", "DescribeInstances"),
        ("Version", "2016-11-15"),
        ("MaxResults", ALL),
        ("Filter.1.Name", "tag:runner-manager:prefix"),
        ("Filter.1.Value.1", prefix),
    ];
    let form = form.map(|(key, value)| (key.to_owned(), value.to_owned()));
    let request = axum::http::Request::builder()
        .method("POST")
        .uri(format!("/{prefix}/"))
        .header("content-type", "application/x-www-form-urlencoded")
        // moto tells the services apart by the scope of the credential.
        .header(
            "authorization",
            "AWS4-HMAC-SHA256 Credential=p/20260101/us-east-1/ec2/aws4_request",
        )
        .body(axum::body::Body::empty())
        .expect("a request");
    let call = Call::read(request).await.with_form(form.to_vec());
    xml::split(&shared.forward(&call).await.body, "reservationSet").items
}

pub(super) async fn describe(shared: &Arc<Shared>, call: &Call) -> Answer {
    if let Some(token) = call.value("NextToken") {
        let pages = shared
            .pages
            .0
            .lock()
            .expect("no test panics with the lock")
            .remove(token);
        return match pages {
            Some((head, items, tail)) => page(shared, call, &head, items, &tail),
            None => Answer::error(call, 400, "InvalidNextToken"),
        };
    }
    let form = call
        .form
        .iter()
        .filter(|(key, _)| key != "MaxResults")
        .cloned();
    let all = call
        .value("MaxResults")
        .map(|_| ("MaxResults".to_owned(), ALL.to_owned()));
    let answer = shared
        .forward(&call.with_form(form.chain(all).collect()))
        .await;
    if answer.status != 200 {
        return answer;
    }
    let list = xml::split(&xml::without(&answer.body, "nextToken"), "reservationSet");
    let hidden = shared.hidden(&call.prefix);
    let id = |item: &str| xml::text(item, "instanceId").unwrap_or_default().to_owned();
    let mut items = list.items;
    shared.with(&call.prefix, |site| {
        let is_list = call.filter("instance-id").is_none();
        if let Some(frozen) = site.lists.frozen.as_ref().filter(|_| is_list) {
            items = frozen.clone();
            if let Some(names) = call.filter("tag:Name") {
                items.retain(|item| {
                    names
                        .iter()
                        .any(|n| item.contains(&format!("<value>{n}</value>")))
                });
            }
        }
        items.retain(|item| !hidden.contains(&id(item)));
        if site.lists.truncated && is_list {
            items.truncate(items.len() / 2);
        }
        for item in &mut items {
            if let Some(state) = site.states.get(&id(item)) {
                force(item, state);
            }
            if site.aged.contains(&id(item)) {
                xml::replace(item, "launchTime", "2020-01-01T00:00:00.000Z");
            }
            shared.place(item);
        }
    });
    page(shared, call, &list.head, items, &list.tail)
}

/// Puts another word in the place of the instance's state.
fn force(item: &mut String, state: &str) {
    let Some(start) = item.find("<instanceState>") else {
        return;
    };
    let Some(end) = item[start..].find("</instanceState>").map(|at| start + at) else {
        return;
    };
    item.replace_range(
        start..end,
        &format!("<instanceState><code>0</code><name>{state}</name>"),
    );
}

fn page(shared: &Shared, call: &Call, head: &str, mut items: Vec<String>, tail: &str) -> Answer {
    let most = call.value("MaxResults").map_or(usize::MAX, |_| shared.page);
    let rest = items.split_off(items.len().min(most));
    let next = if rest.is_empty() {
        String::new()
    } else {
        let mut pages = shared.pages.0.lock().expect("no test panics with the lock");
        let token = format!("page-{}-{}", call.prefix, pages.len() + rest.len() * 1000);
        pages.insert(token.clone(), (head.to_owned(), rest, tail.to_owned()));
        format!("<nextToken>{token}</nextToken>")
    };
    let tail = tail.replacen("</reservationSet>", &format!("</reservationSet>{next}"), 1);
    Answer::xml(200, format!("{head}{}{tail}", items.concat()))
}
