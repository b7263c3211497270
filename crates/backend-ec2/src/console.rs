//! The console's text.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use runner_manager_core::{Error, ErrorKind, Result};

use crate::api::Api;

/// The most bytes of it that are kept, from its end. EC2 keeps 64 KiB.
const MOST: usize = 64 * 1024;

/// The end of the console's text; `None` before the first of it is there, about a minute after
/// the launch.
pub(crate) async fn tail(api: &Api, instance: &str) -> Result<Option<String>> {
    let answer = api
        .call("GetConsoleOutput", || {
            api.ec2.get_console_output().instance_id(instance).send()
        })
        .await?;
    let Some(text) = answer.output.filter(|text| !text.is_empty()) else {
        return Ok(None);
    };
    let bytes = STANDARD
        .decode(text.split_whitespace().collect::<String>())
        .map_err(|error| {
            let message = "the console's text is not base64";
            Error::new(ErrorKind::BadAnswer, message).with_source(error)
        })?;
    let end = &bytes[bytes.len().saturating_sub(MOST)..];
    Ok(Some(String::from_utf8_lossy(end).into_owned()))
}
