//! Patterns: ECMA 262 as far as it can be matched in linear time.

use regex::{Regex, RegexBuilder};

/// Bytes that a pattern may take once it is compiled, and the steps that each byte of a text then counts for: a pattern
/// made to be slow has all of itself tried on each.
const SIZES: [(usize, usize); 3] = [(16 * 1024, 1), (64 * 1024, 4), (256 * 1024, 16)];

/// A pattern that is looked for anywhere in a text.
#[derive(Clone, Debug)]
pub(super) struct Pattern {
    regex: Regex,
    text: String,
    steps_a_byte: usize,
}

impl Pattern {
    /// Reads a pattern; the error says in words for people why it cannot be used.
    pub(super) fn new(text: &str) -> Result<Self, &'static str> {
        let translated = translated(text);
        for (bytes, steps_a_byte) in SIZES {
            match RegexBuilder::new(&translated).size_limit(bytes).build() {
                Ok(regex) => return Ok(Self { regex, text: text.to_owned(), steps_a_byte }),
                Err(regex::Error::CompiledTooBig(_)) => {}
                Err(_) => {
                    return Err(
                        "is no pattern that can be matched in linear time (no look-around, no back-references)",
                    );
                }
            }
        }
        Err("is a pattern larger than what is matched here")
    }

    /// What looking for it in `text` takes.
    pub(super) fn steps(&self, text: &str) -> usize {
        1 + text.len() * self.steps_a_byte
    }

    /// Whether it is found in `text`.
    pub(super) fn is_in(&self, text: &str) -> bool {
        self.regex.is_match(text)
    }

    /// As it was written.
    pub(super) fn as_str(&self) -> &str {
        &self.text
    }
}

/// The same pattern in the dialect of the `regex` crate: classes are ASCII, and in brackets nothing but `]`, `^`, `-` and
/// `\` has a meaning.
fn translated(pattern: &str) -> String {
    let mut text = String::with_capacity(pattern.len() + 16);
    let mut chars = pattern.chars().peekable();
    let mut in_brackets = false;
    let mut before = None;
    while let Some(char) = chars.next() {
        match char {
            '\\' => {
                let escaped = chars.next();
                match (escaped, in_brackets) {
                    (Some('d'), true) => text.push_str("0-9"),
                    (Some('d'), false) => text.push_str("[0-9]"),
                    (Some('D'), _) => text.push_str("[^0-9]"),
                    (Some('w'), true) => text.push_str("A-Za-z0-9_"),
                    (Some('w'), false) => text.push_str("[A-Za-z0-9_]"),
                    (Some('W'), _) => text.push_str("[^A-Za-z0-9_]"),
                    (Some('b'), true) => text.push_str(r"\x08"),
                    (Some('b'), false) => text.push_str(r"(?-u:\b)"),
                    (Some('0'), _) => text.push_str(r"\x00"),
                    (Some('c'), _) => match chars.next().filter(char::is_ascii_alphabetic) {
                        Some(letter) => text.push_str(&format!(r"\x{:02x}", letter.to_ascii_uppercase() as u8 - b'@')),
                        // No control character: left as it is, for the compiler to refuse.
                        None => text.push_str(r"\c"),
                    },
                    (Some(other), _) => text.extend(['\\', other]),
                    (None, _) => text.push('\\'),
                }
            }
            '[' if in_brackets => text.push_str(r"\["),
            '[' => {
                in_brackets = true;
                text.push('[');
                if chars.next_if_eq(&'^').is_some() {
                    text.push('^');
                }
            }
            ']' => {
                in_brackets = false;
                text.push(']');
            }
            '&' | '~' if in_brackets => text.extend(['\\', char]),
            '-' if in_brackets && before == Some('-') => text.push_str(r"\-"),
            // A full stop leaves out all ends of lines.
            '.' if !in_brackets => text.push_str(r"[^\n\r\u{2028}\u{2029}]"),
            other => text.push(other),
        }
        before = Some(char);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pattern_means_what_it_means_in_ecma_262() {
        let cases = [
            (r"^\d{3}$", "123", true),
            (r"^\d$", "\u{0663}", false),
            (r"^\w+$", "a_9", true),
            (r"^\w+$", "\u{e9}", false),
            (r"^[\d-]+$", "1-2", true),
            (r"^[^\s\d]+$", "ab", true),
            (r"^[\D]$", "5", false),
            (r"^[a[b]$", "[", true),
            (r"^[a&&b]+$", "&a", true),
            (r"^[+--]$", ",", true),
            (r"^a.c$", "a\rc", false),
            (r"^a.c$", "a\u{e9}c", true),
            (r"^\/path\u00e9$", "/path\u{e9}", true),
            (r"\bword\b", "a word here", true),
            (r"\bword\b", "swords", false),
            (r"^\cJ$", "\n", true),
            (r"^[\b]$", "\u{8}", true),
            (r"^\p{Lu}", "\u{c9}t\u{e9}", true),
            (r"x", "found anywhere: x.", true),
            (r"^[\]a]+$", "a]", true),
        ];
        for (pattern, text, is_in) in cases {
            assert_eq!(Pattern::new(pattern).unwrap().is_in(text), is_in, "{pattern} in {text:?}");
        }
    }

    #[test]
    fn what_cannot_be_matched_in_linear_time_is_refused() {
        for pattern in [r"(?=a)b", r"(a)\1", r"(?<!x)y", "(", r"\p{L}{1,1000}{1,1000}", r"\c1"] {
            assert!(Pattern::new(pattern).is_err(), "{pattern}");
        }
        // Quick here, and exponential where a pattern is tried by going back.
        assert!(!Pattern::new("^(a+)+$").unwrap().is_in(&format!("{}b", "a".repeat(50_000))));
    }
}
