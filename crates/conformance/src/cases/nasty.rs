//! Inputs that break what is not quoted by construction.

use std::time::Instant;

use futures::{StreamExt, TryStreamExt};
use runner_manager_core::{
    Connected, CreateRunner, Error, ErrorKind, GitHubPath, InstanceId, Labels, NamePrefix,
    RunnerName, Support,
};

use crate::bench::token;
use crate::canary::CanarySecret;
use crate::case::check;
use crate::{Bench, Failure, Outcome, Received, Verdict, trace};

/// Labels that are allowed, and mean something to a shell, to YAML, to option parsers, or to
/// lists with commas.
const LABELS: [&str; 14] = [
    "-rf", "--token", "a=b", "@file", "..", "../..", "//", "null", "0x10", "1e3", "no", "a:b", "+",
    "=",
];

/// How many runners are tried at once.
const AT_ONCE: usize = 6;

/// What prefixes are made of after the case's own; all are allowed.
const PREFIXES: [&str; 6] = [
    "-x",
    "--x",
    "-000000000000",
    "-0123456789ab-0123456789ab",
    "Xx",
    "-true",
];

/// Runner groups: any text, some of which would run `touch`.
fn groups(name: &RunnerName) -> Vec<String> {
    let touch = format!("touch {}", trace(name).display());
    let mut groups = vec![
        String::new(),
        " edges ".to_owned(),
        "--url".to_owned(),
        "#x: - y, a\\b \\".to_owned(),
        "%s%n $HOME ${HOME} {{ x }} {% x %} * ~ !x ü ☃ 中 a\tb".to_owned(),
        "<b>&amp;</b> 'q' \"q\" '".to_owned(),
    ];
    for (open, close) in [
        ("$(", ")"),
        ("`", "`"),
        ("'; ", "; '"),
        ("\"; ", "; \""),
        ("; ", ";"),
        ("| ", ""),
        ("& ", " &"),
        ("\n", "\n"),
        ("'$(", ")'"),
        ("\"\n- ", "\n"),
        ("EOF\n", "\nEOF"),
    ] {
        groups.push(format!("x{open}{touch}{close}x"));
    }
    groups
}

/// What the runner of a request was given, once it has been.
async fn given(b: &Bench, manager: &Connected, name: &RunnerName) -> Result<Received, Failure> {
    b.listening(manager, name.instance_id()).await?;
    let end = Instant::now() + b.harness.patience();
    loop {
        match b.harness.received(name).await {
            Ok(received) => return Ok(received),
            Err(cannot) if Instant::now() > end => return Err(cannot.into()),
            Err(_) => tokio::time::sleep(std::time::Duration::from_millis(20)).await,
        }
    }
}

/// Creates the runner and compares. A text that the backend refuses as invalid is fine: nothing
/// of it reaches an instance.
async fn arrives(b: &Bench, manager: &Connected, request: CreateRunner) -> Result<(), Failure> {
    let name = manager.name_prefix().runner_name(&request.id);
    let github = request.github.clone();
    let id = request.id.clone();
    match manager.create_runner(request).await {
        Err(error) if error.kind() == ErrorKind::InvalidRequest => {
            let found = manager.get_runner(&id).await?;
            check!(found.is_none(), "refused, and made all the same: {found:?}");
            return Ok(());
        }
        outcome => outcome?,
    };
    let received = given(b, manager, &name).await?;
    manager.delete_runner(&id, &token()).await?;
    let group = github.github_path.group().filter(|group| !group.is_empty());
    let wanted = Received {
        name: name.to_string(),
        labels: github.labels.iter().map(ToString::to_string).collect(),
        group: group.map(str::to_owned),
        traced: false,
    };
    let same = received.group.as_deref().filter(|group| !group.is_empty()) == group
        && (&received.name, &received.labels) == (&wanted.name, &wanted.labels);
    check!(same, "{wanted:?} arrived as {received:?}");
    check!(!received.traced, "a part of {group:?} was run");
    Ok(())
}

/// The refusal where a backend takes no registration token: labels then travel in the JIT
/// config, and nothing of them reaches the instance in any other way.
async fn refusal(b: &Bench, manager: &Connected, why: &'static str) -> Verdict {
    let request = CreateRunner {
        credential: runner_manager_core::RunnerCredential::RegistrationToken {
            url: "https://github.com/octo"
                .parse()
                .map_err(|_| Failure::new("the URL of the case is none"))?,
            token: CanarySecret::new().token(),
        },
        ..b.request(InstanceId::random())
    };
    let outcome = manager.create_runner(request).await;
    let kind = outcome.as_ref().err().map(Error::kind);
    check!(kind == Some(ErrorKind::Unsupported), "{outcome:?}");
    b.nothing_left().await?;
    Ok(Outcome::Refused(why))
}

pub(super) async fn labels_and_groups_arrive_intact_and_run_nothing(b: Bench) -> Verdict {
    let manager = b.manager().await?;
    if let Support::Unsupported(why) = manager.capability().registration_token {
        return refusal(&b, &manager, why).await;
    }
    let mut labels: Vec<String> = LABELS.map(str::to_owned).to_vec();
    labels.push("x".repeat(256));
    let labels = Labels::parse(labels.iter().map(String::as_str))
        .map_err(|error| Failure::new(error.to_string()))?;
    let some = b.prefix.runner_name(&InstanceId::random());
    let all = (0..groups(&some).len()).map(|at| {
        let id = InstanceId::random();
        let group = groups(&b.prefix.runner_name(&id)).swap_remove(at);
        let request = b.token_request(&manager, &CanarySecret::new(), id);
        let (labels, b, manager) = (labels.clone(), &b, &manager);
        async move {
            let mut request =
                request.map_err(|_| Failure::new("the capability changed meanwhile"))?;
            let org = "octo".into();
            request.github.github_path = GitHubPath::Organization { org, group };
            request.github.labels = labels;
            arrives(b, manager, request).await
        }
    });
    let all = futures::stream::iter(all).buffer_unordered(AT_ONCE);
    all.try_collect::<Vec<()>>().await?;
    b.cleaned(&manager).await?;
    Ok(Outcome::Verified)
}

pub(super) async fn prefixes_of_every_shape_work(b: Bench) -> Verdict {
    for shape in PREFIXES {
        let prefix = NamePrefix::new(format!("{}{shape}", b.prefix))
            .map_err(|error| Failure::new(error.to_string()))?;
        let there = b.with_prefix(prefix);
        let manager = there.manager().await?;
        let name = there.runner(&manager).await?;
        let listed = there.names(&manager).await?;
        check!(listed == [name.clone()], "{listed:?}");
        // The shorter prefix, of which this one begins with all, sees nothing of it.
        let shorter = b.names(&b.manager().await?).await?;
        check!(shorter.is_empty(), "{} shows {shorter:?}", b.prefix);
        manager.delete_runner(name.instance_id(), &token()).await?;
        there.cleaned(&manager).await?;
    }
    Ok(Outcome::Verified)
}
