//! The harness of the EC2 backend.

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use async_trait::async_trait;
use runner_manager_conformance::{
    Cannot, Counts, Did, Exposure, Fault, Harness, JobFate, Place, Planted, Received, Seen, trace,
};
use runner_manager_core::{
    BackendContext, CloudInitStatus, CloudRunnerState, Connected, CreateRunner, ExchangeFile,
    GitHubPath, GitHubRunnerConfig, InstanceId, Labels, NamePrefix, Result, RunnerCredential,
    RunnerName, Secret, SupportServiceConfig,
};
use rustix::process::Signal;
use serde_json::{Value, json};

use crate::exposed;
use crate::faults::{self, Undo};
use crate::machines::Machines;
use crate::site::{self, Site, mark, text};

/// The runner's processes.
pub(crate) const RUNNER: [&str; 2] = ["Runner.Listener", "Runner.Worker"];

/// The instance profile that lets Systems Manager's agent in.
const PROFILE: &str = "conformance";

/// How the backend looks into machines.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Way {
    Ssh,
    /// Systems Manager.
    Ssm,
}

/// moto, the proxy, boto3, and the machines.
pub(crate) struct Ec2Harness {
    pub(crate) way: Way,
    pub(crate) site: Site,
    pub(crate) machines: Arc<Machines>,
    pub(crate) base: PathBuf,
    undos: Mutex<HashMap<NamePrefix, Vec<Undo>>>,
    strangers: Mutex<HashMap<String, String>>,
}

impl Ec2Harness {
    pub(crate) async fn open() -> Self {
        site::credentials();
        let base = PathBuf::from(site::variable("EC2_PEER_MACHINES"));
        let base = base.join(format!("run-{}", std::process::id()));
        let scripts = PathBuf::from(site::variable("EC2_PEER_MACHINE_SCRIPTS"));
        let machines = Arc::new(Machines::new(base.clone(), scripts));
        let site = Site::open().await;
        site.proxy.host(machines.clone());
        // An earlier run may have made it.
        let profile = json!({"InstanceProfileName": PROFILE});
        site.look("iam", "create_instance_profile", profile).await;
        let way = match std::env::var("EC2_PEER_GUEST").as_deref() {
            Ok("ssm") => Way::Ssm,
            _ => Way::Ssh,
        };
        Self {
            way,
            site,
            machines,
            base,
            undos: Mutex::default(),
            strangers: Mutex::default(),
        }
    }

    /// The machines of a prefix.
    pub(crate) fn of_prefix(&self, prefix: &NamePrefix) -> Vec<String> {
        self.machines.named(|name| prefix.owned(name).is_some())
    }

    fn of_name(&self, name: &RunnerName) -> Option<String> {
        let wanted = name.to_string();
        self.machines
            .named(|name| *name == wanted)
            .into_iter()
            .next()
    }

    fn keys_dir(&self, prefix: &NamePrefix) -> PathBuf {
        self.base.join("keys").join(prefix.as_str())
    }

    async fn counted(&self, prefix: &NamePrefix, call: &str, list: &str) -> usize {
        let filters = json!([{"Name": "tag:runner-manager:prefix", "Values": [prefix.as_str()]}]);
        let found = self.site.ec2(call, json!({"Filters": filters})).await;
        found[list].as_array().map_or(0, Vec::len)
    }
}

#[async_trait]
impl Harness for Ec2Harness {
    fn scheme(&self) -> &'static str {
        match self.way {
            Way::Ssh => "ec2",
            Way::Ssm => "ec2-ssm",
        }
    }

    async fn manager(&self, context: BackendContext) -> Result<Connected> {
        let mut section = self.site.section(context.prefix.as_str());
        match self.way {
            Way::Ssh => {
                section["ssh"] = json!({
                    "keys_dir": self.keys_dir(&context.prefix),
                    "connection": {"connect_seconds": 5},
                });
            }
            Way::Ssm => {
                section["ssm"] = json!({"poll_milliseconds": 100});
                section["instance_profile"] = json!(PROFILE);
            }
        }
        section["boot"] = json!({"update_packages": false});
        site::connect(context, section).await
    }

    fn request(&self, id: InstanceId) -> CreateRunner {
        CreateRunner {
            id,
            credential: RunnerCredential::JitConfig(Secret::new("c2VjcmV0")),
            github: GitHubRunnerConfig {
                github_path: GitHubPath::parse("octo", None).expect("an organization"),
                labels: Labels::parse(["linux", "x64"]).expect("labels"),
            },
            support: SupportServiceConfig::default(),
        }
    }

    async fn reach(&self, _: &NamePrefix, port: u16) -> Seen<String> {
        // Its machines use this machine's network.
        Ok(format!("http://127.0.0.1:{port}"))
    }

    async fn count(&self, prefix: &NamePrefix) -> Counts {
        let keys = std::fs::read_dir(self.keys_dir(prefix))
            .into_iter()
            .flatten()
            .count();
        Counts::from([
            (
                "instances",
                self.site.instances(prefix.as_str()).await.len(),
            ),
            (
                "volumes",
                self.counted(prefix, "describe_volumes", "Volumes").await,
            ),
            (
                "network interfaces",
                self.counted(prefix, "describe_network_interfaces", "NetworkInterfaces")
                    .await,
            ),
            (
                "key pairs",
                self.counted(prefix, "describe_key_pairs", "KeyPairs").await,
            ),
            (
                "security groups",
                self.counted(prefix, "describe_security_groups", "SecurityGroups")
                    .await,
            ),
            ("SSH keys", keys),
        ])
    }

    fn list_calls(&self, prefix: &NamePrefix) -> Seen<usize> {
        Ok(self
            .site
            .proxy
            .calls(prefix.as_str(), Some("DescribeInstances")))
    }

    fn requests(&self, prefix: &NamePrefix) -> Seen<usize> {
        Ok(self.site.proxy.calls(prefix.as_str(), None))
    }

    fn page_size(&self) -> Option<usize> {
        Some(site::PAGE)
    }

    async fn received(&self, name: &RunnerName) -> Seen<Received> {
        let file = self.machines.outside(&name.to_string()).join("received");
        let end = Instant::now() + Duration::from_secs(60);
        while !file.exists() && Instant::now() < end {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        let words = std::fs::read_to_string(&file)
            .map_err(|_| Cannot("the runner was not configured with a token"))?;
        let words: Vec<&str> = words.split('\0').collect();
        let after = |flag: &str| {
            let at = words.iter().position(|word| *word == flag)?;
            words.get(at + 1).map(|word| (*word).to_owned())
        };
        let inside = self
            .of_name(name)
            .and_then(|instance| self.machines.root(&instance));
        let path = trace(name);
        let below = path.strip_prefix("/").expect("an absolute path");
        Ok(Received {
            name: after("--name").unwrap_or_default(),
            labels: after("--labels")
                .unwrap_or_default()
                .split(',')
                .map(str::to_owned)
                .collect(),
            group: after("--runnergroup"),
            traced: path.exists() || inside.is_some_and(|root| root.join(below).exists()),
        })
    }

    async fn exposed(&self, name: &RunnerName, place: Place) -> Seen<Vec<Exposure>> {
        exposed::exposed(self, name, place).await
    }

    async fn offer_job(&self, name: &RunnerName) -> Did {
        let text = name.to_string();
        let end = Instant::now() + Duration::from_secs(30);
        // A runner that starts has no pipe yet.
        while !self.machines.offer(&text) && self.of_name(name).is_some() && Instant::now() < end {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        Ok(())
    }

    async fn job_fate(&self, name: &RunnerName) -> JobFate {
        if !self.machines.has_begun(&name.to_string()) {
            return JobFate::NotBegun;
        }
        let processes = self
            .of_name(name)
            .map(|instance| self.machines.processes(&instance));
        let runs = processes
            .unwrap_or_default()
            .iter()
            .any(|(_, name)| name == "Runner.Worker");
        if runs { JobFate::Runs } else { JobFate::Killed }
    }

    async fn stop(&self, name: &RunnerName) -> Did {
        let instance = self.site.instance(name).await.expect("the instance exists");
        self.machines.stop(&instance);
        self.site
            .ec2("stop_instances", json!({"InstanceIds": [instance]}))
            .await;
        Ok(())
    }

    async fn vanish(&self, name: &RunnerName) -> Did {
        let instance = self.site.instance(name).await.expect("the instance exists");
        self.site
            .ec2("terminate_instances", json!({"InstanceIds": [instance]}))
            .await;
        self.machines.remove(&instance);
        Ok(())
    }

    async fn end_runner(&self, name: &RunnerName) -> Did {
        if let Some(instance) = self.of_name(name) {
            self.machines.signal(&instance, &RUNNER, Signal::KILL);
        }
        Ok(())
    }

    fn native_states(&self) -> Vec<(&'static str, CloudRunnerState)> {
        vec![
            ("pending", CloudRunnerState::Created),
            ("running", CloudRunnerState::Active),
            ("stopping", CloudRunnerState::Stopped),
            ("stopped", CloudRunnerState::Stopped),
            (
                "hibernating",
                CloudRunnerState::Unexpected("hibernating".into()),
            ),
        ]
    }

    async fn force_state(&self, name: &RunnerName, native: &'static str) -> Did {
        let instance = self.site.instance(name).await.expect("the instance exists");
        self.site
            .proxy
            .force_state(name.prefix().as_str(), &instance, native);
        Ok(())
    }

    async fn make_twin(&self, name: &RunnerName) -> Did {
        let tags = json!([
            {"ResourceType": "instance", "Tags": mark(name)},
            {"ResourceType": "volume", "Tags": mark(name)},
        ]);
        let twin = self.site.ec2(
            "run_instances",
            json!({
                "ImageId": self.site.image, "MinCount": 1, "MaxCount": 1,
                "SubnetId": self.site.subnets[0], "TagSpecifications": tags,
            }),
        );
        let twin = text(&twin.await["Instances"][0]["InstanceId"]);
        self.site.proxy.age(name.prefix().as_str(), &twin);
        Ok(())
    }

    async fn make_stranger(&self, name: &str) -> Did {
        // Of this name, and with the mark of another manager.
        let tags = json!([
            {"Key": "Name", "Value": name},
            {"Key": "runner-manager:prefix", "Value": "somebody-else"},
        ]);
        let made = self.site.ec2(
            "run_instances",
            json!({
                "ImageId": self.site.image, "MinCount": 1, "MaxCount": 1,
                "SubnetId": self.site.subnets[0],
                "TagSpecifications": [{"ResourceType": "instance", "Tags": tags}],
            }),
        );
        let made = text(&made.await["Instances"][0]["InstanceId"]);
        self.strangers
            .lock()
            .expect("no case panics here")
            .insert(name.to_owned(), made);
        Ok(())
    }

    async fn take_stranger(&self, name: &str) -> bool {
        let made = self
            .strangers
            .lock()
            .expect("no case panics here")
            .remove(name);
        let made = made.expect("it was made");
        let found = self
            .site
            .ec2("describe_instances", json!({"InstanceIds": [made]}))
            .await;
        self.site
            .ec2("terminate_instances", json!({"InstanceIds": [made]}))
            .await;
        found["Reservations"][0]["Instances"][0]["State"]["Name"] == "running"
    }

    fn leftover_kinds(&self) -> &'static [&'static str] {
        const ALL: [&str; 5] = [
            "volumes",
            "network interfaces",
            "key pairs",
            "security groups",
            "SSH keys",
        ];
        match self.way {
            Way::Ssh => &ALL,
            Way::Ssm => &ALL[..4],
        }
    }

    async fn leave_leftover(&self, name: &RunnerName, kind: &'static str) -> Did {
        let tags = |kind: &str| json!([{"ResourceType": kind, "Tags": mark(name)}]);
        let subnet = &self.site.subnets[0];
        match kind {
            "volumes" => {
                let found = self
                    .site
                    .ec2("describe_subnets", json!({"SubnetIds": [subnet]}))
                    .await;
                let zone: &Value = &found["Subnets"][0]["AvailabilityZone"];
                let volume = json!({
                    "AvailabilityZone": zone, "Size": 1, "TagSpecifications": tags("volume"),
                });
                self.site.ec2("create_volume", volume).await;
            }
            "network interfaces" => {
                let tags = tags("network-interface");
                let interface = json!({"SubnetId": subnet, "TagSpecifications": tags});
                self.site.ec2("create_network_interface", interface).await;
            }
            "key pairs" => {
                let pair = json!({
                    "KeyName": name.to_string(), "TagSpecifications": tags("key-pair"),
                });
                self.site.ec2("create_key_pair", pair).await;
            }
            "security groups" => {
                let group = json!({
                    "GroupName": name.to_string(), "Description": "left",
                    "TagSpecifications": tags("security-group"),
                });
                self.site.ec2("create_security_group", group).await;
            }
            _ => {
                let folder = self.keys_dir(name.prefix());
                std::fs::create_dir_all(&folder).expect("a folder");
                std::fs::write(folder.join(format!("{name}.key")), "left").expect("a file");
            }
        }
        Ok(())
    }

    async fn set_cloud_init(&self, name: &RunnerName, status: CloudInitStatus) -> Did {
        let root = self
            .of_name(name)
            .and_then(|instance| self.machines.root(&instance));
        let root = root.expect("the machine runs");
        std::fs::write(root.join("run/cloud-init-status"), status.to_string()).expect("a file");
        Ok(())
    }

    async fn put_file(&self, name: &RunnerName, file: ExchangeFile, what: Planted) -> Did {
        let root = self
            .of_name(name)
            .and_then(|instance| self.machines.root(&instance));
        let folder = root
            .expect("the machine runs")
            .join("home/ubuntu/metrics-exchange");
        std::fs::create_dir_all(&folder).expect("a folder");
        let path = folder.join(file.file_name());
        // There may be none.
        let _ = std::fs::remove_file(&path);
        match what {
            Planted::Nothing => {}
            Planted::Bytes(bytes) => std::fs::write(&path, bytes).expect("a file"),
            Planted::Symlink => {
                std::fs::write(folder.join("real"), "1700000000").expect("a file");
                std::os::unix::fs::symlink("real", &path).expect("a link");
            }
            Planted::Endless => std::os::unix::fs::symlink("/dev/zero", &path).expect("a link"),
        }
        Ok(())
    }

    async fn fail(&self, prefix: &NamePrefix, fault: Fault) -> Did {
        let undo = faults::plant(self, prefix, fault).await?;
        let mut undos = self.undos.lock().expect("no case panics here");
        undos.entry(prefix.clone()).or_default().push(undo);
        Ok(())
    }

    async fn mend(&self, prefix: &NamePrefix) {
        self.site.proxy.mend(prefix.as_str());
        let undos = self
            .undos
            .lock()
            .expect("no case panics here")
            .remove(prefix);
        for undo in undos.unwrap_or_default().into_iter().rev() {
            undo.undo(&self.machines);
        }
    }

    fn patience(&self) -> Duration {
        Duration::from_secs(120)
    }

    fn window(&self) -> Duration {
        Duration::from_secs(1)
    }
}
