//! What an operator key may do (PROTOCOL.md section 5).

use std::collections::BTreeSet;

use crate::macros::words;

words! {
    /// One thing that an operator key may do.
    pub enum Scope {
        /// Submit tasks; requeue and discard dead ones.
        TasksSubmit = "tasks:submit",
        /// Read tasks, their history and the events.
        TasksRead = "tasks:read",
        /// Cancel tasks.
        TasksCancel = "tasks:cancel",
        /// Read results and artifacts.
        ResultsRead = "results:read",
        /// Read agents and figures for monitoring.
        AgentsRead = "agents:read",
        /// Report as the agents of AgentKit do.
        AgentsReport = "agents:report",
        /// Administer agents.
        AgentsAdmin = "agents:admin",
        /// Administer keys and registration secrets.
        KeysAdmin = "keys:admin",
    }
}

words! {
    /// A name for scopes that are usually given together.
    pub enum ScopePreset {
        /// Sees everything and changes nothing.
        Read = "read",
        /// Hands in tasks, follows them and cancels them.
        Submit = "submit",
        /// May do everything.
        Admin = "admin",
    }
}

impl ScopePreset {
    /// The scopes it stands for.
    #[must_use]
    pub fn scopes(self) -> BTreeSet<Scope> {
        let scopes: &[Scope] = match self {
            Self::Read => &[Scope::TasksRead, Scope::ResultsRead, Scope::AgentsRead],
            Self::Submit => {
                &[Scope::TasksSubmit, Scope::TasksCancel, Scope::TasksRead, Scope::ResultsRead, Scope::AgentsRead]
            }
            Self::Admin => Scope::ALL,
        };
        scopes.iter().copied().collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_scope_has_one_spelling_everywhere() {
        for scope in Scope::ALL {
            assert_eq!(scope.as_str().parse(), Ok(*scope));
            assert_eq!(serde_json::to_string(scope).unwrap(), format!("\"{scope}\""));
        }
        let unknown = "tasks:write".parse::<Scope>().unwrap_err();
        assert!(unknown.expected.contains("keys:admin"), "the refusal names the words: {unknown}");
    }

    #[test]
    fn each_preset_may_do_what_the_one_before_may() {
        let [read, submit, admin] =
            [ScopePreset::Read, ScopePreset::Submit, ScopePreset::Admin].map(ScopePreset::scopes);
        assert!(read.is_subset(&submit) && submit.is_subset(&admin));
        assert!(!read.contains(&Scope::TasksCancel) && !submit.contains(&Scope::KeysAdmin));
    }
}
