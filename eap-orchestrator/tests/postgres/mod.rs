//! What the tests of the PostgreSQL store share: a schema of their own on the server of the process.

pub(crate) use eap_tests::postgres::Schema;
use eap_tests::postgres::server;

/// Whether there is a server to test with.
pub(crate) fn is_there() -> bool {
    server().is_some()
}
