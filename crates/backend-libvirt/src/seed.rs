//! The seed of cloud-init: a volume for its data source `NoCloud`,
//! <https://docs.cloud-init.io/en/latest/reference/datasources/nocloud.html>.

use std::io::Cursor;

use hadris_iso::joliet::JolietLevel;
use hadris_iso::read::PathSeparator;
use hadris_iso::sync::write::IsoImageWriter;
use hadris_iso::write::options::{CreationFeatures, IsoFormatOptions};
use hadris_iso::write::{InputEntry, InputTree};
use runner_manager_core::{Error, ErrorKind, Result, RunnerName, UserData};
use serde::Serialize;
use uuid::Uuid;

/// Who made a seed, as its volume descriptor says.
const APPLICATION: &str = "RUNNER-MANAGER SEED 1";

/// Where in an image the primary volume descriptor is, in bytes, and how long it is.
pub(crate) const DESCRIPTOR: (u64, u64) = (16 * 2048, 2048);

#[derive(Serialize)]
struct MetaData<'a> {
    #[serde(rename = "instance-id")]
    instance_id: &'a str,
    #[serde(rename = "local-hostname")]
    local_hostname: &'a str,
}

/// The image of a seed. It holds the runner's credential.
pub(crate) fn image(runner: &RunnerName, domain: Uuid, user_data: &UserData) -> Result<Vec<u8>> {
    let broken = |message: &str| Error::new(ErrorKind::Unexpected, message);
    let (id, host) = (domain.to_string(), runner.to_string());
    let meta = MetaData {
        instance_id: &id,
        local_hostname: &host,
    };
    // JSON is YAML.
    let meta = serde_json::to_vec(&meta)
        .map_err(|error| broken("cannot write the seed's meta-data").with_source(error))?;
    let files = vec![
        InputEntry::file("meta-data", meta),
        InputEntry::file("user-data", user_data.expose()),
    ];
    let options = IsoFormatOptions {
        volume_name: "cidata".into(),
        system_id: None,
        volume_set_id: None,
        publisher_id: None,
        preparer_id: None,
        application_id: Some(APPLICATION.into()),
        sector_size: 2048,
        features: CreationFeatures::joliet(JolietLevel::Level3),
        path_separator: PathSeparator::ForwardSlash,
        strict_charset: false,
    };
    let tree = InputTree::new(PathSeparator::ForwardSlash, files);
    let image = Cursor::new(Vec::new());
    let image = IsoImageWriter::create(image, tree, options)
        .map_err(|error| broken("cannot write the seed").with_source(error.to_string()))?;
    Ok(image.into_inner())
}

/// Whether a volume descriptor is that of a seed of this backend.
pub(crate) fn is_ours(descriptor: &[u8]) -> bool {
    // ECMA-119, 8.4: type 1, `CD001`, and the application's name at byte 574.
    descriptor.starts_with(b"\x01CD001")
        && descriptor
            .get(574..702)
            .is_some_and(|field| field.starts_with(APPLICATION.as_bytes()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use runner_manager_core::{
        BootConfig, Bootstrap, GitHubPath, GitHubRunnerConfig, Labels, LaunchSpec,
        RunnerCredential, Secret, SupportServiceConfig,
    };

    #[test]
    fn a_seed_is_what_cloud_init_and_the_sweep_look_for() {
        let name: RunnerName = "app-0123456789ab".parse().expect("a name");
        let spec = LaunchSpec {
            name: name.clone(),
            credential: RunnerCredential::JitConfig(Secret::new("c2VjcmV0")),
            github: GitHubRunnerConfig {
                github_path: GitHubPath::parse("octo", None).expect("a path"),
                labels: Labels::parse(["linux"]).expect("labels"),
            },
            support: SupportServiceConfig::default(),
        };
        let boot = BootConfig::default();
        let boot = Bootstrap::new(&spec, &boot).expect("a bootstrap");
        let user_data = boot.user_data(None).expect("user-data");
        let image = image(&name, Uuid::nil(), &user_data).expect("an image");
        let start = usize::try_from(DESCRIPTOR.0).expect("small");
        let descriptor = &image[start..start + 2048];
        assert!(is_ours(descriptor));
        // ECMA-119, 8.4.7: the label.
        assert!(descriptor[40..72].starts_with(b"cidata "));
        let holds = |part: &[u8]| image.windows(part.len()).any(|window| window == part);
        assert!(holds(user_data.expose()));
        assert!(holds(b"\"local-hostname\":\"app-0123456789ab\""));
        assert!(!is_ours(&[0; 2048]) && !is_ours(b"\x01CD001"));
    }
}
