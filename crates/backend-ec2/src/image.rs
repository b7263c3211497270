//! Which image an instance boots from, and what its root volume is called.

use std::time::{Duration, Instant};

use aws_sdk_ec2::types::{Filter, Image as Found, ImageState};
use runner_manager_core::{Error, ErrorKind, Result};
use tokio::sync::Mutex;

use crate::api::Api;
use crate::config::Image;

/// How long an answer holds.
const FRESH: Duration = Duration::from_secs(600);

/// An image as a launch needs it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Resolved {
    /// `ami-…`.
    pub(crate) id: String,
    /// The name of the root device, such as `/dev/sda1`.
    pub(crate) root_device: Option<String>,
    /// The size of the root volume that it was made with, in GiB.
    pub(crate) root_size: Option<i32>,
}

/// The image of a pool, looked for anew from time to time.
#[derive(Debug)]
pub(crate) struct Images {
    wanted: Option<Image>,
    last: Mutex<Option<(Instant, Resolved)>>,
}

impl Images {
    pub(crate) fn new(wanted: Option<Image>) -> Self {
        Self {
            wanted,
            last: Mutex::default(),
        }
    }

    /// The image; `None` where the launch template names it. When it cannot be looked for, the
    /// last answer holds.
    ///
    /// # Errors
    /// [`ErrorKind::InvalidConfig`] when there is none.
    pub(crate) async fn current(&self, api: &Api) -> Result<Option<Resolved>> {
        let Some(wanted) = &self.wanted else {
            return Ok(None);
        };
        let mut last = self.last.lock().await;
        if let Some((at, image)) = &*last
            && at.elapsed() < FRESH
        {
            return Ok(Some(image.clone()));
        }
        match (look(api, wanted).await, &mut *last) {
            (Ok(image), last) => {
                *last = Some((Instant::now(), image.clone()));
                Ok(Some(image))
            }
            (Err(error), Some((_, image))) => {
                tracing::warn!(%error, image = image.id, "cannot look for a newer image; the last one is used");
                Ok(Some(image.clone()))
            }
            (Err(error), None) => Err(error),
        }
    }

    /// Looks anew at the next launch: the image is gone.
    pub(crate) async fn forget(&self) {
        *self.last.lock().await = None;
    }
}

async fn look(api: &Api, wanted: &Image) -> Result<Resolved> {
    let id = match &wanted.ssm_parameter {
        Some(parameter) => Some(parameter_value(api, parameter).await?),
        None => wanted.id.clone(),
    };
    let answer = api
        .call("DescribeImages", || {
            let call = api.ec2.describe_images();
            match (&id, &wanted.name, &wanted.owner) {
                (Some(id), ..) => call.image_ids(id),
                (None, name, owner) => {
                    let name = Filter::builder()
                        .name("name")
                        .set_values(name.clone().map(|n| vec![n]));
                    call.filters(name.build())
                        .set_owners(owner.clone().map(|owner| vec![owner]))
                }
            }
            .send()
        })
        .await;
    let images = match answer {
        Ok(answer) => answer.images.unwrap_or_default(),
        Err(error) if error.kind() == ErrorKind::NotFound => Vec::new(),
        Err(error) => return Err(error.with_context("key", "image")),
    };
    newest(images).ok_or_else(|| {
        let message =
            "there is no such image that is available here; see its region, owner and name";
        Error::new(ErrorKind::InvalidConfig, message).with_context("key", "image")
    })
}

async fn parameter_value(api: &Api, name: &str) -> Result<String> {
    let answer = api
        .call_ssm("GetParameter", || api.ssm.get_parameter().name(name).send())
        .await
        .map_err(|error| error.with_context("key", "image.ssm_parameter"))?;
    answer
        .parameter
        .and_then(|parameter| parameter.value)
        .ok_or_else(|| {
            let message = "the parameter holds no value";
            Error::new(ErrorKind::InvalidConfig, message).with_context("key", "image.ssm_parameter")
        })
}

/// The newest image that is available.
fn newest(images: Vec<Found>) -> Option<Resolved> {
    let ready = images.into_iter().filter(|image| {
        image
            .state
            .as_ref()
            .is_none_or(|state| *state == ImageState::Available)
    });
    // The dates are of one form, so that their order is that of the texts.
    let image = ready.max_by(|a, b| a.creation_date.cmp(&b.creation_date))?;
    let mut devices = image.block_device_mappings.unwrap_or_default().into_iter();
    let root = devices.find(|device| device.device_name == image.root_device_name);
    Some(Resolved {
        id: image.image_id?,
        root_device: image.root_device_name,
        root_size: root.and_then(|root| root.ebs?.volume_size),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn image(id: &str, date: &str, state: ImageState) -> Found {
        Found::builder()
            .image_id(id)
            .creation_date(date)
            .state(state)
            .build()
    }

    #[test]
    fn the_newest_available_image_is_taken() {
        let images = vec![
            image("ami-old", "2026-01-05T00:00:00.000Z", ImageState::Available),
            image("ami-new", "2026-10-05T00:00:00.000Z", ImageState::Available),
            image(
                "ami-pending",
                "2026-11-05T00:00:00.000Z",
                ImageState::Pending,
            ),
        ];
        assert_eq!(
            newest(images).map(|image| image.id).as_deref(),
            Some("ami-new")
        );
        assert_eq!(newest(Vec::new()), None);
    }
}
