//! Lists in pages.

use axum::http::{HeaderValue, Uri, header};
use axum::response::Response;
use serde_json::{Value, json};

use super::reply::{Answer, ok};
use crate::core::Core;

/// Items a page when the client does not say, and at most.
const PER_PAGE: (usize, usize) = (30, 100);

/// The value of a query's parameter, percent-decoded.
pub(crate) fn parameter(uri: &Uri, name: &str) -> Option<String> {
    let axum::extract::Query(pairs) =
        axum::extract::Query::<Vec<(String, String)>>::try_from_uri(uri).ok()?;
    pairs
        .into_iter()
        .find_map(|(key, value)| (key == name).then_some(value))
}

fn number(uri: &Uri, name: &str, default: usize) -> usize {
    let given = parameter(uri, name).and_then(|text| text.parse().ok());
    given.filter(|&n| n > 0).unwrap_or(default)
}

/// One page of a list as GitHub wraps it, with its `link` header. Only what is on the page is
/// given its shape.
pub(crate) fn wrapped<T>(
    core: &Core,
    uri: &Uri,
    field: &str,
    items: &[T],
    shape: impl Fn(&T) -> Value,
) -> Answer {
    wrapped_up_to(core, uri, field, (items, usize::MAX), shape)
}

/// The same of a list of which only the first so many are shown, although all are counted.
pub(crate) fn wrapped_up_to<T>(
    core: &Core,
    uri: &Uri,
    field: &str,
    (items, shown): (&[T], usize),
    shape: impl Fn(&T) -> Value,
) -> Answer {
    let (page, links) = cut(core, uri, &items[..shown.min(items.len())]);
    let page: Vec<Value> = page.iter().map(shape).collect();
    linked(
        ok(json!({ "total_count": items.len(), field: page }))?,
        links,
    )
}

/// One page of a bare list.
pub(crate) fn bare(core: &Core, uri: &Uri, items: &[Value]) -> Answer {
    let (page, links) = cut(core, uri, items);
    linked(ok(json!(page))?, links)
}

fn linked(mut response: Response, links: Option<String>) -> Answer {
    if let Some(value) = links.and_then(|links| HeaderValue::from_str(&links).ok()) {
        response.headers_mut().insert(header::LINK, value);
    }
    Ok(response)
}

fn cut<'a, T>(core: &Core, uri: &Uri, items: &'a [T]) -> (&'a [T], Option<String>) {
    let size = number(uri, "per_page", PER_PAGE.0).min(PER_PAGE.1);
    let page = number(uri, "page", 1);
    let from = page.saturating_sub(1).saturating_mul(size).min(items.len());
    let to = from.saturating_add(size).min(items.len());
    (
        &items[from..to],
        links(core, uri, page, items.len().div_ceil(size)),
    )
}

fn links(core: &Core, uri: &Uri, page: usize, last: usize) -> Option<String> {
    let rest: String = uri
        .query()
        .unwrap_or_default()
        .split('&')
        .filter(|pair| !pair.is_empty() && !pair.starts_with("page="))
        .map(|pair| format!("{pair}&"))
        .collect();
    let link = |number: usize, rel: &str| {
        let (base, path) = (core.api_url(), uri.path());
        format!("<{base}{path}?{rest}page={number}>; rel=\"{rel}\"")
    };
    let mut all = Vec::new();
    if page > 1 {
        all.push(link((page - 1).min(last.max(1)), "prev"));
    }
    if page < last {
        all.push(link(page + 1, "next"));
        all.push(link(last, "last"));
    }
    if page > 1 {
        all.push(link(1, "first"));
    }
    (!all.is_empty()).then(|| all.join(", "))
}
