//! Answers in GitHub's form.

use axum::Json;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use serde_json::{Value, json};

/// Where GitHub points to in its errors.
const DOCS: &str = "https://docs.github.com/rest";

/// An answer that is not what was asked for.
#[derive(Debug)]
pub(crate) struct Failure(pub(crate) StatusCode, pub(crate) String);

pub(crate) type Answer<T = Response> = Result<T, Failure>;

impl Failure {
    pub(crate) fn not_found() -> Self {
        Self(StatusCode::NOT_FOUND, "Not Found".into())
    }

    pub(crate) fn invalid(why: impl Into<String>) -> Self {
        Self(StatusCode::UNPROCESSABLE_ENTITY, why.into())
    }

    pub(crate) fn unauthorized(why: &str) -> Self {
        Self(StatusCode::UNAUTHORIZED, why.into())
    }
}

/// GitHub's error object.
pub(crate) fn error_body(status: StatusCode, message: &str) -> Value {
    json!({
        "message": message,
        "documentation_url": DOCS,
        "status": status.as_u16().to_string(),
    })
}

impl IntoResponse for Failure {
    fn into_response(self) -> Response {
        let body = error_body(self.0, &self.1);
        (self.0, Json(body)).into_response()
    }
}

/// What no route knows.
pub(crate) async fn unknown() -> Failure {
    Failure::not_found()
}

/// 200 with this object.
pub(crate) fn ok(body: Value) -> Answer {
    Ok(Json(body).into_response())
}

/// 201 with this object.
pub(crate) fn created(body: Value) -> Answer {
    Ok((StatusCode::CREATED, Json(body)).into_response())
}
