//! A call, as the proxy reads it.

use axum::body::Body;
use axum::http::{HeaderMap, HeaderValue, Method, Request};
use axum::response::Response;
use http_body_util::BodyExt;
use serde_json::Value;
use url::form_urlencoded;

/// A call of one of the APIs.
#[derive(Debug, Clone)]
pub(crate) struct Call {
    pub(crate) prefix: String,
    /// `RunInstances`, `GetParameter`.
    pub(crate) action: String,
    /// The parameters of EC2's and STS's calls.
    pub(crate) form: Vec<(String, String)>,
    method: Method,
    headers: HeaderMap,
    body: Vec<u8>,
}

/// An answer.
#[derive(Debug, Clone)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) content_type: Option<HeaderValue>,
    pub(crate) body: String,
}

impl Call {
    pub(crate) async fn read(request: axum::extract::Request) -> Self {
        let (parts, body) = request.into_parts();
        // A caller that goes away midway has asked for nothing.
        let body = body
            .collect()
            .await
            .map(|body| body.to_bytes().to_vec())
            .unwrap_or_default();
        let path = parts.uri.path().trim_start_matches('/');
        let prefix = path.split('/').next().unwrap_or_default().to_owned();
        let target = parts
            .headers
            .get("x-amz-target")
            .and_then(|t| t.to_str().ok());
        let form: Vec<(String, String)> = match target {
            Some(_) => Vec::new(),
            None => form_urlencoded::parse(&body).into_owned().collect(),
        };
        let action = match target.and_then(|target| target.rsplit('.').next()) {
            Some(action) => Some(action.to_owned()),
            None => form
                .iter()
                .find(|(key, _)| key == "Action")
                .map(|(_, value)| value.clone()),
        };
        Self {
            prefix,
            action: action.unwrap_or_default(),
            form,
            method: parts.method,
            headers: parts.headers,
            body,
        }
    }

    /// The first value of a parameter.
    pub(crate) fn value(&self, key: &str) -> Option<&str> {
        let found = self.form.iter().find(|(name, _)| name == key);
        found.map(|(_, value)| value.as_str())
    }

    /// The values of the parameters that begin so.
    pub(crate) fn values(&self, start: &str) -> Vec<String> {
        let found = self.form.iter().filter(|(name, _)| name.starts_with(start));
        found.map(|(_, value)| value.clone()).collect()
    }

    /// The parameters of a call of Systems Manager.
    pub(crate) fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_default()
    }

    /// The values of a filter.
    pub(crate) fn filter(&self, name: &str) -> Option<Vec<String>> {
        let named = |(key, value): &&(String, String)| key.ends_with(".Name") && value == name;
        let (key, _) = self
            .form
            .iter()
            .filter(|(key, _)| key.starts_with("Filter."))
            .find(named)?;
        Some(self.values(&format!("{}.Value.", key.trim_end_matches(".Name"))))
    }

    /// The same call with other parameters.
    pub(crate) fn with_form(&self, form: Vec<(String, String)>) -> Self {
        let mut body = form_urlencoded::Serializer::new(String::new());
        body.extend_pairs(&form);
        Self {
            action: form
                .iter()
                .find(|(k, _)| k == "Action")
                .map(|(_, v)| v.clone())
                .unwrap_or_default(),
            body: body.finish().into_bytes(),
            form,
            ..self.clone()
        }
    }

    pub(crate) fn to_request(&self, peer: &str) -> Request<Body> {
        let mut request = Request::builder()
            .method(self.method.clone())
            .uri(format!("{peer}/"));
        for (name, value) in &self.headers {
            if !["content-length", "host", "transfer-encoding", "expect"].contains(&name.as_str()) {
                request = request.header(name, value);
            }
        }
        request
            .body(Body::from(self.body.clone()))
            .expect("a request")
    }

    fn is_json(&self) -> bool {
        self.headers.contains_key("x-amz-target")
    }
}

impl Answer {
    /// An error in the dialect of the call's API.
    pub(crate) fn error(call: &Call, status: u16, code: &str) -> Self {
        if call.is_json() {
            return Self {
                status,
                content_type: Some(HeaderValue::from_static("application/x-amz-json-1.1")),
                body: format!(r#"{{"__type":"{code}","message":"planted"}}"#),
            };
        }
        let error = format!("<Error><Code>{code}</Code><Message>planted</Message></Error>");
        let body = match call.action.as_str() {
            "GetCallerIdentity" | "AssumeRole" => {
                format!("<ErrorResponse>{error}<RequestId>r</RequestId></ErrorResponse>")
            }
            _ => format!("<Response><Errors>{error}</Errors><RequestID>r</RequestID></Response>"),
        };
        Self::xml(status, body)
    }

    pub(crate) fn xml(status: u16, body: String) -> Self {
        Self {
            status,
            content_type: Some(HeaderValue::from_static("text/xml")),
            body,
        }
    }

    pub(crate) fn into_response(self) -> Response {
        let mut response = Response::builder().status(self.status);
        if let Some(kind) = self.content_type {
            response = response.header("content-type", kind);
        }
        response.body(Body::from(self.body)).expect("a response")
    }
}
