//! Faults built in on purpose: each breaks a promise that some test must then find broken (L10 of docs/reliability.md).
//!
//! Without the feature `canary` there are none, whatever the environment says. With it, the variable `EAP_CANARY` names
//! the one that sings; `.ci/canaries` runs each against the test that has to catch it.

#[cfg(all(feature = "canary", not(debug_assertions)))]
compile_error!("the feature `canary` breaks promises on purpose and is never part of a release");

/// Whether the fault of this name is to be made.
#[cfg(feature = "canary")]
pub(crate) fn sings(name: &str) -> bool {
    static SINGING: std::sync::OnceLock<Option<String>> = std::sync::OnceLock::new();
    SINGING.get_or_init(|| std::env::var("EAP_CANARY").ok()).as_deref() == Some(name)
}

/// No: there are no faults in this build.
#[cfg(not(feature = "canary"))]
pub(crate) const fn sings(_name: &str) -> bool {
    false
}
