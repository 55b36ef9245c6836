//! The key that the server makes for itself: a file beside its database that nobody else can read.

use std::fs::{self, File, OpenOptions};
use std::io::{self, ErrorKind, Write as _};
use std::os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _};
use std::path::Path;

use eap_orchestrator::{Entropy as _, MIN_SECRET_BYTES, SystemEntropy};
use eap_types::Secret;

use crate::exit::Failure;

/// Reads the key, or makes one if there is no file.
pub(super) fn read_or_make(path: &Path) -> Result<Secret, Failure> {
    let told =
        |what: &str, error: io::Error| Failure::usage(format!("cannot {what} the key {}: {error}", path.display()));
    match File::open(path) {
        Ok(file) => read(file, path).map_err(|error| told("read", error)),
        Err(error) if error.kind() == ErrorKind::NotFound => make(path).map_err(|error| told("make", error)),
        Err(error) => Err(told("read", error)),
    }
}

/// Checked on the open file, so that it is the one that is read.
fn read(file: File, path: &Path) -> io::Result<Secret> {
    if file.metadata()?.permissions().mode() & 0o077 != 0 {
        return Err(io::Error::other(format!("others can read it: chmod 600 {}", path.display())));
    }
    let text = io::read_to_string(file)?;
    let text = text.trim();
    match text.len() < MIN_SECRET_BYTES {
        true => Err(io::Error::other(format!("it has fewer than {MIN_SECRET_BYTES} bytes"))),
        false => Ok(Secret::new(text)),
    }
}

/// Written under another name first: a file that is there is whole.
fn make(path: &Path) -> io::Result<Secret> {
    let mut random = [0; 32];
    SystemEntropy.fill(&mut random);
    let key: String = random.iter().map(|byte| format!("{byte:02x}")).collect();
    let draft = path.with_extension("key-new");
    match fs::remove_file(&draft) {
        Err(error) if error.kind() != ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&draft)?;
    file.write_all(format!("{key}\n").as_bytes())?;
    file.sync_all()?;
    fs::rename(&draft, path)?;
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    File::open(folder)?.sync_all()?;
    Ok(Secret::new(key))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_key_is_made_once_and_readable_by_its_owner_alone() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("eap.db.key");
        let made = read_or_make(&path).unwrap();
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        assert_eq!(read_or_make(&path).unwrap().expose(), made.expose());
        let elsewhere = read_or_make(&dir.path().join("other.key")).unwrap();
        assert_ne!(elsewhere.expose(), made.expose());
    }

    #[test]
    fn a_key_that_others_can_read_or_that_was_cut_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("eap.db.key");
        read_or_make(&path).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o640)).unwrap();
        assert!(read_or_make(&path).is_err());
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
        fs::write(&path, "short").unwrap();
        assert!(read_or_make(&path).is_err());
    }
}
