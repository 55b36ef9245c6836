//! Changes that fit, written: one statement for each kind of row, however many changes there are.

mod agents;
mod aside;
mod flows;
mod tasks;

pub(super) use self::aside::tell;
use self::tasks::Unwritten;
use super::claim::Leased;
use super::database::Transaction;
use super::fault::Fault;
use super::ground::{Ground, NewTasks};
use crate::store::prepared::Prepared;

/// Writes changes, none of which names a record that another one names, and what was leased on top of them; gives tasks that
/// are yet to be written, a few, for [`tell`] to do it.
pub(super) async fn write<'p>(
    transaction: &mut Transaction<'_>,
    changes: &[&'p Prepared],
    ground: &Ground,
    leased: &'p Leased,
    new: NewTasks,
) -> Result<Unwritten<'p>, Fault> {
    let mut unwritten = tasks::gather(transaction, changes, ground, leased).await?;
    // They are joined to the rows of their tasks.
    let has_results = |change: &&Prepared| !change.results.is_empty() || !change.late_results.is_empty();
    if new == NewTasks::Looked || unwritten.new.len() > aside::FEW || changes.iter().any(has_results) {
        unwritten.insert(transaction).await?;
    }
    // Before anybody waits for the events.
    if unwritten.changed.len() > aside::FEW {
        unwritten.update(transaction).await?;
    }
    agents::agents(transaction, changes).await?;
    agents::vitals(transaction, changes).await?;
    flows::sessions(transaction, changes, &ground.begun).await?;
    flows::workflows(transaction, changes).await?;
    agents::credentials(transaction, changes).await?;
    tasks::results(transaction, changes).await?;
    aside::write(transaction, changes).await?;
    Ok(unwritten)
}
