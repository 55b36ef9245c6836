//! Who the agent is across restarts: the data directory, its lock and the identity file.

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};

use eap_types::{AgentId, AgentName, InstanceId, Secret};
use serde::{Deserialize, Serialize};

use crate::error::Error;

const LOCK: &str = "lock";
const IDENTITY: &str = "identity.json";

/// What the identity file says.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Identity {
    pub(crate) name: AgentName,
    /// The base URL of the orchestrator; older files do not have it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) url: Option<String>,
    pub(crate) instance_id: InstanceId,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) agent_id: Option<AgentId>,
    /// The token that was given last: it lets the same identity register without a secret.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) auth_token: Option<Secret>,
}

/// A directory that belongs to one process as long as this value lives.
#[derive(Debug)]
pub(crate) struct DataDir {
    path: PathBuf,
    /// Unlocked by the system when the process ends, however it ends.
    _lock: File,
}

impl DataDir {
    /// Makes the directory if need be, and locks it.
    pub(crate) fn open(path: &Path) -> Result<Self, Error> {
        let fail = |path: &Path, source| Error::DataDir { path: path.to_owned(), source };
        create_private_dir(path).map_err(|error| fail(path, error))?;
        let lock_path = path.join(LOCK);
        let lock = private().create(true).write(true).truncate(false).open(&lock_path);
        let lock = lock.map_err(|error| fail(&lock_path, error))?;
        match lock.try_lock() {
            Ok(()) => Ok(Self { path: path.to_owned(), _lock: lock }),
            Err(TryLockError::WouldBlock) => Err(Error::DataDirLocked { path: path.to_owned() }),
            Err(TryLockError::Error(error)) => Err(fail(&lock_path, error)),
        }
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// Reads the identity file, if there is one.
    pub(crate) fn identity(&self) -> Result<Option<Identity>, Error> {
        let path = self.path.join(IDENTITY);
        let fail = |source| Error::DataDir { path: path.clone(), source };
        let file = match File::open(&path) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(fail(error)),
        };
        // Checked on the open file, so that it is the one that is read.
        if is_exposed(&file).map_err(fail)? {
            return Err(Error::IdentityExposed { path });
        }
        let identity = io::read_to_string(file).map_err(fail)?;
        serde_json::from_str(&identity).map(Some).map_err(|error| fail(error.into()))
    }

    /// Checks that what is in here is of this agent at this orchestrator: its token and its unsent
    /// results are nobody else's.
    pub(crate) fn check_owner(&self, kept: &Identity, name: &AgentName, url: &str) -> Result<(), Error> {
        let is_same_server = kept.url.as_ref().is_none_or(|kept| kept == url);
        if kept.name == *name && is_same_server {
            return Ok(());
        }
        let (path, name) = (self.path.clone(), kept.name.clone());
        Err(Error::DataDirOfAnother { path, name, url: kept.url.clone().unwrap_or_else(|| url.to_owned()) })
    }

    /// Replaces the identity file as a whole.
    pub(crate) fn save(&self, identity: &Identity) -> io::Result<()> {
        let text = serde_json::to_vec_pretty(identity)?;
        replace(&self.path.join(IDENTITY), &text)?.on_disk
    }
}

/// A file that took another one's place.
#[derive(Debug)]
pub(crate) struct Replaced {
    /// The new file, to be appended to.
    pub(crate) file: File,
    /// Whether the exchange is on disk: an older file may come back after a crash if not.
    pub(crate) on_disk: io::Result<()>,
}

/// Writes a file under another name, and puts it in place once it is on disk.
///
/// After an error the older file is still in place.
pub(crate) fn replace(path: &Path, content: &[u8]) -> io::Result<Replaced> {
    let draft = path.with_extension("new");
    match fs::remove_file(&draft) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let mut file = private().create_new(true).append(true).open(&draft)?;
    file.write_all(content)?;
    file.sync_all()?;
    fs::rename(&draft, path)?;
    let on_disk = match path.parent() {
        Some(dir) if cfg!(unix) => File::open(dir).and_then(|dir| dir.sync_all()),
        _ => Ok(()),
    };
    Ok(Replaced { file, on_disk })
}

/// Opens files that nobody else can read.
pub(crate) fn private() -> OpenOptions {
    #[allow(unused_mut, reason = "only some systems have a mode to set")]
    let mut options = OpenOptions::new();
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    options
}

#[cfg(unix)]
fn create_private_dir(path: &Path) -> io::Result<()> {
    use std::os::unix::fs::DirBuilderExt as _;
    fs::DirBuilder::new().recursive(true).mode(0o700).create(path)
}

#[cfg(not(unix))]
fn create_private_dir(path: &Path) -> io::Result<()> {
    fs::create_dir_all(path)
}

#[cfg(unix)]
fn is_exposed(file: &File) -> io::Result<bool> {
    use std::os::unix::fs::PermissionsExt as _;
    Ok(file.metadata()?.permissions().mode() & 0o077 != 0)
}

#[cfg(not(unix))]
fn is_exposed(_: &File) -> io::Result<bool> {
    Ok(false)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn identity() -> Identity {
        Identity {
            name: "AGENT-A".parse().unwrap(),
            url: Some("http://127.0.0.1:8080".to_owned()),
            instance_id: "i-1".parse().unwrap(),
            agent_id: Some("a-1".parse().unwrap()),
            auth_token: Some(Secret::new("eap_secret")),
        }
    }

    #[test]
    fn an_identity_is_read_back_and_its_token_is_not_shown() {
        let dir = tempfile::tempdir().unwrap();
        let data = DataDir::open(dir.path()).unwrap();
        assert!(data.identity().unwrap().is_none());
        data.save(&identity()).unwrap();
        let read = data.identity().unwrap().unwrap();
        assert_eq!(read.auth_token.as_ref().unwrap().expose(), "eap_secret");
        assert!(!format!("{read:?}").contains("eap_secret"));
    }

    #[test]
    fn a_directory_has_one_owner_at_a_time() {
        let dir = tempfile::tempdir().unwrap();
        let first = DataDir::open(dir.path()).unwrap();
        assert!(matches!(DataDir::open(dir.path()), Err(Error::DataDirLocked { .. })));
        drop(first);
        DataDir::open(dir.path()).unwrap();
    }

    #[test]
    fn a_directory_without_a_url_belongs_to_its_name_alone() {
        let dir = tempfile::tempdir().unwrap();
        let data = DataDir::open(dir.path()).unwrap();
        let older = Identity { url: None, ..identity() };
        data.check_owner(&older, &older.name, "http://other").unwrap();
        assert!(data.check_owner(&older, &"AGENT-B".parse().unwrap(), "http://other").is_err());
        assert!(data.check_owner(&identity(), &older.name, "http://other").is_err());
    }

    #[cfg(unix)]
    #[test]
    fn an_identity_that_others_can_read_is_refused() {
        use std::os::unix::fs::PermissionsExt as _;
        let dir = tempfile::tempdir().unwrap();
        let data = DataDir::open(dir.path()).unwrap();
        data.save(&identity()).unwrap();
        let path = dir.path().join(IDENTITY);
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        fs::set_permissions(&path, fs::Permissions::from_mode(0o640)).unwrap();
        assert!(matches!(data.identity(), Err(Error::IdentityExposed { .. })));
    }
}
