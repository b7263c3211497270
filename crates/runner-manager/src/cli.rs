//! The command line.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{CommandFactory, Parser, Subcommand};
use runner_manager_core::{Error, ErrorKind, Result};

use crate::logs::{self, LogFormat};
use crate::{backends, list, run};

/// Keeps fleets of ephemeral self-hosted GitHub Actions runners at the right size.
///
/// Exit codes: 0 all is well; 1 the command failed; 2 the command line or the configuration is
/// wrong.
#[derive(Parser)]
#[command(version)]
struct Arguments {
    /// The form of the log lines on standard error.
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
    /// Runs the manager, until SIGTERM or SIGINT. SIGHUP reads the pools anew.
    Run(Config),
    /// Checks a configuration: the file, the backends, the access to GitHub.
    Check(Config),
    /// Prints the JSON schema of the configuration.
    Schema,
    /// Prints completions for a shell.
    Completions {
        /// The shell.
        shell: clap_complete::Shell,
    },
    /// Lists the backends: compiled in, and known.
    Backends,
    /// Lists runners, from the state folder.
    Runners {
        #[command(flatten)]
        config: Config,
        /// Those that are gone, too.
        #[arg(long)]
        all: bool,
    },
    /// Lists the newest jobs, from the state folder.
    Jobs {
        #[command(flatten)]
        config: Config,
        /// The most jobs to list.
        #[arg(long, default_value = "100")]
        limit: u32,
    },
}

#[derive(clap::Args)]
struct Config {
    /// The configuration file.
    #[arg(long, value_name = "FILE")]
    config: PathBuf,
}

pub(crate) fn main() -> ExitCode {
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
    match runtime.block_on(dispatch(arguments)) {
        Ok(code) => code,
        Err(error) => {
            eprintln!("error: {error}");
            match error.kind() {
                ErrorKind::InvalidConfig => ExitCode::from(2),
                _ => ExitCode::FAILURE,
            }
        }
    }
}

async fn dispatch(arguments: Arguments) -> Result<ExitCode> {
    let json = arguments.json;
    match arguments.command {
        #[cfg(feature = "demo")]
        Command::Demo(options) => return crate::demo::run(options, json).await,
        Command::Run(config) => run::run(&config.config).await?,
        Command::Check(config) => return run::check(&config.config, json).await,
        Command::Schema => print(&crate::config::schema(), true)?,
        Command::Completions { shell } => {
            let mut command = Arguments::command();
            clap_complete::generate(
                shell,
                &mut command,
                "runner-manager",
                &mut std::io::stdout(),
            );
        }
        Command::Backends => show_backends(json)?,
        Command::Runners { config, all } => list::runners(&config.config, all, json).await?,
        Command::Jobs { config, limit } => list::jobs(&config.config, limit, json).await?,
    }
    Ok(ExitCode::SUCCESS)
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
        serde_json::Value::String(text) => text.clone(),
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
