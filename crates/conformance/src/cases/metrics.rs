//! What a runner leaves about its job.

use std::time::Duration;

use runner_manager_core::{
    Connected, ExchangeFile, JobStatus, RunnerMetrics, RunnerName, Support, Timings,
};

use crate::bench::token;
use crate::case::check;
use crate::{Bench, Failure, Fault, Outcome, Planted, Verdict};

const PRE: &str = r#"{"timestamp":1700000010.5,"workflow":"a \"b\" <c> & 'd' $(e)","workflow_run_id":"17","repository":"octo/hello","event":"push"}"#;

/// Deletes a runner, which must not take longer than the looks at its files may.
async fn delete(manager: &Connected, name: &RunnerName) -> Result<RunnerMetrics, Failure> {
    let gone = manager.delete_runner(name.instance_id(), &token()).await?;
    gone.ok_or_else(|| Failure::new("the deletion gave no metrics"))
}

/// A runner with these files, deleted: its metrics. The refusal where there is no way into an
/// instance: it goes all the same, and nothing is made up.
async fn left(
    b: &Bench,
    files: Vec<(ExchangeFile, Planted)>,
) -> Result<Result<RunnerMetrics, &'static str>, Failure> {
    let timings = Timings {
        guest_timeout: Timings::default().guest_timeout.min(b.harness.patience()),
        ..Bench::timings()
    };
    let manager = b.manager_with(&timings).await?;
    let name = b.runner(&manager).await?;
    if let Support::Unsupported(why) = manager.capability().guest {
        let metrics = delete(&manager, &name).await?;
        let made_up = metrics.pre_job.is_some() || metrics.post_job.is_some();
        check!(!made_up && metrics.installed_at.is_none(), "{metrics:?}");
        b.nothing_left().await?;
        return Ok(Err(why));
    }
    for (file, what) in files {
        b.harness.put_file(&name, file, what).await?;
    }
    let metrics = b
        .ends(timings.guest_timeout, delete(&manager, &name))
        .await??;
    check!(metrics.runner_name == name, "{metrics:?}");
    b.nothing_left().await?;
    Ok(Ok(metrics))
}

/// Unwraps the metrics, or ends the case as refused.
macro_rules! taken {
    ($left:expr) => {
        match $left {
            Ok(metrics) => metrics,
            Err(why) => return Ok(Outcome::Refused(why)),
        }
    };
}

fn bytes(text: &str) -> Planted {
    Planted::Bytes(text.as_bytes().to_vec())
}

/// The three files of a job that ended like this.
fn job(post: &str) -> Vec<(ExchangeFile, Planted)> {
    vec![
        (ExchangeFile::Installed, bytes("1700000000.25\n")),
        (ExchangeFile::PreJob, bytes(PRE)),
        (ExchangeFile::PostJob, bytes(post)),
    ]
}

async fn ended(b: &Bench, post: &str, status: JobStatus, code: Option<i64>) -> Verdict {
    let metrics = taken!(left(b, job(post)).await?);
    check!(metrics.set_aside.is_empty(), "{metrics:?}");
    let installed = metrics.installed_at.map(jiff::Timestamp::as_millisecond);
    check!(installed == Some(1_700_000_000_250), "{metrics:?}");
    let Some(pre) = &metrics.pre_job else {
        return Err(Failure::new(format!("no pre-job metrics: {metrics:?}")));
    };
    check!(pre.workflow == r#"a "b" <c> & 'd' $(e)"#, "{pre:?}");
    check!(pre.repository == "octo/hello", "{pre:?}");
    let milliseconds = format!("{:.3}", pre.timestamp);
    check!(milliseconds == "1700000010.500", "{pre:?}");
    let Some(post) = &metrics.post_job else {
        return Err(Failure::new(format!("no post-job metrics: {metrics:?}")));
    };
    check!(post.status == status, "{post:?}");
    check!(post.status_info.map(|info| info.code) == code, "{post:?}");
    Ok(Outcome::Verified)
}

pub(super) async fn a_normal_end(b: Bench) -> Verdict {
    let post = r#"{"timestamp":1700000020,"status":"normal"}"#;
    ended(&b, post, JobStatus::Normal, None).await
}

pub(super) async fn an_abnormal_end(b: Bench) -> Verdict {
    let post = r#"{"timestamp":1700000020,"status":"abnormal","status_info":{"code":137}}"#;
    ended(&b, post, JobStatus::Abnormal, Some(137)).await
}

pub(super) async fn a_policy_refusal(b: Bench) -> Verdict {
    let post = r#"{"timestamp":1700000020,"status":"repo-policy-check-failure","status_info":{"code":403}}"#;
    ended(&b, post, JobStatus::RepoPolicyCheckFailure, Some(403)).await
}

pub(super) async fn missing_files_are_no_failure(b: Bench) -> Verdict {
    let missing = [ExchangeFile::PreJob, ExchangeFile::PostJob];
    let files = missing.map(|file| (file, Planted::Nothing)).to_vec();
    let metrics = taken!(left(&b, files).await?);
    let nothing = metrics.pre_job.is_none() && metrics.post_job.is_none();
    check!(nothing && metrics.set_aside.is_empty(), "{metrics:?}");
    Ok(Outcome::Verified)
}

/// All three files are like this, none may be taken, and each is set aside with a reason.
async fn set_aside(b: &Bench, what: impl Fn(ExchangeFile) -> Planted) -> Verdict {
    let all = [
        ExchangeFile::Installed,
        ExchangeFile::PreJob,
        ExchangeFile::PostJob,
    ];
    let files = all.map(|file| (file, what(file))).to_vec();
    let metrics = taken!(left(b, files).await?);
    let taken =
        metrics.installed_at.is_some() || metrics.pre_job.is_some() || metrics.post_job.is_some();
    check!(!taken, "something was taken: {metrics:?}");
    for file in all {
        let told = |aside: &runner_manager_core::SetAside| {
            aside.file == file.file_name() && !aside.reason.is_empty()
        };
        check!(metrics.set_aside.iter().any(told), "{file:?}: {metrics:?}");
    }
    Ok(Outcome::Verified)
}

pub(super) async fn corrupt_files_are_set_aside(b: Bench) -> Verdict {
    let text: [&[u8]; 4] = [b"{\"timestamp\":", b"\xff\xfe\x00", b"{}", b"[1, 2"];
    for text in text {
        let outcome = set_aside(&b, |_| Planted::Bytes(text.to_vec())).await?;
        if outcome != Outcome::Verified {
            return Ok(outcome);
        }
    }
    Ok(Outcome::Verified)
}

/// Valid but for its length.
fn padded(file: ExchangeFile, length: usize) -> Planted {
    let text = match file {
        ExchangeFile::Installed => "1700000000",
        ExchangeFile::PreJob => PRE,
        ExchangeFile::PostJob => r#"{"timestamp":1700000020,"status":"normal"}"#,
    };
    let mut bytes = text.as_bytes().to_vec();
    bytes.resize(length, b' ');
    Planted::Bytes(bytes)
}

pub(super) async fn oversized_files_are_set_aside(b: Bench) -> Verdict {
    for length in [ExchangeFile::MAX_BYTES + 1, 1 << 20] {
        let outcome = set_aside(&b, |file| padded(file, length)).await?;
        if outcome != Outcome::Verified {
            return Ok(outcome);
        }
    }
    Ok(Outcome::Verified)
}

pub(super) async fn files_of_the_greatest_length_are_taken(b: Bench) -> Verdict {
    let length = ExchangeFile::MAX_BYTES;
    let all = [
        ExchangeFile::Installed,
        ExchangeFile::PreJob,
        ExchangeFile::PostJob,
    ];
    let files = all.map(|file| (file, padded(file, length))).to_vec();
    let metrics = taken!(left(&b, files).await?);
    let taken = metrics.installed_at.is_some() && metrics.post_job.is_some();
    check!(taken && metrics.pre_job.is_some(), "{metrics:?}");
    check!(metrics.set_aside.is_empty(), "{metrics:?}");
    Ok(Outcome::Verified)
}

pub(super) async fn symbolic_links_are_set_aside(b: Bench) -> Verdict {
    set_aside(&b, |_| Planted::Symlink).await
}

pub(super) async fn endless_files_are_set_aside(b: Bench) -> Verdict {
    set_aside(&b, |_| Planted::Endless).await
}

pub(super) async fn a_guest_that_hangs_does_not_block_deletion(b: Bench) -> Verdict {
    let timings = Timings {
        guest_timeout: Duration::from_millis(500),
        ..Bench::timings()
    };
    let manager = b.manager().await?;
    let hasty = b.manager_with(&timings).await?;
    let name = b.runner(&manager).await?;
    if let Support::Unsupported(why) = manager.capability().guest {
        return Ok(Outcome::Refused(why));
    }
    b.harness.fail(&b.prefix, Fault::GuestHangs).await?;
    let metrics = b
        .ends(timings.guest_timeout, delete(&hasty, &name))
        .await??;
    let told = metrics
        .set_aside
        .iter()
        .any(|aside| !aside.reason.is_empty());
    check!(
        told,
        "nothing says that the files were not read: {metrics:?}"
    );
    b.nothing_left().await?;
    Ok(Outcome::Verified)
}
