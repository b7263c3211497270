//! What to ask EC2 for, in which order.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use crate::config::{Ec2Config, Purchase, Strategy};

/// How long what lacked capacity comes last.
const DROUGHT: Duration = Duration::from_secs(60);

/// How one instance is bought.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Market {
    /// On demand.
    OnDemand,
    /// Spot.
    Spot,
}

impl Market {
    /// The word of the tag.
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::OnDemand => "on-demand",
            Self::Spot => "spot",
        }
    }
}

/// One thing to ask for.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) enum Candidate {
    /// `RunInstances` of one type in one subnet; `None` is what the launch template or the
    /// account says.
    One {
        /// How it is bought.
        market: Market,
        /// The instance type.
        instance_type: Option<String>,
        /// The subnet.
        subnet: Option<String>,
    },
    /// `CreateFleet`, which picks among all types and subnets.
    Fleet {
        /// How it is bought.
        market: Market,
    },
}

impl Candidate {
    pub(crate) fn market(&self) -> Market {
        match self {
            Self::One { market, .. } | Self::Fleet { market } => *market,
        }
    }
}

/// All that may be asked for, in the order of the configuration.
pub(crate) fn all(config: &Ec2Config) -> Vec<Candidate> {
    let markets: &[Market] = match config.purchase {
        Purchase::OnDemand => &[Market::OnDemand],
        Purchase::Spot => &[Market::Spot],
        Purchase::SpotThenOnDemand => &[Market::Spot, Market::OnDemand],
    };
    let options = |values: &[String]| -> Vec<Option<String>> {
        match values {
            [] => vec![None],
            some => some.iter().cloned().map(Some).collect(),
        }
    };
    let (types, subnets) = (options(&config.instance_types), options(&config.subnet_ids));
    let mut all = Vec::new();
    for &market in markets {
        let is_choice = types.len() * subnets.len() > 1;
        if config.strategy != Strategy::Ordered && is_choice {
            all.push(Candidate::Fleet { market });
            continue;
        }
        for instance_type in &types {
            all.extend(subnets.iter().map(|subnet| Candidate::One {
                market,
                instance_type: instance_type.clone(),
                subnet: subnet.clone(),
            }));
        }
    }
    all
}

/// Which candidates lacked capacity a moment ago.
#[derive(Debug, Default)]
pub(crate) struct Droughts(Mutex<HashMap<Candidate, Instant>>);

impl Droughts {
    /// The same candidates, of each market those last that lacked capacity a moment ago.
    pub(crate) fn order(&self, candidates: &[Candidate]) -> Vec<Candidate> {
        let mut since = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        since.retain(|_, at| at.elapsed() < DROUGHT);
        let mut ordered = candidates.to_vec();
        let on_demand = |c: &Candidate| c.market() == Market::OnDemand && has_spot(candidates);
        ordered.sort_by_key(|candidate| (on_demand(candidate), since.contains_key(candidate)));
        ordered
    }

    /// Notes that a candidate lacked capacity.
    pub(crate) fn note(&self, candidate: &Candidate) {
        let mut since = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        since.insert(candidate.clone(), Instant::now());
    }

    /// Notes that a candidate had capacity.
    pub(crate) fn clear(&self, candidate: &Candidate) {
        let mut since = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        since.remove(candidate);
    }
}

fn has_spot(candidates: &[Candidate]) -> bool {
    candidates.iter().any(|c| c.market() == Market::Spot)
}

#[cfg(test)]
mod tests {
    use runner_manager_core::parse_section;
    use serde_json::json;

    use super::*;

    fn config(strategy: &str, purchase: &str) -> Ec2Config {
        parse_section(json!({
            "image": {"id": "ami-1"},
            "instance_types": ["a", "b"],
            "subnet_ids": ["x", "y"],
            "strategy": strategy,
            "purchase": purchase,
        }))
        .expect("a section")
    }

    fn words(candidates: &[Candidate]) -> Vec<String> {
        let word = |candidate: &Candidate| match candidate {
            Candidate::One {
                market,
                instance_type,
                subnet,
            } => format!(
                "{} {} {}",
                market.as_str(),
                instance_type.as_deref().unwrap_or("-"),
                subnet.as_deref().unwrap_or("-")
            ),
            Candidate::Fleet { market } => format!("{} fleet", market.as_str()),
        };
        candidates.iter().map(word).collect()
    }

    #[test]
    fn the_preferred_type_is_tried_in_every_subnet_first() {
        assert_eq!(
            words(&all(&config("ordered", "on_demand"))),
            [
                "on-demand a x",
                "on-demand a y",
                "on-demand b x",
                "on-demand b y"
            ]
        );
    }

    #[test]
    fn spot_comes_before_on_demand() {
        let ordered = words(&all(&config("ordered", "spot_then_on_demand")));
        assert_eq!(ordered.len(), 8);
        assert!(
            ordered[..4].iter().all(|word| word.starts_with("spot")),
            "{ordered:?}"
        );
        let fleets = words(&all(&config("lowest_price", "spot_then_on_demand")));
        assert_eq!(fleets, ["spot fleet", "on-demand fleet"]);
    }

    #[test]
    fn what_lacked_capacity_comes_last_within_its_market() {
        let all = all(&config("ordered", "spot_then_on_demand"));
        let droughts = Droughts::default();
        droughts.note(&all[0]);
        let ordered = words(&droughts.order(&all));
        assert_eq!(ordered[3], "spot a x", "{ordered:?}");
        assert_eq!(ordered[4], "on-demand a x", "{ordered:?}");
        droughts.clear(&all[0]);
        assert_eq!(droughts.order(&all), all);
    }

    #[test]
    fn without_types_and_subnets_the_template_decides() {
        let config: Ec2Config =
            parse_section(json!({"launch_template": {"id": "lt-1"}})).expect("a section");
        assert_eq!(words(&all(&config)), ["on-demand - -"]);
    }
}
