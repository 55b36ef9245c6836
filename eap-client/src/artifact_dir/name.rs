//! Names that are harmless here and something else on another system.

/// Devices of Windows, which hide behind every extension as well: `nul.txt` is `nul`.
const DEVICES: [&str; 6] = ["CON", "PRN", "AUX", "NUL", "CONIN$", "CONOUT$"];

/// Says what is dangerous about one part of a path, if anything is.
pub(super) fn danger(part: &str) -> Option<&'static str> {
    if part.contains(':') {
        return Some("names a drive or a stream on Windows");
    }
    if part.ends_with(['.', ' ']) {
        return Some("ends with a dot or a blank, which Windows drops");
    }
    let stem = part.split('.').next().unwrap_or(part).trim_end().to_uppercase();
    let numbered = |stem: &str| {
        let digit = stem.strip_prefix("COM").or_else(|| stem.strip_prefix("LPT"));
        digit.is_some_and(|digit| {
            let mut chars = digit.chars();
            // Windows takes the superscript digits of Latin-1 for digits.
            matches!((chars.next(), chars.next()), (Some('0'..='9' | '¹' | '²' | '³'), None))
        })
    };
    (DEVICES.contains(&stem.as_str()) || numbered(&stem)).then_some("is a device on Windows")
}

#[cfg(test)]
mod tests {
    use super::danger;

    #[test]
    fn devices_streams_and_names_that_change_are_dangerous_on_windows() {
        for part in ["nul", "NUL.txt", "Con", "com1.tar.gz", "LPT9", "com²", "aux .md", "conin$"] {
            assert_eq!(danger(part), Some("is a device on Windows"), "{part}");
        }
        for part in ["a:b", "C:", "file.txt::$DATA", "...", "a.", "a "] {
            assert!(danger(part).is_some(), "{part}");
        }
    }

    #[test]
    fn other_names_are_not() {
        for part in ["a", ".hidden", "..a", "null.txt", "com", "com10", "console", "a.nul", "日本.txt", "a b"] {
            assert_eq!(danger(part), None, "{part}");
        }
    }
}
