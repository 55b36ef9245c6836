//! GET under conditions (RFC 9110, sections 13 and 14): only what changed, or only a part.

use http::{HeaderMap, HeaderName, Method, header};

/// What of a representation is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Asked {
    Whole,
    /// The bytes from `from` to before `to`.
    Part {
        from: u64,
        to: u64,
    },
    /// A part that begins after the end.
    Beyond,
}

/// Whether the caller has the representation with this tag already.
pub(super) fn is_known(headers: &HeaderMap, tag: &str) -> bool {
    let known = text(headers, header::IF_NONE_MATCH);
    known.is_some_and(|known| known.split(',').any(|one| [tag, "*"].contains(&one.trim().trim_start_matches("W/"))))
}

/// Which bytes are asked for. What cannot be read asks for nothing less than the whole, as do several parts at once.
pub(super) fn asked(method: &Method, headers: &HeaderMap, tag: &str, size: u64) -> Asked {
    let of_another = text(headers, header::IF_RANGE).is_some_and(|other| other != tag);
    let range = text(headers, header::RANGE).and_then(|range| range.strip_prefix("bytes="));
    match range {
        Some(range) if method == Method::GET && !of_another => part(range, size).unwrap_or(Asked::Whole),
        _ => Asked::Whole,
    }
}

/// Reads `first-last`, `first-` or `-length`.
fn part(range: &str, size: u64) -> Option<Asked> {
    let (first, last) = range.trim().split_once('-')?;
    let (from, to) = match (first, last) {
        ("", length) => (size.saturating_sub(number(length)?), size),
        (first, "") => (number(first)?, size),
        (first, last) => {
            let (first, last) = (number(first)?, number(last)?);
            if last < first {
                return None;
            }
            (first, size.min(last.saturating_add(1)))
        }
    };
    Some(if from < to { Asked::Part { from, to } } else { Asked::Beyond })
}

/// Reads a number that has digits only, where `parse` would take a sign. One too large is as large as can be.
fn number(digits: &str) -> Option<u64> {
    let is_one = !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit());
    is_one.then(|| digits.parse().unwrap_or(u64::MAX))
}

fn text(headers: &HeaderMap, name: HeaderName) -> Option<&str> {
    headers.get(name)?.to_str().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(range: &'static str, size: u64) -> Asked {
        let headers = HeaderMap::from_iter([(header::RANGE, http::HeaderValue::from_static(range))]);
        asked(&Method::GET, &headers, "\"tag\"", size)
    }

    #[test]
    fn one_part_is_given_and_what_cannot_be_read_asks_for_the_whole() {
        let part = |from, to| Asked::Part { from, to };
        for (range, size, expected) in [
            ("bytes=0-0", 10, part(0, 1)),
            ("bytes=2-5", 10, part(2, 6)),
            ("bytes=2-", 10, part(2, 10)),
            ("bytes=2-99999999999999999999999", 10, part(2, 10)),
            ("bytes=-3", 10, part(7, 10)),
            ("bytes=-30", 10, part(0, 10)),
            ("bytes=10-", 10, Asked::Beyond),
            ("bytes=99999999999999999999999-", 10, Asked::Beyond),
            ("bytes=-0", 10, Asked::Beyond),
            ("bytes=0-", 0, Asked::Beyond),
            ("bytes=5-2", 10, Asked::Whole),
            ("bytes=0-1,4-5", 10, Asked::Whole),
            ("bytes=+1-2", 10, Asked::Whole),
            ("bytes=-", 10, Asked::Whole),
            ("bytes=", 10, Asked::Whole),
            ("pages=0-1", 10, Asked::Whole),
        ] {
            assert_eq!(of(range, size), expected, "{range} of {size}");
        }
    }

    #[test]
    fn a_part_of_something_else_is_no_part_of_this() {
        let mut headers = HeaderMap::new();
        headers.insert(header::RANGE, "bytes=2-5".parse().unwrap());
        let asked = |headers: &HeaderMap, method| asked(&method, headers, "\"tag\"", 10);
        headers.insert(header::IF_RANGE, "\"tag\"".parse().unwrap());
        assert_eq!(asked(&headers, Method::GET), Asked::Part { from: 2, to: 6 });
        assert_eq!(asked(&headers, Method::HEAD), Asked::Whole);
        for other in ["\"other\"", "W/\"tag\"", "Sat, 29 Oct 2026 19:43:31 GMT"] {
            headers.insert(header::IF_RANGE, other.parse().unwrap());
            assert_eq!(asked(&headers, Method::GET), Asked::Whole, "{other}");
        }
    }
}
