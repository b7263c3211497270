//! EC2's errors, mapped.

use std::time::Duration;

use aws_sdk_ec2::error::{DisplayErrorContext, ProvideErrorMetadata, SdkError};
use runner_manager_core::{Effect, Error, ErrorKind, Retry};

/// What kind of failure a code is
/// (<https://docs.aws.amazon.com/AWSEC2/latest/APIReference/errors-overview.html>). `status` is
/// that of HTTP.
pub(crate) fn kind(code: &str, status: u16) -> ErrorKind {
    match code {
        "RequestLimitExceeded"
        | "Throttling"
        | "ThrottlingException"
        | "ThrottledException"
        | "RequestThrottled"
        | "TooManyRequestsException"
        | "SlowDown"
        | "EC2ThrottledException" => ErrorKind::RateLimited,
        "InsufficientInstanceCapacity"
        | "InsufficientHostCapacity"
        | "InsufficientReservedInstanceCapacity"
        | "InsufficientCapacityOnHost"
        | "InsufficientCapacity"
        | "InsufficientFreeAddressesInSubnet"
        | "SpotMaxPriceTooLow"
        | "UnfulfillableCapacity"
        | "Unsupported" => ErrorKind::NoCapacity,
        "InstanceLimitExceeded"
        | "VcpuLimitExceeded"
        | "MaxSpotInstanceCountExceeded"
        | "MaxSpotFleetRequestCountExceeded"
        | "VolumeLimitExceeded"
        | "MaxIOPSLimitExceeded"
        | "NetworkInterfaceLimitExceeded"
        | "AddressLimitExceeded"
        | "PendingVerification"
        | "TagLimitExceeded" => ErrorKind::QuotaExceeded,
        "AuthFailure"
        | "Blocked"
        | "ExpiredToken"
        | "ExpiredTokenException"
        | "RequestExpired"
        | "InvalidClientTokenId"
        | "UnrecognizedClientException"
        | "IncompleteSignature"
        | "InvalidAccessKeyId"
        | "SignatureDoesNotMatch"
        | "MissingAuthenticationToken"
        | "NotAuthorized" => ErrorKind::Unauthenticated,
        "UnauthorizedOperation"
        | "AccessDenied"
        | "AccessDeniedException"
        | "OptInRequired"
        | "OperationNotPermitted" => ErrorKind::PermissionDenied,
        "IdempotentParameterMismatch" | "IdempotentInstanceTerminated" => ErrorKind::AlreadyExists,
        _ if is_not_found(code) => ErrorKind::NotFound,
        _ if code.ends_with(".AlreadyExists") || code.ends_with(".AlreadyExistsException") => {
            ErrorKind::AlreadyExists
        }
        _ if code.ends_with(".Duplicate") => ErrorKind::AlreadyExists,
        _ if is_request(code) => ErrorKind::InvalidRequest,
        _ => match status {
            401 => ErrorKind::Unauthenticated,
            403 => ErrorKind::PermissionDenied,
            429 => ErrorKind::RateLimited,
            500.. => ErrorKind::Unreachable,
            400.. => ErrorKind::InvalidRequest,
            _ => ErrorKind::BadAnswer,
        },
    }
}

fn is_not_found(code: &str) -> bool {
    code.ends_with(".NotFound")
        || code.ends_with(".NotFoundException")
        || matches!(code, "ParameterNotFound" | "ParameterVersionNotFound")
}

fn is_request(code: &str) -> bool {
    [
        "Invalid",
        "Missing",
        "Malformed",
        "Unknown",
        "IncorrectState",
    ]
    .iter()
    .any(|start| code.starts_with(start))
        || code.ends_with(".Malformed")
        || matches!(code, "DependencyViolation" | "IncorrectInstanceState")
}

/// Whether spot gives way to on demand for this code.
pub(crate) fn is_spot_shortage(code: &str) -> bool {
    matches!(
        code,
        "InsufficientInstanceCapacity"
            | "UnfulfillableCapacity"
            | "SpotMaxPriceTooLow"
            | "MaxSpotInstanceCountExceeded"
            | "MaxSpotFleetRequestCountExceeded"
    )
}

/// How long to wait before the same call may be worth another try; `None` when it gives the
/// same answer, or when the budget of calls says when, as EC2 does not.
fn pause(kind: ErrorKind) -> Option<Duration> {
    match kind {
        ErrorKind::Unreachable | ErrorKind::TimedOut => Some(Duration::from_secs(1)),
        ErrorKind::NoCapacity => Some(Duration::from_secs(60)),
        ErrorKind::QuotaExceeded => Some(Duration::from_secs(300)),
        ErrorKind::Unauthenticated => Some(Duration::from_secs(30)),
        _ => None,
    }
}

/// What a user can do about it.
fn advice(kind: ErrorKind, code: &str) -> Option<&'static str> {
    Some(match (kind, code) {
        (ErrorKind::Unauthenticated, _) => {
            "the credentials are missing, wrong or expired; renew what the chain of credentials finds"
        }
        (ErrorKind::PermissionDenied, _) => {
            "the credentials may not do this; compare their policy with docs/backends/ec2.md"
        }
        (ErrorKind::QuotaExceeded, _) => "a quota of the account is used up; ask for a higher one",
        (_, "SpotMaxPriceTooLow") => "spot costs more than `spot_max_price`",
        (_, "InsufficientFreeAddressesInSubnet") => "the subnet has no free address; add another",
        (ErrorKind::NoCapacity, _) => {
            "EC2 has no capacity for this just now; more instance types or subnets help"
        }
        (ErrorKind::RateLimited, _) => "EC2 asks for fewer calls",
        _ => return None,
    })
}

/// An error of a code, as EC2 gives them for calls and within the answers of fleets.
pub(crate) fn of_code(code: &str, message: &str, status: u16) -> Error {
    let kind = kind(code, status);
    let text = match advice(kind, code) {
        Some(advice) => advice.to_owned(),
        None => format!("EC2 refuses: {message}"),
    };
    let error = Error::new(kind, text).with_context("code", code);
    let error = match pause(kind) {
        Some(pause) => error.with_retry(Retry::After(pause)),
        None => error,
    };
    // A refusal says that nothing was done; a failure of the server does not.
    match kind {
        ErrorKind::Unreachable => error.with_effect(Effect::Unknown),
        _ => error,
    }
}

/// An error of the SDK.
pub(crate) fn of_sdk<E>(error: SdkError<E>) -> Error
where
    E: ProvideErrorMetadata + std::error::Error + Send + Sync + 'static,
{
    let transient = |kind, text: &str| {
        let pause = pause(kind).unwrap_or_default();
        Error::new(kind, text).with_retry(Retry::After(pause))
    };
    match error {
        SdkError::ServiceError(answer) => {
            let status = answer.raw().status().as_u16();
            let meta = answer.err().meta();
            let (code, message) = (meta.code().unwrap_or(""), meta.message().unwrap_or(""));
            of_code(code, message, status)
        }
        SdkError::TimeoutError(_) => transient(ErrorKind::TimedOut, "EC2 gave no answer in time")
            .with_effect(Effect::Unknown),
        SdkError::DispatchFailure(cause) if cause.is_timeout() => {
            transient(ErrorKind::TimedOut, "EC2 could not be reached in time")
                .with_effect(Effect::Unknown)
        }
        SdkError::DispatchFailure(cause) => {
            let text = match cause.as_connector_error() {
                Some(cause) => DisplayErrorContext(cause).to_string(),
                None => "no cause is known".to_owned(),
            };
            // The chain of credentials fails before anything is sent.
            if text.contains("redentials") {
                return of_code("NoCredentials", &text, 401).with_context("cause", text);
            }
            transient(ErrorKind::Unreachable, "EC2 cannot be reached")
                .with_effect(Effect::Unknown)
                .with_context("cause", text)
        }
        SdkError::ResponseError(cause) => {
            let status = cause.raw().status().as_u16();
            let kind = if status >= 500 {
                ErrorKind::Unreachable
            } else {
                ErrorKind::BadAnswer
            };
            transient(kind, "EC2's answer is cut short, or no answer of EC2's")
                .with_effect(Effect::Unknown)
                .with_context("status", status)
        }
        other => Error::new(
            ErrorKind::Unauthenticated,
            "no request could be made; see whether there are credentials and a region",
        )
        .with_context("cause", DisplayErrorContext(&other)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_are_mapped() {
        use ErrorKind as K;
        for (code, status, expected) in [
            ("RequestLimitExceeded", 503, K::RateLimited),
            ("InsufficientInstanceCapacity", 500, K::NoCapacity),
            ("SpotMaxPriceTooLow", 400, K::NoCapacity),
            ("MaxSpotInstanceCountExceeded", 400, K::QuotaExceeded),
            ("VcpuLimitExceeded", 400, K::QuotaExceeded),
            ("InvalidInstanceID.NotFound", 400, K::NotFound),
            ("InvalidAMIID.NotFound", 400, K::NotFound),
            ("InvalidGroup.Duplicate", 400, K::AlreadyExists),
            (
                "InvalidLaunchTemplateName.AlreadyExistsException",
                400,
                K::AlreadyExists,
            ),
            ("InvalidAMIID.Malformed", 400, K::InvalidRequest),
            ("InvalidParameterValue", 400, K::InvalidRequest),
            ("RequestExpired", 400, K::Unauthenticated),
            ("AuthFailure", 401, K::Unauthenticated),
            ("UnauthorizedOperation", 403, K::PermissionDenied),
            ("IdempotentParameterMismatch", 400, K::AlreadyExists),
            ("InternalError", 500, K::Unreachable),
            ("Unavailable", 503, K::Unreachable),
            ("", 429, K::RateLimited),
            ("SomethingNew", 400, K::InvalidRequest),
        ] {
            assert_eq!(kind(code, status), expected, "{code} {status}");
        }
    }

    #[test]
    fn spot_gives_way_to_on_demand_when_it_is_scarce_dear_or_used_up() {
        for code in [
            "InsufficientInstanceCapacity",
            "SpotMaxPriceTooLow",
            "MaxSpotInstanceCountExceeded",
        ] {
            assert!(is_spot_shortage(code), "{code}");
        }
        assert!(!is_spot_shortage("InvalidAMIID.NotFound"));
    }

    #[test]
    fn a_refusal_changed_nothing_and_a_failure_may_have() {
        assert_eq!(
            of_code("InvalidAMIID.NotFound", "", 400).effect(),
            Effect::None
        );
        assert_eq!(of_code("InternalError", "", 500).effect(), Effect::Unknown);
        let scarce = of_code("InsufficientInstanceCapacity", "", 500);
        assert!(matches!(scarce.retry(), Retry::After(_)));
        assert_eq!(
            of_code("InvalidAMIID.NotFound", "", 400).retry(),
            Retry::Never
        );
    }
}
