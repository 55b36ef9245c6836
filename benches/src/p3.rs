//! P3: tasks a second from end to end on PostgreSQL, by one replica and by several: one task a request, and in batches; and
//! what a task costs the database.

use std::time::Duration;

use crate::host::Host;
use crate::load::{Load, rounded};
use crate::postgres::Schema;
use crate::report::Report;
use crate::throughput::{P1, P2, Shape};
use crate::{BoxError, Common};

/// How many replicas share the load, by turns.
const REPLICAS: [usize; 3] = [1, 2, 3];

/// Both shapes by turns, each in a new schema of one server.
pub(crate) async fn measure(common: &Common, report: &mut Report) -> Result<(), BoxError> {
    let measured = common.measured(5.0);
    let warm_up = measured.min(Duration::from_secs(1));
    for run in report.runs() {
        for ((side, shape), replicas) in [("one_a_request", P1), ("batches_of_64", P2)]
            .into_iter()
            .flat_map(|one| REPLICAS.map(|count| (one, count)))
        {
            let Shape { submitters, agents, per_submit, per_lease, window, .. } = shape;
            let load =
                Load { submitters, agents, per_submit, per_lease, window, over_sockets: false, warm_up, measured };
            let Some(schema) = Schema::new() else { return Ok(()) };
            let empty = {
                // Registered agents and empty tables are not what a task takes.
                Host::start_on_postgres(&schema).await?.stop().await?;
                schema.bytes().await?
            };
            let before = schema.work().await?;
            let (host, others) = Host::start_replicas(&schema, replicas).await?;
            let shown = load.run_on(host, others).await?;
            // Those of the warm-up are done as well.
            let tasks = schema.results().await?;
            let cost = schema.work().await?.each(&before, tasks);
            let bytes = schema.bytes().await?.saturating_sub(empty);
            let mut setting = serde_json::to_value(load)?;
            if let Some(members) = setting.as_object_mut() {
                members.insert("replicas".into(), replicas.into());
                members.insert("database_bytes_per_task".into(), rounded(bytes as f64 / tasks.max(1) as f64).into());
                members.extend(serde_json::to_value(&cost)?.as_object().cloned().unwrap_or_default());
            }
            let side = if replicas == 1 { side.to_owned() } else { format!("{side}_by_{replicas}") };
            report.add("P3", &side, run, &setting, &shown)?;
            schema.remove().await?;
        }
    }
    Ok(())
}
