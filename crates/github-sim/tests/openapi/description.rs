//! GitHub's `OpenAPI` description: fetched once, at a pinned version, by npm.

use std::collections::BTreeMap;
use std::fs;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

use serde_json::{Map, Value, json};
use sha2::{Digest, Sha256};

const PACKAGE: &str = "@octokit/openapi@23.0.2";
const ARCHIVE: &str = "octokit-openapi-23.0.2.tgz";
const SHA256: &str = "71a18407dd5e8464f4e0525daf03deabbe65abd9287d6adc7b5d98f516cd0d0c";
/// The one with the enterprise paths.
const FILE: &str = "package/generated/ghec.json";

/// The description.
pub(crate) struct Description(Value);

/// The description, read once for all tests.
pub(crate) fn description() -> &'static Description {
    static READ: OnceLock<Description> = OnceLock::new();
    READ.get_or_init(|| Description(serde_json::from_slice(&fetch()).unwrap()))
}

fn fetch() -> Vec<u8> {
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR"));
    let kept = folder.join("ghec-23.0.2.json");
    if let Ok(text) = fs::read(&kept) {
        return text;
    }
    let packed = tempfile::tempdir_in(folder).unwrap();
    let npm = Command::new("npm")
        .args(["pack", "--silent", PACKAGE, "--pack-destination"])
        .arg(packed.path())
        .output()
        .expect("this test needs npm to fetch GitHub's description; install Debian's `npm`");
    assert!(
        npm.status.success(),
        "npm: {}",
        String::from_utf8_lossy(&npm.stderr)
    );
    let archive = fs::read(packed.path().join(ARCHIVE)).unwrap();
    let sum: String = Sha256::digest(&archive)
        .iter()
        .map(|b| format!("{b:02x}"))
        .collect();
    assert_eq!(sum, SHA256, "the archive is not the pinned one");
    let mut archive = tar::Archive::new(flate2::read::GzDecoder::new(&archive[..]));
    let mut text = Vec::new();
    for entry in archive.entries().unwrap() {
        let mut entry = entry.unwrap();
        if entry.path().unwrap() == PathBuf::from(FILE) {
            entry.read_to_end(&mut text).unwrap();
        }
    }
    let whole = packed.path().join("whole");
    fs::write(&whole, &text).unwrap();
    fs::rename(whole, kept).unwrap();
    text
}

impl Description {
    /// The template of a path and its operation.
    fn operation(&self, method: &str, path: &str) -> &Value {
        let path = path.split('?').next().unwrap_or_default();
        let parts: Vec<&str> = path.split('/').collect();
        let fits = |template: &str| {
            let wanted: Vec<&str> = template.split('/').collect();
            let same = |(wanted, part): (&&str, &&str)| wanted.starts_with('{') || wanted == part;
            wanted.len() == parts.len() && wanted.iter().zip(&parts).all(same)
        };
        let paths = self.0["paths"].as_object().unwrap();
        let found = paths.iter().filter(|(template, _)| fits(template));
        let best = found.min_by_key(|(template, _)| template.matches('{').count());
        let (_, item) = best.unwrap_or_else(|| panic!("GitHub has no path {path}"));
        let operation = &item[method.to_lowercase()];
        assert!(!operation.is_null(), "GitHub has no {method} {path}");
        operation
    }

    fn resolve<'a>(&'a self, value: &'a Value) -> &'a Value {
        match value["$ref"].as_str() {
            Some(reference) => {
                let pointer = reference.trim_start_matches('#');
                self.resolve(self.0.pointer(pointer).unwrap())
            }
            None => value,
        }
    }

    /// Says what GitHub's schema of an answer finds wrong with it.
    fn faults(&self, method: &str, path: &str, status: u16, body: &Value) -> Vec<String> {
        let responses = &self.operation(method, path)["responses"];
        let response = self.resolve(&responses[status.to_string()]);
        let content = response["content"].as_object();
        match content.and_then(|content| content.get("application/json")) {
            Some(media) => self.validate(&media["schema"], body),
            // Errors that an operation does not list have the basic form.
            None if status >= 400 => {
                let basic = json!({ "$ref": "#/components/schemas/basic-error" });
                self.validate(&basic, body)
            }
            None if response.is_null() => vec![format!("GitHub never answers {status}")],
            None if body.is_null() || *body == json!({}) => Vec::new(),
            None => vec!["GitHub answers without a body".into()],
        }
    }

    /// Checks an answer of an operation.
    pub(crate) fn check(&self, method: &str, path: &str, status: u16, body: &Value) {
        let faults = self.faults(method, path, status, body);
        assert!(
            faults.is_empty(),
            "{method} {path} {status}: {faults:#?}\n{body:#}"
        );
    }

    /// Whether the check would fail.
    pub(crate) fn finds_fault(&self, method: &str, path: &str, status: u16, body: &Value) -> bool {
        !self.faults(method, path, status, body).is_empty()
    }

    /// Checks the body of a request.
    pub(crate) fn check_request(&self, method: &str, path: &str, body: &Value) {
        let operation = self.operation(method, path);
        let schema = &operation["requestBody"]["content"]["application/json"]["schema"];
        let faults = self.validate(schema, body);
        assert!(faults.is_empty(), "{method} {path}: {faults:#?}");
    }

    /// Checks that an operation exists and knows the parameters of the query.
    pub(crate) fn check_query(&self, method: &str, path: &str) {
        let parameters = self.operation(method, path)["parameters"].as_array();
        let known: Vec<&str> = parameters
            .into_iter()
            .flatten()
            .map(|parameter| self.resolve(parameter)["name"].as_str().unwrap())
            .collect();
        let query = path.split_once('?').map_or("", |(_, query)| query);
        for pair in query.split('&').filter(|pair| !pair.is_empty()) {
            let name = pair.split('=').next().unwrap_or_default();
            assert!(
                known.contains(&name),
                "{method} {path}: no parameter {name}"
            );
        }
    }

    /// Checks the payload of a webhook.
    pub(crate) fn check_webhook(&self, name: &str, body: &Value) {
        let schema = &self.0["x-webhooks"][name]["post"]["requestBody"]["content"]["application/json"]
            ["schema"];
        assert!(!schema.is_null(), "GitHub has no webhook {name}");
        let faults = self.validate(schema, body);
        assert!(faults.is_empty(), "{name}: {faults:#?}\n{body:#}");
    }

    fn validate(&self, schema: &Value, body: &Value) -> Vec<String> {
        let mut needed = BTreeMap::new();
        let schema = self.translate(schema, &mut needed);
        let schemas: Map<String, Value> = needed.into_iter().collect();
        let whole = json!({ "allOf": [schema], "components": { "schemas": schemas } });
        let validator = jsonschema::options()
            .should_validate_formats(true)
            .build(&whole)
            .unwrap();
        validator
            .iter_errors(body)
            .map(|error| format!("{} at {}", error, error.instance_path()))
            .collect()
    }

    /// From `OpenAPI` 3.0's words to JSON Schema's, with every schema that it refers to.
    fn translate(&self, schema: &Value, needed: &mut BTreeMap<String, Value>) -> Value {
        match schema {
            Value::Array(items) => items
                .iter()
                .map(|item| self.translate(item, needed))
                .collect(),
            Value::Object(fields) => {
                if let Some(name) = fields.get("$ref").and_then(Value::as_str) {
                    let name = name.trim_start_matches("#/components/schemas/");
                    if !needed.contains_key(name) {
                        needed.insert(name.to_owned(), Value::Null);
                        let target = &self.0["components"]["schemas"][name];
                        let target = self.translate(target, needed);
                        needed.insert(name.to_owned(), target);
                    }
                }
                let kept = fields.iter().filter(|(key, _)| {
                    !matches!(key.as_str(), "nullable" | "example" | "examples")
                });
                let plain: Map<String, Value> = kept
                    .map(|(key, value)| (key.clone(), self.translate(value, needed)))
                    .collect();
                if fields.get("nullable") == Some(&Value::Bool(true)) {
                    json!({ "anyOf": [plain, { "type": "null" }] })
                } else {
                    Value::Object(plain)
                }
            }
            other => other.clone(),
        }
    }
}
