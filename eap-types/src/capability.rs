//! The 26 capabilities that OpenCode knows by name; the set is open, and these are its common words.

/// Finding out what is needed.
pub const REQUIREMENTS_ANALYSIS: &str = "requirements_analysis";
/// Designing a system.
pub const SYSTEM_DESIGN: &str = "system_design";
/// Planning an architecture.
pub const ARCHITECTURE_PLANNING: &str = "architecture_planning";
/// Splitting work into tasks.
pub const TASK_DECOMPOSITION: &str = "task_decomposition";
/// Writing code.
pub const CODE_GENERATION: &str = "code_generation";
/// Writing tests.
pub const TEST_GENERATION: &str = "test_generation";
/// Running tests.
pub const TESTING: &str = "testing";
/// Writing documentation.
pub const DOCUMENTATION: &str = "documentation";
/// Changing the form of code and not its effect.
pub const REFACTORING: &str = "refactoring";
/// Judging code.
pub const CODE_REVIEW: &str = "code_review";
/// Looking for weaknesses.
pub const SECURITY_AUDIT: &str = "security_audit";
/// Finding out where time goes.
pub const PERFORMANCE_ANALYSIS: &str = "performance_analysis";
/// Comparing work with rules.
pub const COMPLIANCE_CHECK: &str = "compliance_check";
/// Finding faults.
pub const DEBUGGING: &str = "debugging";
/// Repairing faults.
pub const BUG_FIXING: &str = "bug_fixing";
/// Helping where something does not run.
pub const TROUBLESHOOTING: &str = "troubleshooting";
/// Finding the first cause of a fault.
pub const ROOT_CAUSE_ANALYSIS: &str = "root_cause_analysis";
/// Making things faster or cheaper.
pub const OPTIMIZATION: &str = "optimization";
/// Bringing software into service.
pub const DEPLOYMENT: &str = "deployment";
/// Setting software up.
pub const CONFIGURATION: &str = "configuration";
/// Watching software run.
pub const MONITORING: &str = "monitoring";
/// Adding or removing capacity.
pub const SCALING: &str = "scaling";
/// Directing work of several steps.
pub const WORKFLOW_ORCHESTRATION: &str = "workflow_orchestration";
/// Sharing out what is scarce.
pub const RESOURCE_ALLOCATION: &str = "resource_allocation";
/// Settling contradictions.
pub const CONFLICT_RESOLUTION: &str = "conflict_resolution";
/// Keeping track of how far work is.
pub const PROGRESS_TRACKING: &str = "progress_tracking";

/// All of them, in the order of the protocol (PROTOCOL.md section 1).
pub const ALL: [&str; 26] = [
    REQUIREMENTS_ANALYSIS,
    SYSTEM_DESIGN,
    ARCHITECTURE_PLANNING,
    TASK_DECOMPOSITION,
    CODE_GENERATION,
    TEST_GENERATION,
    TESTING,
    DOCUMENTATION,
    REFACTORING,
    CODE_REVIEW,
    SECURITY_AUDIT,
    PERFORMANCE_ANALYSIS,
    COMPLIANCE_CHECK,
    DEBUGGING,
    BUG_FIXING,
    TROUBLESHOOTING,
    ROOT_CAUSE_ANALYSIS,
    OPTIMIZATION,
    DEPLOYMENT,
    CONFIGURATION,
    MONITORING,
    SCALING,
    WORKFLOW_ORCHESTRATION,
    RESOURCE_ALLOCATION,
    CONFLICT_RESOLUTION,
    PROGRESS_TRACKING,
];

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use crate::Capability;

    #[test]
    fn every_constant_is_a_capability_and_none_comes_twice() {
        let read: BTreeSet<String> =
            super::ALL.iter().map(|word| word.parse::<Capability>().unwrap().to_string()).collect();
        assert_eq!(read, super::ALL.iter().map(ToString::to_string).collect());
        assert_eq!(read.len(), 26);
    }
}
