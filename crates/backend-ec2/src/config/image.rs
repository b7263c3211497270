//! The image, and the launch template.

use schemars::JsonSchema;
use serde::Deserialize;

/// Which image: exactly one of `id`, `name` with `owner`, and `ssm_parameter`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Image {
    /// Its id, `ami-…`.
    pub id: Option<String>,
    /// A pattern of its name with `*` and `?`; the newest that fits is taken, and looked for
    /// anew every ten minutes. Needs `owner`.
    pub name: Option<String>,
    /// Who owns it: an account id, `self`, `amazon` or `aws-marketplace`. Anybody may publish an
    /// image of any name.
    pub owner: Option<String>,
    /// A parameter of Systems Manager that holds its id, read anew every ten minutes.
    pub ssm_parameter: Option<String>,
}

/// A launch template: exactly one of `id` and `name`.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct LaunchTemplate {
    /// Its id, `lt-…`.
    pub id: Option<String>,
    /// Its name.
    pub name: Option<String>,
    /// A version number, `$Latest` or `$Default`. Default: `$Default`.
    #[serde(default = "default_version")]
    pub version: String,
}

fn default_version() -> String {
    "$Default".into()
}
