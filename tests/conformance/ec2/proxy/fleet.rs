//! `CreateFleet` of the type `instant`, which moto has only in part: each choice is tried as a
//! launch, so that what goes wrong with launches goes wrong here too.

use std::sync::Arc;

use super::fault::What;
use super::request::{Answer, Call};
use super::{Shared, fault, launch, xml};

pub(super) async fn create(shared: &Arc<Shared>, call: &Call) -> Answer {
    launch::once(shared, call, async |call| try_all(shared, call).await).await
}

const BASE: &str = "LaunchTemplateConfigs.1.LaunchTemplateSpecification.";

async fn try_all(shared: &Arc<Shared>, call: &Call) -> Answer {
    if call.value("Type") != Some("instant") {
        return Answer::error(call, 400, "InvalidParameterValue");
    }
    let mut errors = String::new();
    for index in 1.. {
        let start = format!("LaunchTemplateConfigs.1.Overrides.{index}.");
        let Some(kind) = call.value(&format!("{start}InstanceType")) else {
            break;
        };
        let subnet = call.value(&format!("{start}SubnetId"));
        let one = choice(call, kind, subnet);
        let planted = shared.with(&call.prefix, |site| fault::take(&mut site.rules, &one));
        let answer = match planted {
            Some(What::Refuse(status, code)) => Answer::error(&one, status, code),
            _ => match launch::refusal(shared, &one).await {
                Some(refusal) => refusal,
                None => shared.forward(&one).await,
            },
        };
        match xml::text(&answer.body, "instanceId") {
            Some(id) if answer.status == 200 => return success(id, kind),
            _ => {
                let code = xml::text(&answer.body, "Code").unwrap_or("Unknown");
                if code.starts_with("InvalidLaunchTemplate") {
                    return answer;
                }
                errors += &format!(
                    "<item><errorCode>{code}</errorCode><errorMessage>planted</errorMessage></item>"
                );
            }
        }
    }
    Answer::xml(
        200,
        format!(
            "<CreateFleetResponse><requestId>r</requestId><fleetId>fleet-0</fleetId>\
         <errorSet>{errors}</errorSet><fleetInstanceSet/></CreateFleetResponse>"
        ),
    )
}

fn success(id: &str, kind: &str) -> Answer {
    Answer::xml(
        200,
        format!(
            "<CreateFleetResponse><requestId>r</requestId><fleetId>fleet-0</fleetId><errorSet/>\
         <fleetInstanceSet><item><instanceIds><item>{id}</item></instanceIds>\
         <instanceType>{kind}</instanceType></item></fleetInstanceSet></CreateFleetResponse>"
        ),
    )
}

/// One choice of a fleet, as a launch.
fn choice(call: &Call, kind: &str, subnet: Option<&str>) -> Call {
    let value = |key: &str| {
        call.value(&format!("{BASE}{key}"))
            .unwrap_or_default()
            .to_owned()
    };
    let mut form = vec![
        ("Action".to_owned(), "RunInstances".to_owned()),
        ("Version".to_owned(), "2016-11-15".to_owned()),
        ("MinCount".to_owned(), "1".to_owned()),
        ("MaxCount".to_owned(), "1".to_owned()),
        ("InstanceType".to_owned(), kind.to_owned()),
        (
            "LaunchTemplate.LaunchTemplateName".to_owned(),
            value("LaunchTemplateName"),
        ),
        ("LaunchTemplate.Version".to_owned(), value("Version")),
        (
            "UserData".to_owned(),
            value("LaunchTemplateSpecificationUserData"),
        ),
    ];
    form.extend(subnet.map(|subnet| ("SubnetId".to_owned(), subnet.to_owned())));
    if call.value("TargetCapacitySpecification.DefaultTargetCapacityType") == Some("spot") {
        form.push((
            "InstanceMarketOptions.MarketType".to_owned(),
            "spot".to_owned(),
        ));
    }
    let tags = call
        .form
        .iter()
        .filter(|(key, _)| key.starts_with("TagSpecification."));
    form.extend(tags.cloned());
    call.with_form(form)
}
