//! Artifacts are written below their folder and nowhere else (T25).
#![cfg(unix)]

use std::fs;
use std::io::Write as _;
use std::os::unix::fs::{PermissionsExt as _, symlink};

use eap_client::{ArtifactDir, ArtifactDirError};
use eap_types::{Artifact, ArtifactPath, ContentDigest};
use proptest::prelude::*;

fn path(text: &str) -> ArtifactPath {
    text.parse().unwrap()
}

fn text(at: &str) -> Artifact {
    Artifact::text(path(at), "content")
}

/// What is in a folder.
fn names(folder: &std::path::Path) -> Vec<String> {
    let mut names: Vec<_> =
        fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

#[test]
fn artifacts_stand_below_the_folder_byte_for_byte() {
    let home = tempfile::tempdir().unwrap();
    let root = home.path().join("new/folder");
    let dir = ArtifactDir::create(&root).unwrap();
    let bytes: Vec<u8> = (0..=255).collect();
    let artifacts = [text("a"), Artifact::from_bytes(path("deep/er/b.bin"), &bytes), text("deep/naïve 日本.txt")];
    let written = dir.write_all(&artifacts).unwrap();
    assert_eq!(written, ["a", "deep/er/b.bin", "deep/naïve 日本.txt"].map(|name| root.join(name)));
    assert_eq!(fs::read(&written[0]).unwrap(), b"content");
    assert_eq!(fs::read(&written[1]).unwrap(), bytes);
    let mode = fs::metadata(&written[1]).unwrap().permissions().mode();
    assert_eq!(mode & 0o7111, 0, "{mode:o}: what came from an agent can be run");
}

#[test]
fn no_link_is_followed_and_nothing_written_over() {
    let home = tempfile::tempdir().unwrap();
    let (root, outside) = (home.path().join("in"), home.path().join("out"));
    let dir = ArtifactDir::create(&root).unwrap();
    fs::create_dir(&outside).unwrap();
    fs::write(outside.join("victim"), "before").unwrap();
    symlink(&outside, root.join("folder")).unwrap();
    symlink(outside.join("victim"), root.join("file")).unwrap();
    symlink(outside.join("new"), root.join("dangling")).unwrap();
    symlink("..", root.join("up")).unwrap();
    fs::write(root.join("mine"), "before").unwrap();
    let failure = |at: &str| dir.write(&text(at)).unwrap_err();
    for at in ["folder/victim", "folder/new", "up/out/new", "mine/a", "file/a"] {
        assert!(matches!(failure(at), ArtifactDirError::InTheWay { .. }), "{at}: {:?}", failure(at));
    }
    for at in ["file", "dangling", "mine", "folder"] {
        assert!(matches!(failure(at), ArtifactDirError::Exists { .. }), "{at}: {:?}", failure(at));
    }
    assert_eq!(fs::read(outside.join("victim")).unwrap(), b"before");
    assert_eq!(fs::read(root.join("mine")).unwrap(), b"before");
    assert_eq!(fs::read_dir(&outside).unwrap().count(), 1);
}

#[test]
fn a_folder_that_is_exchanged_meanwhile_does_not_lead_outside() {
    let home = tempfile::tempdir().unwrap();
    let (root, outside) = (home.path().join("in"), home.path().join("out"));
    let dir = ArtifactDir::create(&root).unwrap();
    fs::create_dir(&outside).unwrap();
    fs::rename(&root, home.path().join("moved")).unwrap();
    symlink(&outside, &root).unwrap();
    dir.write(&text("deep/a")).unwrap();
    assert!(home.path().join("moved/deep/a").exists(), "it goes where the folder is that was opened");
    assert_eq!(fs::read_dir(&outside).unwrap().count(), 0);
}

#[test]
fn names_are_checked_before_anything_is_written() {
    let home = tempfile::tempdir().unwrap();
    let dir = ArtifactDir::create(home.path()).unwrap();
    for second in ["nul", "deep/COM1.txt", "ab:c", "a."] {
        let failure = dir.write_all([&text("first"), &text(second)]).unwrap_err();
        assert!(matches!(failure, ArtifactDirError::Name { .. }), "{second}: {failure:?}");
    }
    let failure = dir.write_all([&text("same"), &text("other"), &text("same")]).unwrap_err();
    assert!(matches!(failure, ArtifactDirError::Exists { .. }), "{failure:?}");
    assert_eq!(fs::read_dir(home.path()).unwrap().count(), 0);
}

#[test]
fn a_file_that_is_not_kept_is_gone() {
    let home = tempfile::tempdir().unwrap();
    let dir = ArtifactDir::create(home.path()).unwrap();
    let mut file = dir.begin(&path("deep/half")).unwrap();
    file.write_all(b"half").unwrap();
    assert!(!file.place().exists(), "whoever is killed now leaves no half file under that name");
    assert_eq!(names(&home.path().join("deep")).len(), 1);
    drop(file);
    assert_eq!(names(&home.path().join("deep")), <[String; 0]>::default());
    let mut broken = Artifact::from_bytes(path("broken"), &[0xff]);
    broken.content = "!".to_owned();
    assert!(matches!(dir.write(&broken), Err(ArtifactDirError::Encoding(_))));
    assert!(!home.path().join("broken").exists());
    let elsewhere = Artifact::stored(path("large"), ContentDigest::of(b"large"), 5);
    assert!(matches!(dir.write(&elsewhere), Err(ArtifactDirError::Elsewhere { .. })));
    assert!(!home.path().join("large").exists());
}

#[test]
fn a_file_gets_its_name_once_it_is_whole_and_takes_nothing_s_place() {
    let home = tempfile::tempdir().unwrap();
    let dir = ArtifactDir::create(home.path()).unwrap();
    let mut file = dir.begin(&path("whole")).unwrap();
    let other = dir.begin(&path("whole")).unwrap();
    file.write_all(b"whole").unwrap();
    assert_eq!(file.keep().unwrap(), home.path().join("whole"));
    assert!(matches!(other.keep(), Err(ArtifactDirError::Exists { .. })));
    let linked = dir.begin(&path("linked")).unwrap();
    symlink(home.path().join("victim"), home.path().join("linked")).unwrap();
    assert!(matches!(linked.keep(), Err(ArtifactDirError::Exists { .. })));
    assert!(matches!(dir.begin(&path("whole")), Err(ArtifactDirError::Exists { .. })));
    assert_eq!(names(home.path()), ["linked", "whole"]);
    assert_eq!(fs::read(home.path().join("whole")).unwrap(), b"whole");
}

#[test]
fn what_a_killed_process_left_is_not_in_the_way() {
    let home = tempfile::tempdir().unwrap();
    let dir = ArtifactDir::create(home.path()).unwrap();
    let first = dir.begin(&path("first")).unwrap();
    let hidden = names(home.path()).remove(0);
    let (before, number) = hidden.strip_suffix(".part").unwrap().rsplit_once('-').unwrap();
    let number: u64 = number.parse().unwrap();
    for next in number + 1..number + 500 {
        fs::write(home.path().join(format!("{before}-{next}.part")), "left").unwrap();
    }
    drop(first);
    dir.write(&text("a")).unwrap();
    assert_eq!(fs::read(home.path().join("a")).unwrap(), b"content");
    assert_eq!(names(home.path()).len(), 500);
}

#[test]
fn what_is_no_folder_is_not_opened_as_one() {
    let home = tempfile::tempdir().unwrap();
    let file = home.path().join("file");
    fs::write(&file, "").unwrap();
    for root in [file.clone(), file.join("deeper")] {
        assert!(matches!(ArtifactDir::create(&root), Err(ArtifactDirError::Root { .. })), "{}", root.display());
    }
}

proptest! {
    /// Whatever a path says, the file is below the folder or nowhere.
    #[test]
    fn every_path_stays_inside(at in r"([a-zA-Z:.~$ é\\\x00-]{0,5}/?){1,5}") {
        let home = tempfile::tempdir().unwrap();
        let root = home.path().join("in");
        let dir = ArtifactDir::create(&root).unwrap();
        let Ok(artifact) = at.parse().map(|path| Artifact::text(path, "content")) else { return Ok(()) };
        if let Ok(place) = dir.write(&artifact) {
            prop_assert!(place.canonicalize().unwrap().starts_with(root.canonicalize().unwrap()));
        }
        prop_assert_eq!(fs::read_dir(home.path()).unwrap().count(), 1, "something stands beside the folder");
    }
}
