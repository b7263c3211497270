//! The program that looks at the cloud with OpenStack's own SDK.

use std::collections::HashMap;
use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::{Arc, Mutex, PoisonError};

use serde_json::{Value, json};
use tokio::sync::oneshot;

type Waiting = Arc<Mutex<HashMap<u64, oneshot::Sender<Value>>>>;

/// The running program. It ends when its input does.
pub(crate) struct Site {
    input: Mutex<(u64, ChildStdin)>,
    waiting: Waiting,
    child: Mutex<Child>,
}

impl Site {
    /// `python` is the one of the peer, which has the SDK.
    pub(crate) fn start(python: &Path, clouds: &Path, state: &Path) -> Self {
        let script =
            Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/conformance/openstack/site.py");
        let mut child = Command::new(python)
            .arg(script)
            .arg(state.join("run/mysql.sock"))
            .env("OS_CLIENT_CONFIG_FILE", clouds)
            .env("PYTHONWARNINGS", "ignore")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("the peer has Python");
        let waiting = Waiting::default();
        let (output, answers) = (child.stdout.take().expect("a pipe"), Arc::clone(&waiting));
        std::thread::spawn(move || {
            for line in BufReader::new(output).lines().map_while(Result::ok) {
                let answer: Value =
                    serde_json::from_str(&line).expect("the program answers in JSON");
                let id = answer["id"].as_u64().expect("an id");
                let waits = answers
                    .lock()
                    .unwrap_or_else(PoisonError::into_inner)
                    .remove(&id);
                // Who asked may have gone.
                let _ = waits.map(|waits| waits.send(answer));
            }
        });
        let input = Mutex::new((0, child.stdin.take().expect("a pipe")));
        Self {
            input,
            waiting,
            child: Mutex::new(child),
        }
    }

    /// Has something done, and gives what came of it.
    pub(crate) async fn ask(&self, what: &str, mut details: Value) -> Value {
        let (sender, receiver) = oneshot::channel();
        {
            let mut input = self.input.lock().unwrap_or_else(PoisonError::into_inner);
            input.0 += 1;
            let id = input.0;
            self.waiting
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .insert(id, sender);
            details["id"] = id.into();
            details["do"] = what.into();
            writeln!(input.1, "{details}").expect("the program reads");
        }
        let mut answer = receiver.await.expect("the program answers");
        assert!(answer.get("error").is_none(), "{what}: {}", answer["error"]);
        answer["ok"].take()
    }

    /// The same with a runner's name alone.
    pub(crate) async fn about(&self, what: &str, name: &str) -> Value {
        self.ask(what, json!({ "name": name })).await
    }
}

impl Drop for Site {
    fn drop(&mut self) {
        let mut child = self.child.lock().unwrap_or_else(PoisonError::into_inner);
        let _ = child.kill();
        let _ = child.wait();
    }
}
