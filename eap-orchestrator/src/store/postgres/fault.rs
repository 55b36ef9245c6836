//! What PostgreSQL's errors mean for the caller.

use std::error::Error;
use std::sync::Arc;

use crate::store::{BoxError, StoreError};

/// What the driver puts in front of the server's own words.
const SQLX_SAYS: &str = "error returned from database: ";

/// A failure of the back end. It can be told to everyone it concerns, which [`StoreError`] cannot.
#[derive(Clone, Debug)]
pub(super) struct Fault {
    kind: FaultKind,
    cause: Arc<dyn Error + Send + Sync>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum FaultKind {
    /// Another transaction was in the way, and this one was undone: do it again.
    Crossed,
    /// It took too long: a statement, or the wait for a lock.
    Late,
    /// The server cannot be reached, or let go of the connection.
    Lost,
    /// The server has no room on its disk.
    Full,
    /// This store was closed, or its pool.
    Closed,
    /// Anything else: a statement that is refused, a record that does not parse.
    Other,
}

impl Fault {
    /// What was read is not what was written: a record that does not parse, a value out of range.
    pub(super) fn nonsense(cause: impl Into<BoxError>) -> Self {
        Self::of(FaultKind::Other, cause)
    }

    /// Another transaction came in between, or has to: it may be tried again.
    pub(super) fn crossed(cause: impl Into<BoxError>) -> Self {
        Self::of(FaultKind::Crossed, cause)
    }

    /// No answer came in time.
    pub(super) fn late() -> Self {
        Self::of(FaultKind::Late, "the database did not answer in time")
    }

    /// Nobody answers where the server should be.
    pub(super) fn silent() -> Self {
        Self::of(FaultKind::Lost, "the server does not answer")
    }

    /// No connection was to be had in time.
    pub(super) fn unreached() -> Self {
        Self::of(FaultKind::Lost, "the pool gave no connection in time")
    }

    /// A transaction did not begin: whatever the reason, nobody knows any more what the connection is in the middle of.
    pub(super) fn of_begin(error: sqlx::Error) -> Self {
        let Self { kind, cause } = Self::from(error);
        Self { kind: if kind == FaultKind::Late { kind } else { FaultKind::Lost }, cause }
    }

    /// The store was closed.
    pub(super) fn closed() -> Self {
        Self::of(FaultKind::Closed, "the store is closed")
    }

    fn of(kind: FaultKind, cause: impl Into<BoxError>) -> Self {
        Self { kind, cause: Arc::from(cause.into()) }
    }

    /// What it means for an opening store: what the server will not allow whenever it is asked is a refusal.
    pub(super) fn at_start(self) -> StoreError {
        let told = |what: String| what.trim_start_matches(SQLX_SAYS).to_owned();
        let reason = match self.cause.downcast_ref::<sqlx::Error>() {
            Some(sqlx::Error::Database(error)) => match error.code().as_deref() {
                // Not this role, not with this password, not from here; and no such database.
                Some("28000" | "28P01" | "3D000") => told(error.to_string()),
                Some("42501") => format!(
                    "{}: give this role the right to create the schema, or make the schema and give it to this role",
                    told(error.to_string())
                ),
                _ => return self.into(),
            },
            Some(sqlx::Error::Tls(error)) => format!("no encrypted connection to the server: {error}"),
            // A certificate that is not trusted, or not for this host.
            Some(sqlx::Error::Io(error)) if error.kind() == std::io::ErrorKind::InvalidData => {
                format!("no encrypted connection to the server: {error}")
            }
            Some(sqlx::Error::Configuration(error)) => format!("the settings of the connection do not fit: {error}"),
            _ => return self.into(),
        };
        StoreError::Refused { reason }
    }

    /// Whether the same transaction may succeed when it is done again.
    pub(super) fn is_crossed(&self) -> bool {
        self.kind == FaultKind::Crossed
    }

    /// Whether something took too long.
    pub(super) fn is_late(&self) -> bool {
        self.kind == FaultKind::Late
    }

    /// Whether the connection is of no more use.
    pub(super) fn is_lost(&self) -> bool {
        self.kind == FaultKind::Lost
    }

    /// Whether the cause may lie in one request, so that its neighbours deserve a try of their own.
    pub(super) fn may_be_of_one_request(&self) -> bool {
        match self.kind {
            FaultKind::Crossed | FaultKind::Late | FaultKind::Other => true,
            FaultKind::Lost | FaultKind::Full | FaultKind::Closed => false,
        }
    }
}

/// What an SQLSTATE says, by its class but for a few.
fn kind_of(code: &str) -> FaultKind {
    match code {
        // Serialization failure, deadlock; and a key that another transaction took since it was looked for.
        "40001" | "40P01" | "23505" => FaultKind::Crossed,
        // Statement timeout (or somebody cancelled it), lock timeout.
        "57014" | "55P03" => FaultKind::Late,
        "53100" => FaultKind::Full,
        // Too many connections.
        "53300" => FaultKind::Lost,
        // Connections that broke or are in another state than we believe (in a transaction that idled for too long, on a
        // standby that takes no writes), servers that stop or start, files that cannot be read, bugs.
        _ if ["08", "25", "57", "58", "XX"].iter().any(|class| code.starts_with(class)) => FaultKind::Lost,
        _ => FaultKind::Other,
    }
}

impl From<sqlx::Error> for Fault {
    fn from(error: sqlx::Error) -> Self {
        let kind = match &error {
            sqlx::Error::Database(error) => error.code().map_or(FaultKind::Other, |code| kind_of(&code)),
            sqlx::Error::PoolClosed => FaultKind::Closed,
            sqlx::Error::Io(_)
            | sqlx::Error::Tls(_)
            | sqlx::Error::Protocol(_)
            | sqlx::Error::PoolTimedOut
            | sqlx::Error::WorkerCrashed
            | sqlx::Error::BeginFailed => FaultKind::Lost,
            _ => FaultKind::Other,
        };
        Self { kind, cause: Arc::new(error) }
    }
}

impl From<serde_json::Error> for Fault {
    fn from(error: serde_json::Error) -> Self {
        Self::nonsense(error)
    }
}

impl From<Fault> for StoreError {
    fn from(fault: Fault) -> Self {
        let source: BoxError = Box::new(fault.cause);
        match fault.kind {
            FaultKind::Full => Self::Full { source },
            FaultKind::Closed => Self::Closed,
            FaultKind::Crossed | FaultKind::Late | FaultKind::Lost | FaultKind::Other => Self::Unavailable { source },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn states_are_told_by_what_can_be_done_next() {
        for (code, kind) in [
            ("40001", FaultKind::Crossed),
            ("23505", FaultKind::Crossed),
            ("57014", FaultKind::Late),
            ("55P03", FaultKind::Late),
            ("57P01", FaultKind::Lost),
            ("08006", FaultKind::Lost),
            ("53300", FaultKind::Lost),
            ("25001", FaultKind::Lost),
            ("25006", FaultKind::Lost),
            ("25P02", FaultKind::Lost),
            ("53100", FaultKind::Full),
            ("42P01", FaultKind::Other),
            ("22021", FaultKind::Other),
        ] {
            assert_eq!(kind_of(code), kind, "{code}");
        }
    }

    #[test]
    fn only_what_the_server_will_not_allow_is_a_refusal_at_the_start() {
        let refused = Fault::from(sqlx::Error::Tls("the server has no TLS".into())).at_start();
        assert!(matches!(refused, StoreError::Refused { .. }), "{refused:?}");
        let away = Fault::from(sqlx::Error::PoolTimedOut).at_start();
        assert!(matches!(away, StoreError::Unavailable { .. }), "{away:?}");
    }

    #[test]
    fn whatever_the_server_says_the_store_goes_on() {
        for kind in [FaultKind::Crossed, FaultKind::Late, FaultKind::Lost, FaultKind::Other] {
            assert!(matches!(StoreError::from(Fault::of(kind, "a cause")), StoreError::Unavailable { .. }), "{kind:?}");
        }
        assert!(matches!(StoreError::from(Fault::of(FaultKind::Full, "a cause")), StoreError::Full { .. }));
        assert!(matches!(StoreError::from(Fault::closed()), StoreError::Closed));
    }
}
