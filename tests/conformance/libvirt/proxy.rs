//! A proxy in front of a daemon's socket, for one prefix: it counts, forges and loses.

use std::collections::HashMap;
use std::io::Write;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;

use runner_manager_conformance::Fault;

use crate::faults::{self, Action};
use crate::rpc::{self, Message, Procedure};
use crate::states;

/// What the proxy does, and has seen.
#[derive(Default)]
pub(crate) struct Rules {
    pub(crate) faults: Vec<Fault>,
    /// The states that domains are shown in.
    pub(crate) forced: HashMap<String, &'static str>,
    /// What stale lists answer: the first list since the fault was planted is kept.
    stale: Option<Vec<u8>>,
    /// The last list that was answered.
    last: Option<Vec<u8>>,
    pub(crate) lists: usize,
    pub(crate) requests: usize,
    /// The port of this machine's loopback that guests reach.
    pub(crate) relay: Option<u16>,
}

impl Rules {
    /// Plants a fault.
    pub(crate) fn plant(&mut self, fault: Fault) {
        self.stale = self.last.clone();
        self.faults.push(fault);
    }

    pub(crate) fn mend(&mut self) {
        self.faults.clear();
        self.forced.clear();
    }
}

/// The proxy of one prefix.
pub(crate) struct Proxy {
    pub(crate) socket: PathBuf,
    rules: Arc<Mutex<Rules>>,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Proxy {
    pub(crate) fn start(socket: PathBuf, server: PathBuf) -> Self {
        let listener = UnixListener::bind(&socket).expect("a socket of the test");
        let rules = Arc::new(Mutex::new(Rules::default()));
        let shared = rules.clone();
        thread::spawn(move || {
            for client in listener.incoming().flatten() {
                // A daemon that is down takes no client, and neither does its proxy.
                if let Ok(server) = UnixStream::connect(&server) {
                    serve(client, server, &shared);
                }
            }
        });
        Self { socket, rules }
    }

    pub(crate) fn rules(&self) -> MutexGuard<'_, Rules> {
        lock(&self.rules)
    }
}

/// What becomes of the answer to a call, and the domain that it is about.
type Fate = (Action, Procedure, Option<String>);

/// One connection: calls go one way, answers and events the other.
struct Link {
    client: Mutex<UnixStream>,
    /// What becomes of the answer to each call under way.
    pending: Mutex<HashMap<u32, Fate>>,
    rules: Arc<Mutex<Rules>>,
}

fn serve(client: UnixStream, server: UnixStream, rules: &Arc<Mutex<Rules>>) {
    let copy = |stream: &UnixStream| stream.try_clone().expect("a second handle");
    let (mut calls, mut answers) = (copy(&client), copy(&server));
    let mut onward = server;
    let link = Arc::new(Link {
        client: Mutex::new(client),
        pending: Mutex::default(),
        rules: rules.clone(),
    });
    let back = link.clone();
    thread::spawn(move || {
        while let Ok(Some(message)) = Message::read(&mut calls) {
            if let Some(message) = link.onward(message)
                && onward.write_all(message.bytes()).is_err()
            {
                break;
            }
        }
        // The other direction ends with it.
        let _ = onward.shutdown(std::net::Shutdown::Both);
    });
    thread::spawn(move || {
        while let Ok(Some(message)) = Message::read(&mut answers) {
            if let Some(message) = back.back(message)
                && lock(&back.client).write_all(message.bytes()).is_err()
            {
                break;
            }
        }
        let _ = lock(&back.client).shutdown(std::net::Shutdown::Both);
    });
}

impl Link {
    /// What the daemon gets of a message of the client.
    fn onward(&self, message: Message) -> Option<Message> {
        let Some(call) = message.call() else {
            return Some(message);
        };
        let action = {
            let mut rules = lock(&self.rules);
            rules.requests += 1;
            if matches!(call, Procedure::AllDomainStats | Procedure::ListAllDomains) {
                rules.lists += 1;
            }
            faults::action(&mut rules.faults, call)
        };
        match action {
            Action::Refuse(code, words) => {
                let refusal = message.refusal(code, words);
                // A client that is gone needs no answer.
                let _ = lock(&self.client).write_all(refusal.bytes());
                None
            }
            Action::Hang => None,
            action => {
                let name = (call == Procedure::DomainState)
                    .then(|| message.domain())
                    .flatten();
                lock(&self.pending).insert(message.serial(), (action, call, name));
                Some(message)
            }
        }
    }

    /// What the client gets of a message of the daemon.
    fn back(&self, message: Message) -> Option<Message> {
        if !message.is_reply() {
            return Some(message);
        }
        let pending = lock(&self.pending).remove(&message.serial());
        let Some((action, call, name)) = pending else {
            return Some(message);
        };
        match action {
            Action::ThenHang => None,
            Action::ThenRefuse => Some(message.refusal(1, "internal error: the answer is lost")),
            _ if !message.is_good() => Some(message),
            action => Some(self.forged(&message, action, call, name)),
        }
    }

    fn forged(
        &self,
        message: &Message,
        action: Action,
        call: Procedure,
        name: Option<String>,
    ) -> Message {
        let mut rules = lock(&self.rules);
        match call {
            Procedure::AllDomainStats => {
                let mut entries = rpc::entries(message.body()).expect("statistics");
                for entry in &mut entries {
                    if let Some(native) = rules.forced.get(&entry.domain) {
                        let (state, reason) = states::native(native);
                        entry.set(state, reason);
                    }
                }
                if action == Action::Halve {
                    // Each call leaves others out.
                    let odd = rules.lists % 2;
                    let mut at = 0;
                    entries.retain(|_| {
                        at += 1;
                        at % 2 == odd
                    });
                }
                let body = rpc::joined(&entries);
                if action == Action::Stale {
                    let stale = rules.stale.clone().unwrap_or(body);
                    return message.with_body(&stale);
                }
                rules.last = Some(body.clone());
                message.with_body(&body)
            }
            Procedure::DomainState => {
                let forced = name.and_then(|name| rules.forced.get(&name).copied());
                let Some((state, reason)) = forced.map(states::native) else {
                    return message.clone();
                };
                message.with_body(&[state.to_be_bytes(), reason.to_be_bytes()].concat())
            }
            _ => message.clone(),
        }
    }
}
