//! What goes wrong.

/// What goes wrong between a backend and its cloud.
///
/// "Once" is the next matching call; "until mended" is every one until
/// [`Harness::mend`](crate::Harness::mend).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Fault {
    /// A launch is refused and has no effect. Once.
    Launch,
    /// A launch is refused after its first parts (a port, a folder) were made. Once.
    LaunchMidway,
    /// A launch takes effect, and its answer is an error. Once.
    LaunchAfterEffect,
    /// A launch takes effect, and its answer never comes. Once.
    LaunchHangs,
    /// The quota is full: launches are refused in the cloud's own words for that. Until mended.
    Quota,
    /// A termination is refused and has no effect. Once.
    Terminate,
    /// A termination is refused midway: some of what belongs to the instance is gone, some is
    /// not. Once.
    TerminateMidway,
    /// A termination takes effect, and its answer is an error. Once.
    TerminateAfterEffect,
    /// Lists are refused. Until mended.
    List,
    /// Lists hold only some of what exists, and do not say so. Until mended.
    ListTruncated,
    /// Lists answer what they would have answered when this was planted. Until mended.
    ListStale,
    /// Every request is answered with "too many requests". Until mended.
    Throttle,
    /// Every request is answered with an internal error of the cloud. Until mended.
    Down,
    /// No request is answered. Until mended.
    Hang,
    /// Guests cannot be asked, for no reason that says anything about them: access is denied,
    /// the way in is broken. Until mended.
    Guest,
    /// Guests cannot be reached: the connection is refused, there is no route. Until mended.
    GuestUnreachable,
    /// Guests take the question and do not answer. Until mended.
    GuestHangs,
}
