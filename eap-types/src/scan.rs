//! One pass over JSON text that no parser has seen yet: how deep it is, and what in it is doubtful.

/// Counts how deep the arrays and objects of a JSON text are nested; a bare number or string is 0.
///
/// It looks at the brackets outside strings and nothing else, so it can run before a parser does;
/// what it says of a text that is not JSON means nothing.
#[must_use]
pub fn json_depth(bytes: &[u8]) -> usize {
    scan(bytes).depth
}

pub(crate) struct Scan {
    pub(crate) depth: usize,
    /// A number or an escape that the grammar allows and that may yet have no meaning.
    pub(crate) is_doubtful: bool,
}

/// More digits than this may be more than an `f64` holds.
const SAFE_DIGITS: usize = 300;

pub(crate) fn scan(bytes: &[u8]) -> Scan {
    let (mut open, mut depth, mut is_doubtful) = (0_usize, 0, false);
    let mut at = 0;
    while at < bytes.len() {
        match bytes[at] {
            b'"' => {
                at += 1;
                while at < bytes.len() && bytes[at] != b'"' {
                    if bytes[at] == b'\\' {
                        is_doubtful |= matches!(bytes.get(at + 1..at + 3), Some(b"ud" | b"uD"));
                        at += 1;
                    }
                    at += 1;
                }
            }
            b'[' | b'{' => {
                open += 1;
                depth = depth.max(open);
            }
            b']' | b'}' => open = open.saturating_sub(1),
            b'0'..=b'9' => {
                let digits = bytes[at..].iter().take_while(|byte| byte.is_ascii_digit()).count();
                at += digits - 1;
                is_doubtful |= digits > SAFE_DIGITS || matches!(bytes.get(at + 1), Some(b'e' | b'E'));
            }
            _ => {}
        }
        at += 1;
    }
    Scan { depth, is_doubtful }
}
