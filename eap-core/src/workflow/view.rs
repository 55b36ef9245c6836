//! A session as its watchers see it.

use eap_types::{SessionView, StepState, StepView};

use super::{Session, StepPhase, StepRun};

impl Session {
    /// The session as it stands, with every step of its chain, those to come included.
    ///
    /// An open step shows as running once its session was told that an agent took it. Whoever has its task at hand knows
    /// better whether it runs or waits for another attempt.
    #[must_use]
    pub fn view(&self) -> SessionView {
        let mut view = self.view_in_list();
        view.result = self.result().cloned();
        let begun = self.run.steps.iter().map(|step| self.step_view(step));
        let to_come = self.spec.workflow.chain().skip(self.run.steps.len()).map(|index| self.blank(index));
        view.steps = begun.chain(to_come).collect();
        view
    }

    /// The session as lists show it: without its result and without its steps.
    #[must_use]
    pub fn view_in_list(&self) -> SessionView {
        let spec = &self.spec;
        let mut view = SessionView::new(spec.id, spec.workflow.id.clone(), spec.created_at);
        view.agent_id = spec.agent_id.clone();
        view.status = self.status();
        view.end_time = self.run.phase.ended_at();
        view.error = self.run.phase.reason().map(str::to_owned);
        view
    }

    fn blank(&self, index: usize) -> StepView {
        let step = self.spec.workflow.step(index);
        StepView::new(step.task_id.clone(), step.name.clone())
    }

    fn step_view(&self, step: &StepRun) -> StepView {
        let mut view = self.blank(step.index);
        view.status = match &step.phase {
            StepPhase::Open if step.agent.is_some() => StepState::Running,
            StepPhase::Open => StepState::Queued,
            StepPhase::Completed { .. } => StepState::Completed,
            StepPhase::Failed { .. } => StepState::Failed,
            StepPhase::Cancelled { .. } => StepState::Cancelled,
        };
        view.eap_task_id = Some(step.task);
        view.agent_id = step.agent.clone();
        view.attempts = step.attempts;
        view.start_time = Some(step.started_at);
        view.end_time = step.ended_at();
        view.result = step.result().cloned();
        view.error = match &step.phase {
            StepPhase::Failed { reason, .. } => Some(reason.clone()),
            StepPhase::Open | StepPhase::Completed { .. } | StepPhase::Cancelled { .. } => None,
        };
        view
    }
}
