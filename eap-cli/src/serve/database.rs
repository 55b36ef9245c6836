//! Where an orchestrator keeps everything, as one word on the command line.

use std::fmt;
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::sync::Arc;

use eap_orchestrator::Clock;
use eap_orchestrator::artifacts::{ArtifactStore, FolderArtifacts, MemoryArtifacts};
use eap_orchestrator::store::{MemoryStore, Repository, SqliteOptions, SqliteStore, StoreError};
use eap_types::Secret;

use super::key_file;
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

    /// Where artifacts go that are too large for a result: a folder beside the database, memory beside memory.
    pub(crate) fn artifacts(&self) -> Result<Arc<dyn ArtifactStore>, Failure> {
        let Self::Sqlite(path) = self else { return Ok(Arc::new(MemoryArtifacts::new())) };
        match FolderArtifacts::beside(path) {
            Ok(folder) => Ok(Arc::new(folder)),
            Err(error) => {
                Err(Failure::usage(format!("the folder {}.artifacts cannot be used: {error}", path.display())))
            }
        }
    }

    /// The key in the file beside the database, which is made if there is none; none for memory.
    pub(crate) fn sealing_key(&self) -> Result<Option<Secret>, Failure> {
        let Self::Sqlite(path) = self else { return Ok(None) };
        let mut file = path.clone().into_os_string();
        file.push(".key");
        key_file::read_or_make(Path::new(&file)).map(Some)
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
