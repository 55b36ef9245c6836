//! Whether a workflow can run: every problem of it at once, before anything is kept or started.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Deref;

use eap_types::limits::MAX_WORKFLOW_BYTES;
use eap_types::{Capability, FieldProblem, StepId, WorkflowDefinition, WorkflowStep, from_json};
use serde::{Deserialize, Serialize};

/// Who is there to do the steps.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Crew {
    /// What the registered agents of the tenant can do, all together.
    pub capabilities: BTreeSet<Capability>,
    /// Whether the workflow is started for one agent, which then does the steps that name no capability.
    pub has_agent: bool,
}

/// A workflow whose steps form one chain, from the first of the list to one that nothing follows.
///
/// What a store kept is taken at its word, so that a rule that joins later strands no session.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct CheckedWorkflow(WorkflowDefinition);

impl CheckedWorkflow {
    /// Checks a workflow that is to be kept; with a crew, also whether each step could be done now.
    ///
    /// It begins with the first step of the list. A capability that nobody has is a refusal and no warning: the session would
    /// stand still at that step without a word.
    ///
    /// # Errors
    ///
    /// Every problem that there is, in the order of the list.
    pub fn check(workflow: WorkflowDefinition, crew: Option<&Crew>) -> Result<Self, Vec<WorkflowProblem>> {
        let mut problems = bounds(&workflow);
        problems.extend(links(&workflow.tasks));
        if let Some(crew) = crew {
            problems.extend(hands(&workflow.tasks, crew));
        }
        if problems.is_empty() { Ok(Self(workflow)) } else { Err(problems) }
    }

    /// The step at this place of the list; places come from the workflow itself.
    pub(super) fn step(&self, index: usize) -> &WorkflowStep {
        &self.tasks[index]
    }

    /// The place of the step that follows the one at `index`; `None` after the last of the chain.
    pub(super) fn following(&self, index: usize) -> Option<usize> {
        let next = self.step(index).next_task_id.as_ref()?;
        Some(self.position(next).expect("a checked workflow has every step that it names"))
    }

    /// The places of the chain, in the order in which they are done.
    pub(super) fn chain(&self) -> impl Iterator<Item = usize> + '_ {
        std::iter::successors(Some(0), |&index| self.following(index)).take(self.tasks.len())
    }
}

impl Deref for CheckedWorkflow {
    type Target = WorkflowDefinition;

    fn deref(&self) -> &WorkflowDefinition {
        &self.0
    }
}

impl From<CheckedWorkflow> for WorkflowDefinition {
    fn from(checked: CheckedWorkflow) -> Self {
        checked.0
    }
}

/// What keeps a workflow from being run.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum WorkflowProblem {
    /// A field is out of its bounds; reading a body finds the same.
    #[error("{0}")]
    Field(FieldProblem),
    /// It is larger than a workflow may be.
    #[error("the workflow has {bytes} bytes, and may have {most}")]
    TooLarge {
        /// How large it is.
        bytes: usize,
        /// How large it may be.
        most: usize,
    },
    /// Two steps have the same id.
    #[error("step {step} is there already, as number {first} of the list")]
    Duplicate {
        /// The place of the second in the list.
        index: usize,
        /// The id.
        step: StepId,
        /// The place of the first, counted from 0.
        first: usize,
    },
    /// A step is followed by one that is not there.
    #[error("step {step} is followed by {next}, which is not there")]
    UnknownNext {
        /// Its place in the list.
        index: usize,
        /// The step.
        step: StepId,
        /// The one that it names.
        next: StepId,
    },
    /// Steps follow each other in a circle.
    #[error("steps follow each other in a circle: {}", circle(steps))]
    Cycle {
        /// The place of the step that leads back to the first of them.
        index: usize,
        /// The steps of the circle, each once.
        steps: Vec<StepId>,
    },
    /// No way leads to a step from the first one.
    #[error("step {step} is never reached from the first step of the list")]
    Unreachable {
        /// Its place in the list.
        index: usize,
        /// The step.
        step: StepId,
    },
    /// No agent has the capability that a step asks for.
    #[error("no agent has the capability {capability}, which step {step} asks for")]
    MissingCapability {
        /// Its place in the list.
        index: usize,
        /// The step.
        step: StepId,
        /// What it asks for.
        capability: Capability,
    },
    /// A step asks for no capability, and there is no agent that the workflow is started for.
    #[error("step {step} asks for no capability, and the workflow is started for no agent")]
    Nobody {
        /// Its place in the list.
        index: usize,
        /// The step.
        step: StepId,
    },
}

impl WorkflowProblem {
    /// The same for an answer; `at` is where the workflow stands in what was sent, as in `body.workflowDefinition`.
    #[must_use]
    pub fn to_field(&self, at: &str) -> FieldProblem {
        let member = |index: &usize, member: &str| format!("{at}.tasks[{index}].{member}");
        let (field, kind) = match self {
            Self::Field(problem) => {
                let rest = problem.field.strip_prefix("body").unwrap_or(&problem.field);
                return FieldProblem::new(format!("{at}{rest}"), problem.kind.as_str(), problem.message.as_str());
            }
            Self::TooLarge { .. } => (at.to_owned(), "value_error"),
            Self::Duplicate { index, .. } => (member(index, "taskId"), "duplicate"),
            Self::UnknownNext { index, .. } | Self::Cycle { index, .. } => (member(index, "nextTaskId"), "value_error"),
            Self::Unreachable { index, .. } => (member(index, "taskId"), "value_error"),
            Self::MissingCapability { index, .. } => (member(index, "agentCapability"), "value_error"),
            Self::Nobody { index, .. } => (member(index, "agentCapability"), "missing"),
        };
        FieldProblem::new(field, kind, self.to_string())
    }
}

fn circle(steps: &[StepId]) -> String {
    let around = steps.iter().chain(steps.first());
    around.map(StepId::as_str).collect::<Vec<_>>().join(" -> ")
}

/// A workflow that was made in code has passed none of the checks that reading one makes.
fn bounds(workflow: &WorkflowDefinition) -> Vec<WorkflowProblem> {
    let text = serde_json::to_vec(workflow).expect("a workflow has a JSON form");
    let mut problems = Vec::new();
    if text.len() > MAX_WORKFLOW_BYTES {
        problems.push(WorkflowProblem::TooLarge { bytes: text.len(), most: MAX_WORKFLOW_BYTES });
    }
    if let Err(refusal) = from_json::<WorkflowDefinition>(&text) {
        problems.extend(refusal.into_problems().into_iter().map(WorkflowProblem::Field));
    }
    problems
}

/// Each step leads to at most one other, so everything follows from one walk along those links.
fn links(steps: &[WorkflowStep]) -> Vec<WorkflowProblem> {
    let mut problems = Vec::new();
    let mut places: BTreeMap<&StepId, usize> = BTreeMap::new();
    let mut is_repeated = vec![false; steps.len()];
    for (index, step) in steps.iter().enumerate() {
        match places.get(&step.task_id) {
            None => {
                places.insert(&step.task_id, index);
            }
            Some(&first) => {
                is_repeated[index] = true;
                problems.push(WorkflowProblem::Duplicate { index, step: step.task_id.clone(), first });
            }
        }
    }
    for (index, step) in steps.iter().enumerate() {
        if let Some(next) = step.next_task_id.as_ref().filter(|next| !places.contains_key(next)) {
            let (step, next) = (step.task_id.clone(), next.clone());
            problems.push(WorkflowProblem::UnknownNext { index, step, next });
        }
    }

    let following = |index: usize| places.get(steps[index].next_task_id.as_ref()?).copied();
    // By which walk each step was met: a walk that meets itself is in a circle, one that meets an older walk learns nothing.
    let mut met_by: Vec<Option<usize>> = vec![None; steps.len()];
    for start in 0..steps.len() {
        let (mut at, mut before) = (Some(start), start);
        while let Some(index) = at.filter(|&index| met_by[index].is_none()) {
            met_by[index] = Some(start);
            (before, at) = (index, following(index));
        }
        if let Some(back) = at.filter(|&index| met_by[index] == Some(start)) {
            let around = std::iter::successors(Some(back), |&index| following(index).filter(|&next| next != back));
            let steps = around.map(|index| steps[index].task_id.clone()).collect();
            problems.push(WorkflowProblem::Cycle { index: before, steps });
        }
    }
    // The first walk began at the first step. A second step of one id is named already.
    for (index, step) in steps.iter().enumerate() {
        if met_by[index] != Some(0) && !is_repeated[index] {
            problems.push(WorkflowProblem::Unreachable { index, step: step.task_id.clone() });
        }
    }
    problems
}

/// Whether there is somebody for each step.
fn hands(steps: &[WorkflowStep], crew: &Crew) -> Vec<WorkflowProblem> {
    let problem = |(index, step): (usize, &WorkflowStep)| {
        let id = step.task_id.clone();
        match &step.agent_capability {
            None if crew.has_agent => None,
            None => Some(WorkflowProblem::Nobody { index, step: id }),
            Some(capability) if crew.capabilities.contains(capability) => None,
            Some(capability) => {
                Some(WorkflowProblem::MissingCapability { index, step: id, capability: capability.clone() })
            }
        }
    };
    steps.iter().enumerate().filter_map(problem).collect()
}
