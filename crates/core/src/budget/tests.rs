use super::*;

fn limits() -> BudgetLimits {
    BudgetLimits {
        rate: 10.0,
        floor: 0.5,
        burst: 5,
        recovery: Duration::from_secs(20),
        max_wait: Duration::from_secs(10),
    }
}

/// What is reported of each request.
#[derive(Clone, Copy)]
enum Report {
    Nothing,
    Success,
    Throttling,
}

/// How many permits one task gets in so many seconds.
async fn count(budget: &Budget, seconds: u64, report: Report) -> usize {
    let end = Instant::now() + Duration::from_secs(seconds);
    let mut count = 0;
    while Instant::now() < end {
        match budget.permit().await {
            Ok(permit) => {
                count += 1;
                match report {
                    Report::Nothing => {}
                    Report::Success => permit.succeeded(),
                    Report::Throttling => permit.throttled(None),
                }
            }
            Err(_) => tokio::time::sleep(Duration::from_millis(100)).await,
        }
    }
    count
}

#[tokio::test(start_paused = true)]
async fn the_rate_and_the_burst_hold() {
    let budget = Budget::new(limits());
    let sent = count(&budget, 10, Report::Success).await;
    assert!((104..=106).contains(&sent), "{sent} in ten seconds");
}

#[tokio::test(start_paused = true)]
async fn throttling_halves_the_rate_and_success_brings_it_back() {
    let budget = Budget::new(limits());
    budget.permit().await.unwrap().throttled(None);
    assert!((budget.rate() - 5.0).abs() < 1e-9);
    let sent = count(&budget, 10, Report::Nothing).await;
    assert!((49..=51).contains(&sent), "{sent} at five a second");
    count(&budget, 60, Report::Throttling).await;
    assert!((budget.rate() - 0.5).abs() < 1e-9, "{}", budget.rate());
    count(&budget, 30, Report::Success).await;
    assert!((budget.rate() - 10.0).abs() < 1e-9, "{}", budget.rate());
}

#[tokio::test(start_paused = true)]
async fn requests_under_way_together_count_once() {
    let budget = Budget::new(limits());
    let first = budget.permit().await.unwrap();
    let second = budget.permit().await.unwrap();
    let third = budget.permit().await.unwrap();
    first.throttled(None);
    second.throttled(None);
    // It was sent before the decrease: no sign that the lower rate is fine.
    third.succeeded();
    assert!((budget.rate() - 5.0).abs() < 1e-9, "{}", budget.rate());
}

#[tokio::test(start_paused = true)]
async fn a_pause_that_is_asked_for_is_kept() {
    let budget = Budget::new(limits());
    let begun = Instant::now();
    let pause = Some(Duration::from_secs(7));
    budget.permit().await.unwrap().throttled(pause);
    drop(budget.permit().await.unwrap());
    assert!(begun.elapsed() >= Duration::from_secs(7));
}

#[tokio::test(start_paused = true)]
async fn who_waits_too_long_is_told_when_to_come_again() {
    let budget = Budget::new(limits());
    let pause = Some(Duration::from_secs(60));
    budget.permit().await.unwrap().throttled(pause);
    let begun = Instant::now();
    let error = budget.permit().await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::RateLimited);
    assert_eq!(error.retry(), Retry::After(Duration::from_secs(60)));
    assert_eq!(begun.elapsed(), Duration::ZERO, "it was told at once");
}

#[tokio::test(start_paused = true)]
async fn the_queue_is_bounded_and_fair() {
    let budget = Budget::new(limits());
    let order = Mutex::new(Vec::new());
    let ask = |number: usize| {
        let (budget, order) = (&budget, &order);
        async move {
            let outcome = budget.permit().await.map(drop);
            if outcome.is_ok() {
                order.lock().unwrap().push(number);
            }
            outcome.is_ok()
        }
    };
    let all = futures::future::join_all((0..200).map(ask)).await;
    let served = all.iter().filter(|ok| **ok).count();
    // Five at once, and ten seconds of ten a second.
    assert!((100..=106).contains(&served), "{served} of 200");
    let order = order.into_inner().unwrap();
    assert!(order.is_sorted(), "{order:?}");
}

#[tokio::test(start_paused = true)]
async fn one_who_leaves_the_queue_takes_nothing() {
    let budget = Budget::new(limits());
    for _ in 0..5 {
        drop(budget.permit().await.unwrap());
    }
    for _ in 0..50 {
        let waits = budget.permit();
        let gone = tokio::time::timeout(Duration::from_millis(1), waits).await;
        assert!(gone.is_err());
    }
    assert_eq!(budget.waiting.load(Ordering::Acquire), 0);
    tokio::time::advance(Duration::from_millis(50)).await;
    let begun = Instant::now();
    drop(budget.permit().await.unwrap());
    assert!(begun.elapsed() <= Duration::from_millis(1));
}

#[tokio::test(start_paused = true)]
async fn spending_learns_from_errors() {
    let budget = Budget::new(limits());
    let throttled = || {
        let error = Error::new(ErrorKind::RateLimited, "slow down");
        async { Err::<(), _>(error.with_retry(Retry::After(Duration::from_secs(3)))) }
    };
    assert!(budget.spend(throttled()).await.is_err());
    assert!((budget.rate() - 5.0).abs() < 1e-9);
    let begun = Instant::now();
    let other = async { Err::<(), _>(Error::new(ErrorKind::NotFound, "gone")) };
    assert!(budget.spend(other).await.is_err());
    assert!(begun.elapsed() >= Duration::from_secs(3));
    assert!((budget.rate() - 5.0).abs() < 1e-9);
    budget.spend(async { Ok(()) }).await.unwrap();
    assert!(budget.rate() > 5.0);
}

#[test]
fn limits_that_make_no_sense_are_replaced() {
    for bad in [f64::NAN, f64::INFINITY, 0.0, -1.0] {
        let sane = BudgetLimits {
            rate: bad,
            floor: bad,
            burst: 0,
            ..limits()
        }
        .sane();
        assert!(sane.rate > 0.0 && sane.rate.is_finite(), "{sane:?}");
        assert!(sane.floor > 0.0 && sane.floor <= sane.rate, "{sane:?}");
        assert_eq!(sane.burst, 1);
    }
}

#[tokio::test]
async fn pools_of_one_account_share_a_budget() {
    let budgets = Budgets::default();
    let one = budgets.of("ec2/eu-west-1/main", limits());
    let same = budgets
        .clone()
        .of("ec2/eu-west-1/main", BudgetLimits::default());
    let other = budgets.of("ec2/eu-west-1/other", limits());
    assert!(Arc::ptr_eq(&one, &same) && !Arc::ptr_eq(&one, &other));
    drop((one, same));
    let anew = budgets.of("ec2/eu-west-1/main", limits());
    assert_eq!(Arc::strong_count(&anew), 1);
}
