//! Getting and listing runners.

use runner_manager_core::{CloudRunnerState, InstanceId};

use crate::bench::{cleanup, flush, token};
use crate::case::check;
use crate::{Bench, Fault, Outcome, Verdict};

pub(super) async fn nothing_is_an_empty_list(b: Bench) -> Verdict {
    let manager = b.manager().await?;
    let listed = manager.get_runners(None).await?;
    check!(listed.is_empty(), "{listed:?}");
    Ok(Outcome::Verified)
}

pub(super) async fn an_unknown_id_is_none(b: Bench) -> Verdict {
    let manager = b.manager().await?;
    let found = manager.get_runner(&InstanceId::random()).await?;
    check!(found.is_none(), "{found:?}");
    Ok(Outcome::Verified)
}

pub(super) async fn all_are_listed_oldest_first(b: Bench) -> Verdict {
    let manager = b.manager().await?;
    let mut made = Vec::new();
    for _ in 0..12 {
        let id = InstanceId::random();
        made.push(manager.create_runner(b.request(id)).await?);
    }
    let listed = manager.get_runners(None).await?;
    let times = listed
        .windows(2)
        .all(|two| two[0].created_at <= two[1].created_at);
    check!(times, "not oldest first: {listed:?}");
    let mut ids: Vec<_> = listed.into_iter().map(|r| r.instance_id).collect();
    ids.sort();
    made.sort();
    check!(ids == made, "{} made, {} listed", made.len(), ids.len());
    Ok(Outcome::Verified)
}

pub(super) async fn states_filter(b: Bench) -> Verdict {
    let manager = b.manager().await?;
    let (well, ill) = (b.runner(&manager).await?, b.runner(&manager).await?);
    b.harness.stop(&ill).await?;
    b.until(&manager, ill.instance_id(), "stopped", |r| {
        r.state != CloudRunnerState::Active
    })
    .await?;
    let active = manager
        .get_runners(Some(&[CloudRunnerState::Active]))
        .await?;
    let names: Vec<_> = active.into_iter().map(|r| r.name).collect();
    check!(names == [well], "active are {names:?}");
    let none = manager.get_runners(Some(&[])).await?;
    check!(none.is_empty(), "no state at all gives {none:?}");
    let all = manager.get_runners(None).await?;
    check!(all.len() == 2, "of all states are {all:?}");
    Ok(Outcome::Verified)
}

pub(super) async fn list_calls_do_not_grow_with_runners(b: Bench) -> Verdict {
    let manager = b.manager().await?;
    let mut costs = Vec::new();
    for runners in [1, 8] {
        while manager.get_runners(None).await?.len() < runners {
            b.instance(&manager).await?;
        }
        let before = b.harness.list_calls(&b.prefix)?;
        manager.get_runners(None).await?;
        costs.push(b.harness.list_calls(&b.prefix)? - before);
    }
    let pages = 8_usize.div_ceil(b.harness.page_size().unwrap_or(8));
    check!(
        costs[1] <= costs[0] * pages && costs[0] > 0,
        "one runner costs {} lists, eight {}",
        costs[0],
        costs[1]
    );
    Ok(Outcome::Verified)
}

pub(super) async fn a_longer_prefix_is_invisible(b: Bench) -> Verdict {
    let (manager, neighbour) = (b.manager().await?, b.neighbour().await?);
    let theirs = b.instance(&neighbour).await?;
    let listed = manager.get_runners(None).await?;
    let found = manager.get_runner(theirs.instance_id()).await?;
    neighbour
        .delete_runner(theirs.instance_id(), &token())
        .await?;
    check!(listed.is_empty(), "{} shows {listed:?}", b.prefix);
    check!(found.is_none(), "{} finds {found:?}", b.prefix);
    Ok(Outcome::Verified)
}

pub(super) async fn what_lacks_the_mark_is_invisible(b: Bench) -> Verdict {
    let manager = b.manager().await?;
    let name = b.prefix.runner_name(&InstanceId::random());
    b.harness.make_stranger(&name.to_string()).await?;
    let listed = manager.get_runners(None).await?;
    let found = manager.get_runner(name.instance_id()).await?;
    b.harness.take_stranger(&name.to_string()).await;
    check!(listed.is_empty() && found.is_none(), "{listed:?} {found:?}");
    Ok(Outcome::Verified)
}

pub(super) async fn a_failing_list_is_an_error_and_no_empty_list(b: Bench) -> Verdict {
    let manager = b.manager().await?;
    b.instance(&manager).await?;
    b.harness.fail(&b.prefix, Fault::List).await?;
    let listed = manager.get_runners(None).await;
    b.harness.mend(&b.prefix).await;
    check!(listed.is_err(), "{listed:?}");
    Ok(Outcome::Verified)
}

pub(super) async fn more_instances_than_one_page(b: Bench) -> Verdict {
    let manager = b.manager().await?;
    let most = b.harness.page_size().map_or(12, |page| 2 * page + 1);
    let requests = (0..most).map(|_| b.request(InstanceId::random()));
    let made = requests.map(|request| manager.create_runner(request));
    let mut made = futures::future::try_join_all(made).await?;
    made.sort();
    let listed = b.names(&manager).await?;
    let ids: Vec<_> = listed
        .iter()
        .map(|name| name.instance_id().clone())
        .collect();
    check!(ids == made, "{} made, {} listed", made.len(), ids.len());
    let flushed = flush(&manager, true).await;
    check!(flushed.errors.is_empty(), "{:?}", flushed.errors);
    b.cleaned(&manager).await?;
    Ok(Outcome::Verified)
}

/// Names that begin with the prefix and are no runner's.
fn other_shapes(b: &Bench) -> Vec<String> {
    let shapes = [
        "-x",
        "-0123456789AB",
        "-0123456789ab-1",
        "-0123456789abc",
        "-0123456789a",
    ];
    shapes.map(|shape| format!("{}{shape}", b.prefix)).to_vec()
}

pub(super) async fn names_of_other_shapes_are_nobodys(b: Bench) -> Verdict {
    let manager = b.manager().await?;
    let ours = b.instance(&manager).await?;
    let strangers = other_shapes(&b);
    for name in &strangers {
        b.harness.make_stranger(name).await?;
    }
    let listed = b.names(&manager).await;
    for _ in 0..2 {
        cleanup(&manager).await;
    }
    let flushed = flush(&manager, true).await;
    let mut gone = Vec::new();
    for name in &strangers {
        if !b.harness.take_stranger(name).await {
            gone.push(name);
        }
    }
    check!(gone.is_empty(), "removed were {gone:?}");
    let listed = listed?;
    check!(listed == [ours], "listed are {listed:?}");
    check!(flushed.errors.is_empty(), "{:?}", flushed.errors);
    Ok(Outcome::Verified)
}

pub(super) async fn the_newest_of_a_name_is_shown(b: Bench) -> Verdict {
    let manager = b.manager().await?;
    let name = b.instance(&manager).await?;
    let newest = b.look(&manager, &name).await?.native_id;
    b.harness.make_twin(&name).await?;
    let found = b.look(&manager, &name).await?.native_id;
    check!(found == newest, "{found} is shown, the newest is {newest}");
    let listed = manager.get_runners(None).await?;
    let natives: Vec<_> = listed.iter().map(|r| r.native_id.as_str()).collect();
    check!(natives == [newest.as_str()], "{natives:?} are listed");
    Ok(Outcome::Verified)
}
