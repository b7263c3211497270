//! The runner's arguments, from the command line or the environment.

use std::collections::HashMap;

/// What the environment's names begin with.
pub(super) const INPUT: &str = "ACTIONS_RUNNER_INPUT_";

/// The values that the runner knows; the rest are flags.
const VALUES: [&str; 8] = [
    "url",
    "token",
    "name",
    "labels",
    "runnergroup",
    "work",
    "jitconfig",
    "pat",
];
const FLAGS: [&str; 6] = [
    "ephemeral",
    "unattended",
    "replace",
    "disableupdate",
    "no-default-labels",
    "once",
];

/// The arguments.
#[derive(Debug, Default)]
pub(super) struct Arguments {
    values: HashMap<&'static str, String>,
    flags: Vec<&'static str>,
}

impl Arguments {
    /// Reads arguments; what the command line lacks comes from the environment. Unknown ones are
    /// skipped, as the real runner does when it runs.
    pub(super) fn new(given: &[String], environment: impl Fn(&str) -> Option<String>) -> Self {
        let mut arguments = Self::default();
        for name in VALUES {
            let input = format!("{INPUT}{}", name.to_uppercase());
            if let Some(value) = environment(&input).filter(|value| !value.is_empty()) {
                arguments.values.insert(name, value);
            }
        }
        for name in FLAGS {
            let input = format!("{INPUT}{}", name.to_uppercase());
            if environment(&input).is_some_and(|value| value.eq_ignore_ascii_case("true")) {
                arguments.flags.push(name);
            }
        }
        let mut rest = given.iter();
        while let Some(word) = rest.next() {
            let word = word.trim_start_matches("--");
            if let Some(name) = VALUES.iter().find(|name| **name == word) {
                if let Some(value) = rest.next() {
                    arguments.values.insert(name, value.clone());
                }
            } else if let Some(name) = FLAGS.iter().find(|name| **name == word) {
                arguments.flags.push(name);
            }
        }
        arguments
    }

    pub(super) fn value(&self, name: &str) -> Option<&str> {
        self.values.get(name).map(String::as_str)
    }

    pub(super) fn need(&self, name: &str) -> Result<&str, String> {
        let missing = || {
            format!(
                "--{name} is missing; give it or {INPUT}{}",
                name.to_uppercase()
            )
        };
        self.value(name).ok_or_else(missing)
    }

    pub(super) fn has(&self, flag: &str) -> bool {
        self.flags.contains(&flag)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_line_comes_before_the_environment() {
        let given = ["--name", "a", "--ephemeral", "--odd"].map(str::to_owned);
        let arguments = Arguments::new(&given, |name| match name {
            "ACTIONS_RUNNER_INPUT_NAME" => Some("b".into()),
            "ACTIONS_RUNNER_INPUT_TOKEN" => Some("t".into()),
            "ACTIONS_RUNNER_INPUT_REPLACE" => Some("True".into()),
            _ => None,
        });
        assert_eq!(arguments.value("name"), Some("a"));
        assert_eq!(arguments.value("token"), Some("t"));
        assert!(arguments.has("ephemeral") && arguments.has("replace"));
        assert!(!arguments.has("once"));
        assert!(
            arguments
                .need("url")
                .unwrap_err()
                .contains("ACTIONS_RUNNER_INPUT_URL")
        );
    }
}
