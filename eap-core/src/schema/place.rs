//! Where a value stands in an input.

use std::fmt;

/// Characters of a member's name or of a pointer that are shown: it comes from a peer and may be long.
const SHOWN_CHARS: usize = 100;

/// Where a value stands, on the way down to it; written as a field and a JSON pointer, as in `body.input/items/0`.
pub(super) enum Place<'p> {
    Root(&'p str),
    /// Where a JSON pointer leads, from a field on.
    Pointer(&'p str, &'p str),
    Member(&'p Place<'p>, &'p str),
    Item(&'p Place<'p>, usize),
}

impl fmt::Display for Place<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Root(at) => f.write_str(at),
            Self::Pointer(at, pointer) => write!(f, "{at}{}", shortened(pointer)),
            Self::Member(within, name) => {
                write!(f, "{within}/{}", shortened(name).replace('~', "~0").replace('/', "~1"))
            }
            Self::Item(within, index) => write!(f, "{within}/{index}"),
        }
    }
}

fn shortened(text: &str) -> &str {
    text.char_indices().nth(SHOWN_CHARS).map_or(text, |(end, _)| &text[..end])
}
