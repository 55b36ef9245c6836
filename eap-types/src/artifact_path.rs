//! Where an artifact stands within a result.

use std::borrow::Cow;

use unicode_normalization::is_nfc;

use crate::checked::checked_text;
use crate::limits::MAX_ARTIFACT_PATH_BYTES;

checked_text! {
    /// A relative path with `/` between its parts, safe to join to a directory on any system.
    ///
    /// It has 1 to 512 bytes in the Unicode form NFC; no part is empty, `.` or `..`; there is no
    /// drive letter, backslash or control character (PROTOCOL.md section 2). Another form than NFC
    /// is refused, not changed, so that a path is the same bytes on both sides.
    ArtifactPath, "artifact path", read_artifact_path,
    { "minLength": 1, "maxLength": 512, "pattern": "^[^/\\\\\\u0000-\\u001f\\u007f-\\u009f]+(/[^/\\\\\\u0000-\\u001f\\u007f-\\u009f]+)*$" }
}

fn read_artifact_path(text: &str) -> Result<Cow<'_, str>, &'static str> {
    if !(1..=MAX_ARTIFACT_PATH_BYTES).contains(&text.len()) {
        Err("must have 1 to 512 bytes")
    } else if text.contains(|c: char| c == '\\' || c.is_control()) {
        Err("must not hold a backslash or a control character")
    } else if matches!(text.as_bytes(), [letter, b':', ..] if letter.is_ascii_alphabetic()) {
        Err("must not start with a drive letter")
    } else if text.split('/').any(|part| matches!(part, "" | "." | "..")) {
        Err("must be relative, without an empty part, '.' or '..'")
    } else if !is_nfc(text) {
        Err("must be in the Unicode form NFC")
    } else {
        Ok(text.into())
    }
}

#[cfg(test)]
mod tests {
    use super::ArtifactPath;

    #[test]
    fn relative_paths_are_taken_as_they_are() {
        let longest = "a".repeat(512);
        for path in ["a", "src/main.rs", ".hidden", "...", "a..b/c", "naïve/日本.txt", "a b", "ab:c", &longest] {
            assert_eq!(path.parse::<ArtifactPath>().unwrap().as_str(), path);
        }
    }

    #[test]
    fn paths_that_could_leave_the_directory_are_refused() {
        for path in
            ["/etc/passwd", "..", "../a", "a/../b", "a/..", ".", "./a", "a/.", "C:", "c:/a", r"a\b", r"\\host\a"]
        {
            assert!(path.parse::<ArtifactPath>().is_err(), "{path}");
        }
    }

    #[test]
    fn paths_that_are_no_plain_names_are_refused() {
        let too_long = "a".repeat(513);
        for path in ["", "a//b", "a/", "a\0b", "a\nb", "a\u{7f}", &too_long] {
            assert!(path.parse::<ArtifactPath>().is_err(), "{path:?}");
        }
    }

    #[test]
    fn another_unicode_form_than_nfc_is_refused_rather_than_changed() {
        assert!("nai\u{308}ve".parse::<ArtifactPath>().is_err());
        assert!("na\u{ef}ve".parse::<ArtifactPath>().is_ok());
    }
}
