//! The simulator as a program of its own, which is also its stand-in runner.

use std::path::PathBuf;
use std::process::ExitCode;

use runner_manager_github_sim::{
    Sim, SimConfig, WebhookConfig, stand_in_main, write_runner_folder,
};

const USAGE: &str =
    "usage: github-sim [--port PORT] [--token TOKEN] [--runner-folder DIR] [--webhook URL]
Serves a GitHub on 127.0.0.1 until it gets SIGINT or SIGTERM, and prints its URL and token.
--port PORT          the port; any free one when left out
--token TOKEN        the personal token, also from GITHUB_SIM_TOKEN; random when left out
--runner-folder DIR  lay out a stand-in runner in DIR first
--webhook URL        send `workflow_job` events there, signed with GITHUB_SIM_WEBHOOK_SECRET";

fn main() -> ExitCode {
    if let Some(code) = stand_in_main() {
        return code;
    }
    match serve() {
        Ok(()) => ExitCode::SUCCESS,
        Err(why) => {
            eprintln!("github-sim: {why}");
            ExitCode::FAILURE
        }
    }
}

fn serve() -> Result<(), String> {
    let mut config = SimConfig {
        token: std::env::var("GITHUB_SIM_TOKEN").ok(),
        ..SimConfig::default()
    };
    let mut folder = None;
    let mut words = std::env::args().skip(1);
    while let Some(word) = words.next() {
        let mut value = || words.next().ok_or(format!("{word} needs a value\n{USAGE}"));
        match word.as_str() {
            "--port" => {
                let odd = |e| format!("--port: {e}");
                config.port = value()?.parse().map_err(odd)?;
            }
            "--token" => config.token = Some(value()?),
            "--webhook" => {
                let secret = std::env::var("GITHUB_SIM_WEBHOOK_SECRET")
                    .map_err(|_| "--webhook needs GITHUB_SIM_WEBHOOK_SECRET".to_owned())?;
                let url = value()?;
                config.webhook = Some(WebhookConfig { url, secret });
            }
            "--runner-folder" => folder = Some(PathBuf::from(value()?)),
            "--help" | "-h" => {
                println!("{USAGE}");
                return Ok(());
            }
            other => return Err(format!("unknown argument `{other}`\n{USAGE}")),
        }
    }
    if let Some(folder) = folder {
        let program = std::env::current_exe().map_err(|e| format!("own program: {e}"))?;
        write_runner_folder(&folder, &program)
            .map_err(|e| format!("cannot lay out {}: {e}", folder.display()))?;
    }
    let runtime = tokio::runtime::Runtime::new().map_err(|e| format!("no runtime: {e}"))?;
    runtime.block_on(until_told(config))
}

async fn until_told(config: SimConfig) -> Result<(), String> {
    use tokio::signal::unix::{SignalKind, signal};
    let sim = Sim::start(config).await.map_err(|e| e.to_string())?;
    let mut interrupt = signal(SignalKind::interrupt()).map_err(|e| e.to_string())?;
    let mut terminate = signal(SignalKind::terminate()).map_err(|e| e.to_string())?;
    println!("url {}\ntoken {}", sim.url(), sim.token());
    tokio::select! {
        _ = interrupt.recv() => {}
        _ = terminate.recv() => {}
    }
    sim.shutdown().await;
    Ok(())
}
