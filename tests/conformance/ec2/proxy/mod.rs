//! What stands between the backend and moto: what moto lacks of EC2, and what goes wrong.
//!
//! Each prefix has a path of its own (`http://ADDRESS/PREFIX`), so that faults and counts are
//! told apart by it. All prefixes meet on the one moto.

mod fault;
mod fleet;
mod launch;
mod list;
mod request;
mod ssm;
mod xml;

use std::collections::{HashMap, HashSet};
use std::net::{Ipv4Addr, SocketAddr};
use std::process::Command;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock};
use std::time::{Duration, Instant};

use axum::Router;
use axum::body::Body;
use axum::extract::State;
use axum::response::Response;
use http_body_util::BodyExt;
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use tokio::sync::RwLock;

pub(crate) use fault::{Rule, What};
use fault::{after, before};
pub(crate) use request::Answer;
use request::Call;

/// The proxy, which serves until its runtime ends.
pub(crate) struct Proxy {
    pub(crate) address: SocketAddr,
    shared: Arc<Shared>,
}

/// What all connections share.
struct Shared {
    /// `http://HOST:PORT` of moto.
    peer: String,
    client: Client<HttpConnector, Body>,
    sites: Mutex<HashMap<String, Site>>,
    launches: launch::Launches,
    pages: list::Pages,
    commands: ssm::Commands,
    /// How many instances a page holds at most.
    page: usize,
    /// What runs the instances, where they are to run.
    host: OnceLock<Arc<dyn Host>>,
}

/// What runs instances.
pub(crate) trait Host: Send + Sync {
    /// Boots an instance, and gives its address.
    fn boot(&self, instance: &str, name: &str, user_data: &[u8]) -> Ipv4Addr;
    /// The address of an instance that was booted.
    fn address(&self, instance: &str) -> Option<Ipv4Addr>;
    /// What begins a shell on an instance that has booted.
    fn shell(&self, instance: &str) -> Option<Command>;
    /// Ends an instance.
    fn end(&self, instance: &str);
}

/// What is known and planted of one prefix.
#[derive(Default)]
struct Site {
    rules: Vec<Rule>,
    /// The calls so far, by action.
    calls: HashMap<String, usize>,
    /// How long an instance is not found after its launch.
    settling: Duration,
    /// When each instance is found.
    visible: HashMap<String, Instant>,
    /// The state that an instance shows, instead of its own.
    states: HashMap<String, &'static str>,
    /// The instances that show an old launch time.
    aged: HashSet<String>,
    lists: list::Lists,
    /// Held by the launches under way: a look waits for those that began before it, so that one
    /// whose caller gave up is seen, however busy the machine is.
    under_way: Arc<RwLock<()>>,
}

impl Proxy {
    /// Serves on a free port of loopback.
    pub(crate) async fn serve(peer: &str, page: usize) -> Self {
        let shared = Arc::new(Shared {
            peer: peer.to_owned(),
            client: Client::builder(TokioExecutor::new()).build_http(),
            sites: Mutex::default(),
            launches: launch::Launches::default(),
            pages: list::Pages::default(),
            commands: ssm::Commands::default(),
            page,
            host: OnceLock::new(),
        });
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0")
            .await
            .expect("a free port");
        let address = listener.local_addr().expect("an address");
        let app = Router::new()
            .fallback(handle)
            .with_state(Arc::clone(&shared));
        tokio::spawn(async move {
            axum::serve(listener, app).await.expect("the proxy serves");
        });
        Self { address, shared }
    }

    /// The endpoint of a prefix.
    pub(crate) fn endpoint(&self, prefix: &str) -> String {
        format!("http://{}/{prefix}", self.address)
    }

    /// Lets instances run here.
    pub(crate) fn host(&self, host: Arc<dyn Host>) {
        assert!(self.shared.host.set(host).is_ok(), "there is one host");
    }

    /// Lets an instance show a launch of years ago.
    pub(crate) fn age(&self, prefix: &str, instance: &str) {
        self.shared
            .with(prefix, |site| site.aged.insert(instance.to_owned()));
    }

    /// Plants a fault.
    pub(crate) fn plant(&self, prefix: &str, rule: Rule) {
        self.shared.with(prefix, |site| site.rules.push(rule));
    }

    /// Lets instances that are launched from now on not be found for a while.
    pub(crate) fn settle(&self, prefix: &str, settling: Duration) {
        self.shared.with(prefix, |site| site.settling = settling);
    }

    /// Lets an instance show a state.
    pub(crate) fn force_state(&self, prefix: &str, instance: &str, state: &'static str) {
        self.shared.with(prefix, |site| {
            site.states.insert(instance.to_owned(), state)
        });
    }

    /// Lets lists leave out about half of what there is.
    pub(crate) fn truncate(&self, prefix: &str) {
        self.shared.with(prefix, |site| site.lists.truncated = true);
    }

    /// Lets lists answer from now on what they answer now.
    pub(crate) async fn freeze(&self, prefix: &str) {
        let items = list::of_prefix(&self.shared, prefix).await;
        self.shared
            .with(prefix, |site| site.lists.frozen = Some(items));
    }

    /// Ends all faults of a prefix.
    pub(crate) fn mend(&self, prefix: &str) {
        self.shared.with(prefix, |site| {
            site.rules.clear();
            site.states.clear();
            site.visible.clear();
            site.settling = Duration::ZERO;
            site.lists = list::Lists::default();
        });
    }

    /// How many calls there were of an action, or of all of them.
    pub(crate) fn calls(&self, prefix: &str, action: Option<&str>) -> usize {
        self.shared.with(prefix, |site| match action {
            Some(action) => site.calls.get(action).copied().unwrap_or_default(),
            None => site.calls.values().sum(),
        })
    }

    /// The calls of a prefix by action, in words.
    pub(crate) fn tally(&self, prefix: &str) -> Vec<(String, usize)> {
        let mut calls: Vec<_> = self
            .shared
            .with(prefix, |site| site.calls.clone().into_iter().collect());
        calls.sort();
        calls
    }
}

impl Shared {
    fn sites(&self) -> MutexGuard<'_, HashMap<String, Site>> {
        self.sites.lock().expect("no test panics with the lock")
    }

    fn with<T>(&self, prefix: &str, work: impl FnOnce(&mut Site) -> T) -> T {
        work(self.sites().entry(prefix.to_owned()).or_default())
    }

    /// Passes a call on to moto.
    async fn forward(&self, call: &Call) -> Answer {
        let request = call.to_request(&self.peer);
        let answer = self.client.request(request).await.expect("moto answers");
        let (status, headers) = (answer.status().as_u16(), answer.headers().clone());
        let body = answer
            .into_body()
            .collect()
            .await
            .expect("moto's whole answer");
        Answer {
            status,
            content_type: headers.get("content-type").cloned(),
            body: String::from_utf8(body.to_bytes().to_vec()).expect("moto answers in UTF-8"),
        }
    }

    /// Puts the address of its machine into the description of an instance.
    fn place(&self, item: &mut String) {
        let address = self
            .host
            .get()
            .and_then(|host| host.address(xml::text(item, "instanceId")?));
        if let Some(address) = address {
            xml::replace(item, "privateIpAddress", &address.to_string());
        }
    }

    /// The instances of a prefix that are not found yet.
    fn hidden(&self, prefix: &str) -> HashSet<String> {
        let now = Instant::now();
        self.with(prefix, |site| {
            let hidden = site.visible.iter().filter(|(_, at)| **at > now);
            hidden.map(|(id, _)| id.clone()).collect()
        })
    }
}

async fn handle(State(shared): State<Arc<Shared>>, request: axum::extract::Request) -> Response {
    let call = Call::read(request).await;
    shared.with(&call.prefix, |site| {
        *site.calls.entry(call.action.clone()).or_default() += 1;
    });
    let rule = shared.with(&call.prefix, |site| fault::take(&mut site.rules, &call));
    let under_way = shared.with(&call.prefix, |site| Arc::clone(&site.under_way));
    let launch = match call.action.as_str() {
        "RunInstances" | "CreateFleet" if rule != Some(What::Hang) => {
            Some(under_way.read_owned().await)
        }
        "DescribeInstances" => {
            drop(under_way.write_owned().await);
            None
        }
        _ => None,
    };
    // What was begun takes effect, whether or not the caller still waits.
    let answered = tokio::spawn(async move {
        if let Some(refusal) = before(rule, &call).await {
            return refusal.into_response();
        }
        let answer = answer(&shared, &call).await;
        drop(launch);
        after(rule, &call, answer).await
    });
    answered.await.expect("the proxy does not panic")
}

/// What EC2 would answer.
async fn answer(shared: &Arc<Shared>, call: &Call) -> Answer {
    let dry = call.value("DryRun") == Some("true");
    match call.action.as_str() {
        "RunInstances" if !dry => launch::run(shared, call).await,
        "CreateFleet" if !dry => fleet::create(shared, call).await,
        "DescribeInstances" => list::describe(shared, call).await,
        "TerminateInstances" => {
            let hidden = shared.hidden(&call.prefix);
            let ids = call.values("InstanceId.");
            if ids.iter().any(|id| hidden.contains(id)) {
                return Answer::error(call, 400, "InvalidInstanceID.NotFound");
            }
            let answer = shared.forward(call).await;
            if let Some(host) = shared.host.get().filter(|_| answer.status == 200) {
                let host = Arc::clone(host);
                let ended = move || ids.iter().for_each(|id| host.end(id));
                tokio::task::spawn_blocking(ended)
                    .await
                    .expect("it is ended");
            }
            answer
        }
        "SendCommand" => match shared.host.get() {
            Some(host) => shared.commands.send(host.as_ref(), call),
            None => Answer::error(call, 400, "InvalidInstanceId"),
        },
        "GetCommandInvocation" => shared.commands.get(call),
        "DeleteKeyPair" => shared.forward(&by_name(shared, call).await).await,
        _ => shared.forward(call).await,
    }
}

/// moto deletes key pairs by name alone, and answers that all is well otherwise.
async fn by_name(shared: &Shared, call: &Call) -> Call {
    let form = [("Action", "DescribeKeyPairs"), ("Version", "2016-11-15")];
    let form = form.map(|(key, value)| (key.to_owned(), value.to_owned()));
    let pairs = shared.forward(&call.with_form(form.to_vec())).await;
    let id = call.value("KeyPairId").unwrap_or_default();
    let pairs = xml::split(&pairs.body, "keySet").items;
    let pair = pairs
        .iter()
        .find(|pair| xml::text(pair, "keyPairId") == Some(id));
    let mut form = call.form.clone();
    let name = pair.and_then(|pair| xml::text(pair, "keyName"));
    form.extend(name.map(|name| ("KeyName".to_owned(), name.to_owned())));
    call.with_form(form)
}
