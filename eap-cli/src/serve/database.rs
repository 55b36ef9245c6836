//! Where an orchestrator keeps everything, as one word on the command line.

use std::fmt;
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::sync::Arc;

use eap_orchestrator::artifacts::{ArtifactStore, FolderArtifacts, MemoryArtifacts};
use eap_orchestrator::store::{MemoryStore, Repository, SqliteOptions, SqliteStore, StoreError};
use eap_orchestrator::{Clock, SystemClock};
use eap_types::Secret;

use super::key_file;
#[cfg(feature = "postgres")]
use super::postgres::{PostgresArgs, PostgresDatabase};
use crate::exit::{Exit, Failure, chain};

/// A back end and where it finds its data.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Database {
    /// One SQLite file.
    Sqlite(PathBuf),
    /// Memory: nothing outlives the process.
    Memory,
    /// A PostgreSQL database, which several servers may share.
    #[cfg(feature = "postgres")]
    Postgres(PostgresDatabase),
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
            #[cfg(feature = "postgres")]
            Some(("postgres" | "postgresql", _)) => text.parse().map(Self::Postgres),
            #[cfg(not(feature = "postgres"))]
            Some(("postgres" | "postgresql", _)) => {
                Err("names PostgreSQL, which this program was built without (feature postgres)".to_owned())
            }
            _ => Err("is not a database: write sqlite:FILE, postgres://… or memory:".to_owned()),
        }
    }
}

impl fmt::Display for Database {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Sqlite(path) => write!(f, "sqlite:{}", path.display()),
            Self::Memory => f.write_str("memory:"),
            #[cfg(feature = "postgres")]
            Self::Postgres(database) => database.fmt(f),
        }
    }
}

/// What an orchestrator stands on.
#[derive(Debug)]
pub(super) struct Opened {
    pub(super) store: Arc<dyn Repository>,
    /// The clock that the store was given; `None` if it has its own.
    pub(super) clock: Option<Arc<dyn Clock>>,
    pub(super) artifacts: Arc<dyn ArtifactStore>,
}

impl Database {
    /// The same with what is said beside its URL.
    #[cfg(feature = "postgres")]
    pub(super) fn with(self, args: PostgresArgs) -> Result<Self, Failure> {
        match (self, args.given()) {
            (Self::Postgres(database), _) => match database.with(args) {
                Ok(database) => Ok(Self::Postgres(database)),
                Err(why) => Err(Failure::usage(format!("--database-listen-url (or EAP_DATABASE_LISTEN_URL) {why}"))),
            },
            (other, None) => Ok(other),
            (other, Some(option)) => {
                Err(Failure::usage(format!("{option} is for postgres://… alone, and --database is {other}")))
            }
        }
    }

    /// Opens the store, and the place beside it for artifacts that are too large for a result: a folder beside a file, tables
    /// beside tables, memory beside memory.
    pub(super) async fn open(&self) -> Result<Opened, Failure> {
        let clock: Arc<dyn Clock> = Arc::new(SystemClock::new());
        let (store, artifacts): (Arc<dyn Repository>, Arc<dyn ArtifactStore>) = match self {
            Self::Memory => (Arc::new(MemoryStore::new(Arc::clone(&clock))), Arc::new(MemoryArtifacts::new())),
            Self::Sqlite(path) => (self.open_file(path, &clock).await?, folder_beside(path)?),
            #[cfg(feature = "postgres")]
            Self::Postgres(database) => return database.open().await.map_err(|error| self.failed(&error)),
        };
        Ok(Opened { store, clock: Some(clock), artifacts })
    }

    async fn open_file(&self, path: &Path, clock: &Arc<dyn Clock>) -> Result<Arc<dyn Repository>, Failure> {
        let (path, clock) = (path.to_owned(), Arc::clone(clock));
        let opening = tokio::task::spawn_blocking(move || SqliteStore::open(path, clock, SqliteOptions::default()));
        match opening.await {
            Ok(Ok(store)) => Ok(Arc::new(store)),
            Ok(Err(error)) => Err(self.failed(&error)),
            Err(error) => Err(Failure::new(Exit::Failed, format!("opening {self} was cut off: {error}"))),
        }
    }

    /// Whether other servers may stand on it as well.
    pub(super) fn is_shared(&self) -> bool {
        match self {
            Self::Sqlite(_) | Self::Memory => false,
            #[cfg(feature = "postgres")]
            Self::Postgres(_) => true,
        }
    }

    /// The key in the file beside the database, which is made if there is none; none for memory.
    pub(super) fn sealing_key(&self) -> Result<Option<Secret>, Failure> {
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

fn folder_beside(path: &Path) -> Result<Arc<dyn ArtifactStore>, Failure> {
    match FolderArtifacts::beside(path) {
        Ok(folder) => Ok(Arc::new(folder)),
        Err(error) => Err(Failure::usage(format!("the folder {}.artifacts cannot be used: {error}", path.display()))),
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
        for wrong in ["", "eap.db", "sqlite:", "postgre://localhost/eap", "memory:x"] {
            assert!(read(wrong).is_err(), "{wrong}");
        }
    }
}
