//! Which versions of the protocol are taken.

use super::*;

#[test]
fn a_newer_minor_version_is_accepted_and_kept() {
    let given: Registration = accepted(&registration(&json!({ "protocol_version": "1.7", "news": [1, 2] })));
    assert_eq!(given.protocol_version, "1.7");
}

#[test]
fn another_major_version_is_refused_before_all_else() {
    for version in ["2.0", "0.9", "10.0", "", "one"] {
        let body = json!({ "protocol_version": version, "name": "?" });
        let refusal = decode::<Registration>(&body).expect_err("the version is refused");
        assert_eq!(refusal, DecodeError::UnsupportedVersion { given: version.to_owned() });
    }
}

#[test]
fn a_version_is_text() {
    let body = registration(&json!({ "protocol_version": 1.0 }));
    assert_eq!(problems::<Registration>(&body), ["body.protocol_version type_error"]);
}
