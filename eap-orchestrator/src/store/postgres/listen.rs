//! News of others, as the server tells it at once; whoever waits for it looks again after a while all the same.

use std::sync::Arc;
use std::time::Duration;

use sqlx::postgres::{PgListener, PgPool};
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;
use tracing::debug;

use super::database::Database;
use super::fault::Fault;
use super::inbox::HAS_NEW;

/// How long a connection may be quiet before it is asked whether it is alive, and how long it may take to say so.
const QUIET: Duration = Duration::from_secs(15);
const ANSWER: Duration = Duration::from_secs(5);

/// How long to wait before another connection is tried.
const PAUSE: Duration = Duration::from_secs(1);

/// Listens until `stop`, on another connection after each loss.
pub(super) async fn run(database: Arc<Database>, pool: PgPool, stop: CancellationToken) {
    stop.run_until_cancelled(async {
        loop {
            if let Err(fault) = listen(&database, &pool).await {
                debug!(?fault, "the database is not listened to at the moment");
            }
            tokio::time::sleep(PAUSE).await;
        }
    })
    .await;
}

/// Ends with the connection.
async fn listen(database: &Database, pool: &PgPool) -> Result<(), Fault> {
    let mut listener = within(PgListener::connect_with(pool)).await?;
    listener.eager_reconnect(false);
    within(listener.listen(database.schema.channel())).await?;
    // Whatever was told before went unheard.
    database.news.notify_one();
    database.arrivals.notify_one();
    loop {
        match timeout(QUIET, listener.try_recv()).await {
            Ok(Ok(Some(told))) if told.payload() == HAS_NEW => database.arrivals.notify_one(),
            Ok(Ok(Some(told))) => {
                // This store's own news is none to it.
                if told.payload().parse() != Ok(database.writer()) {
                    database.news.notify_one();
                }
            }
            Ok(Ok(None)) => return Ok(()),
            Ok(Err(error)) => return Err(error.into()),
            // A network that swallows everything looks like peace.
            Err(_) => {
                within(sqlx::query("SELECT 1").execute(&mut listener)).await?;
            }
        }
    }
}

async fn within<T>(call: impl Future<Output = Result<T, sqlx::Error>>) -> Result<T, Fault> {
    match timeout(ANSWER, call).await {
        Ok(outcome) => Ok(outcome?),
        Err(_) => Err(Fault::late()),
    }
}
