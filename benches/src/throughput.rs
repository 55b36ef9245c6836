//! P1 and P2: tasks a second from end to end, every acknowledged write on disk.

use std::time::Duration;

use crate::host::{Host, Side};
use crate::load::Load;
use crate::report::{Floor, Report};
use crate::{BoxError, Common};

/// How the calls are made.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Shape {
    pub(crate) measure: &'static str,
    pub(crate) submitters: usize,
    pub(crate) agents: usize,
    pub(crate) per_submit: usize,
    pub(crate) per_lease: usize,
    pub(crate) window: usize,
    /// Tasks a second, and the share of the bare program's, that docs/performance.md asks for at least.
    pub(crate) floors: (f64, f64),
    /// Whether ours is measured over WebSockets as well.
    pub(crate) over_sockets: bool,
}

/// What runs over WebSockets are called.
const SOCKETS: &str = "ours_websocket";

/// One task per request: submit, lease, result.
pub(crate) const P1: Shape = Shape {
    measure: "P1",
    submitters: 64,
    agents: 64,
    per_submit: 1,
    per_lease: 1,
    window: 512,
    floors: (9_000.0, 0.75),
    over_sockets: false,
};

/// Batched submit, lease and results.
pub(crate) const P2: Shape = Shape {
    measure: "P2",
    submitters: 8,
    agents: 16,
    per_submit: 64,
    per_lease: 64,
    window: 4096,
    floors: (20_000.0, 0.6),
    over_sockets: true,
};

/// The bare program and ours by turns, each over a new database.
pub(crate) async fn measure(shape: &Shape, common: &Common, report: &mut Report) -> Result<(), BoxError> {
    let Shape { measure, submitters, agents, per_submit, per_lease, window, floors, .. } = *shape;
    let measured = common.measured(5.0);
    let warm_up = measured.min(Duration::from_secs(1));
    let load = Load { submitters, agents, per_submit, per_lease, window, over_sockets: false, warm_up, measured };
    let sockets = Load { over_sockets: true, ..load };
    for run in report.runs() {
        for side in common.sides([Side::Bare, Side::BareTogether, Side::Ours]) {
            let folder = tempfile::tempdir()?;
            let shown = load.run(Host::start(side, folder.path()).await?).await?;
            report.add(measure, side.name(), run, &load, &shown)?;
            if side == Side::Ours && shape.over_sockets {
                let folder = tempfile::tempdir()?;
                let shown = sockets.run(Host::start(side, folder.path()).await?).await?;
                report.add(measure, SOCKETS, run, &sockets, &shown)?;
            }
        }
    }
    let ours = report.spread(measure, "ours", "tasks_per_second");
    let bare = report.spread(measure, "bare", "tasks_per_second");
    let together = report.spread(measure, "bare_together", "tasks_per_second");
    report.floor(Floor::at_least(measure, "tasks/s", floors.0, ours));
    report.floor(Floor::at_least(measure, "of the bare program's tasks/s", floors.1, ours.over(bare.max(together))));
    if shape.over_sockets {
        let sockets = report.spread(measure, SOCKETS, "tasks_per_second");
        let share = sockets.over(bare.max(together));
        report.floor(Floor::at_least(measure, "tasks/s over WebSockets", floors.0, sockets));
        report.floor(Floor::at_least(measure, "of the bare program's tasks/s over WebSockets", floors.1, share));
    }
    Ok(())
}
