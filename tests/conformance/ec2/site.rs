//! The site of the tests: moto, the proxy before it, and boto3 beside it.

use std::io::{BufRead, BufReader, Write};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::sync::{Arc, Mutex};

use runner_manager_backend_ec2::BACKEND;
use runner_manager_core::{BackendContext, Connected, NamePrefix, Result, RunnerName};
use serde_json::{Value, json};

use crate::proxy::Proxy;

/// How many instances a page holds.
pub(crate) const PAGE: usize = 5;

/// What all tests of a process share.
pub(crate) struct Site {
    pub(crate) proxy: Proxy,
    looker: Arc<Mutex<Looker>>,
    /// An image that there is.
    pub(crate) image: String,
    /// The subnets, by name.
    pub(crate) subnets: Vec<String>,
}

/// boto3, in a process of its own.
struct Looker {
    _child: Child,
    to: ChildStdin,
    from: BufReader<ChildStdout>,
}

pub(crate) fn variable(name: &str) -> String {
    std::env::var(name).unwrap_or_else(|_| {
        panic!("{name} is not set: `cargo xtask conformance ec2` starts moto and sets it")
    })
}

impl Site {
    /// Sets up what is missing. The peer has to run.
    pub(crate) async fn open() -> Self {
        let url = variable("EC2_PEER_URL");
        let mut child = Command::new(variable("EC2_PEER_PYTHON"))
            .arg(variable("EC2_PEER_LOOK"))
            .arg(&url)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("boto3 starts");
        let looker = Looker {
            to: child.stdin.take().expect("a pipe"),
            from: BufReader::new(child.stdout.take().expect("a pipe")),
            _child: child,
        };
        let mut site = Self {
            proxy: Proxy::serve(&url, PAGE).await,
            looker: Arc::new(Mutex::new(looker)),
            image: String::new(),
            subnets: Vec::new(),
        };
        let filters = json!([{"Name": "name", "Values": ["ubuntu/images/*"]}]);
        let images = site
            .ec2("describe_images", json!({"Filters": filters}))
            .await;
        let image = images["Images"]
            .as_array()
            .and_then(|images| images.first());
        site.image = text(&image.expect("moto has images of Ubuntu")["ImageId"]);
        let subnets = site.ec2("describe_subnets", json!({})).await;
        let subnets = subnets["Subnets"].as_array().expect("subnets");
        site.subnets = subnets
            .iter()
            .map(|subnet| text(&subnet["SubnetId"]))
            .collect();
        site.subnets.sort();
        site
    }

    /// Makes a call past the proxy. An error is `{"error": CODE}`.
    pub(crate) async fn look(&self, client: &str, call: &str, arguments: Value) -> Value {
        let asked = json!({"client": client, "call": call, "arguments": arguments}).to_string();
        let looker = Arc::clone(&self.looker);
        let answer = tokio::task::spawn_blocking(move || {
            let mut looker = looker.lock().expect("no call panics");
            writeln!(looker.to, "{asked}").expect("boto3 listens");
            let mut line = String::new();
            looker.from.read_line(&mut line).expect("boto3 answers");
            serde_json::from_str::<Value>(&line).expect("an answer in JSON")
        });
        let mut answer = answer.await.expect("the call is made");
        match answer["answer"].take() {
            Value::Null => answer,
            answer => answer,
        }
    }

    /// A call of EC2 that must succeed.
    pub(crate) async fn ec2(&self, call: &str, arguments: Value) -> Value {
        let answer = self.look("ec2", call, arguments).await;
        assert!(answer.get("error").is_none(), "{call}: {answer}");
        answer
    }

    /// The instances with the tag of a prefix that have not ended.
    pub(crate) async fn instances(&self, prefix: &str) -> Vec<Value> {
        let states = ["pending", "running", "stopping", "stopped", "shutting-down"];
        let filters = json!([
            {"Name": "tag:runner-manager:prefix", "Values": [prefix]},
            {"Name": "instance-state-name", "Values": states},
        ]);
        let answer = self
            .ec2("describe_instances", json!({"Filters": filters}))
            .await;
        let reservations = answer["Reservations"]
            .as_array()
            .cloned()
            .unwrap_or_default();
        let instances = reservations
            .iter()
            .filter_map(|r| r["Instances"].as_array());
        instances.flatten().cloned().collect()
    }

    /// The id of the living instance of a name.
    pub(crate) async fn instance(&self, name: &RunnerName) -> Option<String> {
        let named = self.instances(name.prefix().as_str()).await;
        let named = named
            .iter()
            .find(|i| tag(i, "Name") == Some(&name.to_string()));
        named.map(|instance| text(&instance["InstanceId"]))
    }

    /// The smallest section, with the endpoint of this name.
    pub(crate) fn section(&self, endpoint: &str) -> Value {
        json!({
            "region": "us-east-1",
            "endpoint_url": self.proxy.endpoint(endpoint),
            "image": {"id": self.image},
            "instance_types": ["m5.large"],
            "subnet_ids": [self.subnets[0]],
            "calls_per_second": 500,
        })
    }
}

/// Connects a pool.
pub(crate) async fn connect(context: BackendContext, section: Value) -> Result<Connected> {
    (BACKEND.connect)(context, section).await
}

/// A text of an answer.
pub(crate) fn text(value: &Value) -> String {
    value.as_str().expect("a text").to_owned()
}

/// A tag of something.
pub(crate) fn tag<'a>(thing: &'a Value, key: &str) -> Option<&'a String> {
    let tags = thing
        .get("Tags")
        .or_else(|| thing.get("TagSet"))?
        .as_array()?;
    let tag = tags.iter().find(|tag| tag["Key"] == key)?;
    match &tag["Value"] {
        Value::String(value) => Some(value),
        _ => None,
    }
}

/// The manager's mark, as boto3 writes it.
pub(crate) fn mark(name: &RunnerName) -> Value {
    json!([
        {"Key": "Name", "Value": name.to_string()},
        {"Key": "runner-manager:prefix", "Value": name.prefix().to_string()},
    ])
}

/// Credentials that moto takes; all tests of a process have the same.
pub(crate) fn credentials() {
    assert_eq!(
        std::env::var("AWS_ACCESS_KEY_ID").as_deref(),
        Ok("peer"),
        "`cargo xtask conformance ec2` sets the credentials of the peer"
    );
}

/// A prefix that no other test has.
pub(crate) fn prefix() -> NamePrefix {
    let random = runner_manager_core::InstanceId::random();
    NamePrefix::new(format!("s{}", &random.as_str()[..7])).expect("a prefix")
}
