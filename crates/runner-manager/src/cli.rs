//! The command line.

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use clap::{CommandFactory, Parser, Subcommand};
use runner_manager_core::{Backend, Error, ErrorKind, Result};
use runner_manager_fleet::FlushMode;
use runner_manager_github::escaped;
use runner_manager_store::Live;

use crate::logs::{self, LogFormat};
use crate::{backends, operate, run, webhook};

const EXIT_CODES: &str = "Exit codes:
  0  all is well
  1  the command failed, or not all is as it should be (`check`, `demo`)
  2  the command line or the configuration is wrong
  3  there is no such runner, pool or database
  4  no manager answers
  5  the deadline has passed; what is under way goes on";

/// How long blocking calls that are under way may take at the end.
const LAST_CALLS: Duration = Duration::from_secs(5);

/// Keeps fleets of ephemeral self-hosted GitHub Actions runners at the right size.
#[derive(Parser)]
#[command(version, after_help = EXIT_CODES)]
struct Arguments {
    /// The form of the log lines on standard error; `RUNNER_MANAGER_LOG` sets their level.
    #[arg(long, global = true, value_enum, default_value = "human")]
    log_format: LogFormat,
    /// Prints JSON where a command prints a table.
    #[arg(long, global = true)]
    json: bool,
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Runs the whole path on this machine: a simulated GitHub, real runners as processes.
    #[cfg(feature = "demo")]
    Demo(crate::demo::Options),
    /// Runs the manager, until SIGTERM or SIGINT. A changed file and SIGHUP read the pools anew.
    Run(Config),
    /// Checks a configuration: the file, the backends, the access to GitHub.
    Check(Config),
    /// Prints the user-data that an instance of a pool would boot with, secrets masked.
    Render {
        #[command(flatten)]
        config: Config,
        /// The pool.
        #[arg(long)]
        pool: String,
    },
    /// Lists, shows and removes runners.
    #[command(subcommand)]
    Runners(Runners),
    /// Shows the pools.
    #[command(subcommand)]
    Pools(Pools),
    /// Shows the jobs.
    #[command(subcommand)]
    Jobs(Jobs),
    /// Installs the webhook on GitHub, and tries it.
    #[command(subcommand)]
    Webhook(Webhook),
    /// Shows what failed launches and boots left: the flight recorder.
    #[command(subcommand)]
    Failures(Failures),
    /// Lists the backends: compiled in, and known.
    Backends,
    /// Prints the JSON schema of the configuration.
    Schema,
    /// Prints completions for a shell.
    Completions {
        /// The shell.
        shell: clap_complete::Shell,
    },
}

#[derive(Subcommand)]
enum Runners {
    /// Lists runners, from the state folder.
    List {
        #[command(flatten)]
        config: Config,
        /// Of this pool only.
        #[arg(long)]
        pool: Option<String>,
        /// Those that are gone, too.
        #[arg(long)]
        all: bool,
    },
    /// Shows one runner with the steps of its life.
    Show {
        #[command(flatten)]
        config: Config,
        /// The runner's name.
        name: String,
    },
    /// Removes a runner, busy or not, and waits until it is gone.
    Delete {
        #[command(flatten)]
        config: Config,
        #[command(flatten)]
        deadline: Deadline,
        /// The runner's name.
        name: String,
    },
    /// Opens a shell on a runner's instance, or runs one command there.
    Shell {
        #[command(flatten)]
        config: Config,
        /// The runner's name.
        name: String,
        /// The command and its arguments, after `--`. Without one, an interactive shell.
        #[arg(last = true)]
        command: Vec<String>,
    },
    /// Removes the idle runners, and waits until they are gone. The pools then launch what
    /// they need.
    Flush {
        #[command(flatten)]
        config: Config,
        #[command(flatten)]
        deadline: Deadline,
        /// Of this pool only.
        #[arg(long)]
        pool: Option<String>,
        /// Those that run a job, too: their jobs fail.
        #[arg(long)]
        busy: bool,
    },
}

#[derive(Subcommand)]
enum Pools {
    /// Lists the pools: their sizes, their runners by state, what failed last.
    List(Config),
}

#[derive(Subcommand)]
enum Jobs {
    /// Lists the newest jobs, from the state folder.
    List {
        #[command(flatten)]
        config: Config,
        /// The most jobs to list.
        #[arg(long, default_value = "100")]
        limit: u32,
    },
    /// Shows where a job's time went, and who is to blame.
    Why {
        #[command(flatten)]
        config: Config,
        /// GitHub's id of the job.
        id: u64,
    },
}

#[derive(Subcommand)]
enum Webhook {
    /// Makes the webhook of each pool's organization or repository, or of the GitHub App, what
    /// the file says. Safe to repeat.
    Install(Config),
    /// Has GitHub send a `ping` to each webhook that comes here.
    Ping(Config),
}

#[derive(Subcommand)]
enum Failures {
    /// Lists the last failed launches and boots, newest first, from the state folder.
    List {
        #[command(flatten)]
        config: Config,
        /// Of this pool only.
        #[arg(long)]
        pool: Option<String>,
    },
    /// Shows one failure: the reason, the steps of the runner's life, the console's text.
    Show {
        #[command(flatten)]
        config: Config,
        /// Its number in the list.
        id: u64,
    },
}

#[derive(clap::Args)]
struct Config {
    /// The configuration file.
    #[arg(
        long,
        value_name = "FILE",
        env = "RUNNER_MANAGER_CONFIG",
        default_value = "/etc/runner-manager/config.toml"
    )]
    config: PathBuf,
}

#[derive(clap::Args)]
struct Deadline {
    /// How long to wait, in seconds.
    #[arg(long, value_name = "SECONDS", default_value = "300", value_parser = clap::value_parser!(u64).range(1..=3600))]
    deadline: u64,
}

impl Deadline {
    fn wait(&self) -> Duration {
        Duration::from_secs(self.deadline)
    }
}

pub(crate) fn main(added: &[&'static Backend]) -> ExitCode {
    if let Err(error) = backends::add(added) {
        eprintln!("error: {error}");
        return ExitCode::FAILURE;
    }
    let arguments = Arguments::parse();
    let level = match arguments.command {
        Command::Run(_) => "info",
        _ => "error",
    };
    logs::start(arguments.log_format, level);
    let runtime = match tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
    {
        Ok(runtime) => runtime,
        Err(error) => {
            eprintln!("error: cannot start the runtime: {error}");
            return ExitCode::FAILURE;
        }
    };
    let outcome = runtime.block_on(dispatch(arguments));
    // A call of a backend that hangs does not keep the program.
    runtime.shutdown_timeout(LAST_CALLS);
    match outcome {
        Ok(code) => code,
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::from(exit_code(error.kind()))
        }
    }
}

fn exit_code(kind: ErrorKind) -> u8 {
    match kind {
        ErrorKind::InvalidConfig => 2,
        ErrorKind::NotFound => 3,
        ErrorKind::Unreachable => 4,
        ErrorKind::TimedOut => 5,
        _ => 1,
    }
}

async fn dispatch(arguments: Arguments) -> Result<ExitCode> {
    let json = arguments.json;
    match arguments.command {
        #[cfg(feature = "demo")]
        Command::Demo(options) => return crate::demo::run(options, json).await,
        Command::Run(config) => run::run(&config.config).await?,
        Command::Check(config) => return run::check(&config.config, json).await,
        Command::Render { config, pool } => crate::render::render(&config.config, &pool)?,
        Command::Runners(Runners::Shell {
            config,
            name,
            command,
        }) => return crate::shell::shell(&config.config, &name, command).await,
        Command::Runners(command) => runners(command, json).await?,
        Command::Pools(Pools::List(config)) => operate::list_pools(&config.config, json).await?,
        Command::Jobs(Jobs::List { config, limit }) => {
            operate::list_jobs(&config.config, limit, json).await?;
        }
        Command::Jobs(Jobs::Why { config, id }) => {
            operate::explain_job(&config.config, id, json).await?;
        }
        Command::Webhook(Webhook::Install(config)) => {
            return webhook::install(&config.config, json).await;
        }
        Command::Webhook(Webhook::Ping(config)) => {
            return webhook::ping(&config.config, json).await;
        }
        Command::Failures(Failures::List { config, pool }) => {
            operate::list_failures(&config.config, pool, json).await?;
        }
        Command::Failures(Failures::Show { config, id }) => {
            operate::show_failure(&config.config, id, json).await?;
        }
        Command::Backends => show_backends(json)?,
        Command::Schema => print(&crate::config::schema(), true)?,
        Command::Completions { shell } => {
            let mut command = Arguments::command();
            let output = &mut std::io::stdout();
            clap_complete::generate(shell, &mut command, "runner-manager", output);
        }
    }
    Ok(ExitCode::SUCCESS)
}

async fn runners(command: Runners, json: bool) -> Result<()> {
    match command {
        Runners::List { config, pool, all } => {
            let live_only = if all { Live::All } else { Live::Yes };
            operate::list_runners(&config.config, pool, live_only, json).await
        }
        // Answered by the caller, for its exit code is that of the command.
        Runners::Shell { .. } => Ok(()),
        Runners::Show { config, name } => operate::show_runner(&config.config, &name, json).await,
        Runners::Delete {
            config,
            deadline,
            name,
        } => operate::delete_runner(&config.config, &name, deadline.wait()).await,
        Runners::Flush {
            config,
            deadline,
            pool,
            busy,
        } => {
            let mode = if busy {
                FlushMode::IdleOrBusy
            } else {
                FlushMode::Idle
            };
            let wait = deadline.wait();
            operate::flush(&config.config, pool.as_deref(), mode, wait, json).await
        }
    }
}

fn show_backends(json: bool) -> Result<()> {
    let rows = backends::all().into_iter().map(|(scheme, built)| {
        serde_json::json!({
            "backend": scheme,
            "compiled": built.is_some(),
            "hosts_a_runner_in": built.map(|backend| backend.summary),
        })
    });
    print(&rows.collect(), json)
}

/// Prints rows as JSON, or as a table for people; columns without a value in any row are left
/// out.
pub(crate) fn print(rows: &serde_json::Value, json: bool) -> Result<()> {
    if json {
        let text = serde_json::to_string_pretty(rows)
            .map_err(|e| Error::new(ErrorKind::Unexpected, "cannot print JSON").with_source(e))?;
        println!("{text}");
        return Ok(());
    }
    let rows: Vec<_> = rows.as_array().into_iter().flatten().collect();
    let mut columns: Vec<&str> = Vec::new();
    for (key, value) in rows.iter().filter_map(|row| row.as_object()).flatten() {
        if !value.is_null() && !columns.contains(&key.as_str()) {
            columns.push(key);
        }
    }
    let mut table = table(&columns);
    for row in rows {
        table.add_row(columns.iter().map(|column| cell(&row[*column])));
    }
    println!("{table}");
    Ok(())
}

/// A table without lines, as wide as its content.
pub(crate) fn table(columns: &[&str]) -> comfy_table::Table {
    let mut table = comfy_table::Table::new();
    table.load_style(comfy_table::presets::NOTHING);
    table.set_header(columns);
    table
}

fn cell(value: &serde_json::Value) -> String {
    match value {
        serde_json::Value::Null => "-".into(),
        // Lines of a text are lines of its cell.
        serde_json::Value::String(text) => {
            let lines: Vec<String> = text.split('\n').map(escaped).collect();
            lines.join("\n")
        }
        serde_json::Value::Array(items) => items.iter().map(cell).collect::<Vec<_>>().join(","),
        serde_json::Value::Object(fields) => {
            let fields = fields
                .iter()
                .map(|(key, value)| format!("{key}={}", cell(value)));
            fields.collect::<Vec<_>>().join(" ")
        }
        other => other.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cell_holds_no_terminal_escapes() {
        let row = serde_json::json!(["a\u{1b}[31m\u{7}", { "name": "x\u{202e}\ny" }]);
        assert_eq!(cell(&row), "a\\u{1b}[31m\\u{7},name=x\\u{202e}\ny");
    }
}
