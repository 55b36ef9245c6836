//! Where an orchestrator keeps everything, as one word on the command line.

use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;
use std::sync::Arc;

use eap_orchestrator::Clock;
use eap_orchestrator::store::{MemoryStore, Repository, SqliteOptions, SqliteStore, StoreError};

use crate::exit::{Exit, Failure, chain};

/// A back end and where it finds its data.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Database {
    /// One SQLite file.
    Sqlite(PathBuf),
    /// Memory: nothing outlives the process.
    Memory,
}

impl FromStr for Database {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text.split_once(':') {
            Some(("memory", "") | ("sqlite", ":memory:")) => Ok(Self::Memory),
            Some(("sqlite", path)) => match path.strip_prefix("//").unwrap_or(path) {
                "" => Err("names no file: write sqlite:FILE".to_owned()),
                path => Ok(Self::Sqlite(path.into())),
            },
            _ => Err("is not a database: write sqlite:FILE or memory:".to_owned()),
        }
    }
}

impl fmt::Display for Database {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Sqlite(path) => write!(f, "sqlite:{}", path.display()),
            Self::Memory => f.write_str("memory:"),
        }
    }
}

impl Database {
    /// Opens the store, which takes its time from `clock`.
    pub(crate) async fn open(&self, clock: Arc<dyn Clock>) -> Result<Arc<dyn Repository>, Failure> {
        let path = match self {
            Self::Memory => return Ok(Arc::new(MemoryStore::new(clock))),
            Self::Sqlite(path) => path.clone(),
        };
        let opening = tokio::task::spawn_blocking(move || SqliteStore::open(path, clock, SqliteOptions::default()));
        match opening.await {
            Ok(Ok(store)) => Ok(Arc::new(store)),
            Ok(Err(error)) => Err(self.failed(&error)),
            Err(error) => Err(Failure::new(Exit::Failed, format!("opening {self} was cut off: {error}"))),
        }
    }

    fn failed(&self, error: &StoreError) -> Failure {
        let message = format!("{}; --database is {self}", chain(error));
        match error {
            StoreError::Refused { .. } => Failure::usage(message),
            _ => Failure::new(Exit::Failed, message),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_database_is_a_file_or_memory() {
        let read = |text: &str| text.parse::<Database>();
        assert_eq!(read("sqlite:eap.db"), Ok(Database::Sqlite("eap.db".into())));
        assert_eq!(read("sqlite:///var/lib/eap.db"), Ok(Database::Sqlite("/var/lib/eap.db".into())));
        assert_eq!(read("memory:"), Ok(Database::Memory));
        for wrong in ["", "eap.db", "sqlite:", "postgres://localhost/eap", "memory:x"] {
            assert!(read(wrong).is_err(), "{wrong}");
        }
    }
}
