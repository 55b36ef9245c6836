//! Signed webhooks of a platform: what AgentKit's code makes is taken, and nothing else (G25, G28, A41, A43, A46).

use eap_types::Timestamp;
use eap_types::agentkit::{AgentKitSecret, Signed, SignedRefusal, TOLERANCE, Verified, sign, sign_rfc3339, verify};
use hmac::{Hmac, KeyInit as _, Mac as _};
use proptest::prelude::*;
use sha2::Sha256;

const SENT: i64 = 1_767_225_600;
const BODY: &[u8] = br#"{"event_type":"REGISTER","agent_details":{"agentId":"a1"}}"#;
/// By Python: `hmac.new(b"s3cret", b"1767225600." + body, hashlib.sha256).hexdigest()`.
const SIGNATURE: &str = "f4c83a2610098da8ac3ddc78b869e64515563ba44edd4c47895afc61c505e548";

fn secret(text: &str) -> AgentKitSecret {
    text.parse().expect("a secret may be any text")
}

fn at(seconds: i64) -> Timestamp {
    Timestamp::from_seconds(seconds)
}

fn made_by_agentkit() -> Signed {
    Signed { timestamp: SENT.to_string(), signature: SIGNATURE.to_owned() }
}

fn check(signed: &Signed, body: &[u8]) -> Result<Verified, SignedRefusal> {
    verify(&[secret("s3cret")], signed, body, at(SENT), TOLERANCE)
}

/// Signs whatever stands for the timestamp, by code of the test's own.
fn signed_as(timestamp: &str, body: &[u8]) -> Signed {
    let mut mac = Hmac::<Sha256>::new_from_slice(b"s3cret").expect("HMAC takes a key of any length");
    for part in [timestamp.as_bytes(), b".", body] {
        mac.update(part);
    }
    let signature = mac.finalize().into_bytes().iter().map(|byte| format!("{byte:02x}")).collect();
    Signed { timestamp: timestamp.to_owned(), signature }
}

#[test]
fn what_agentkit_signs_is_made_and_taken() {
    assert_eq!(sign(&secret("s3cret"), at(SENT), BODY), made_by_agentkit());
    assert_eq!(check(&made_by_agentkit(), BODY).expect("it is AgentKit's own").sent_at, at(SENT));
    let names = made_by_agentkit();
    assert_eq!(names.headers().map(|(name, _)| name), ["x-agentkit-timestamp", "x-agentkit-signature"]);
}

#[test]
fn digits_may_be_of_either_case_and_make_no_other_message() {
    let first = check(&made_by_agentkit(), BODY).expect("it is taken");
    let mixed: String =
        SIGNATURE.char_indices().map(|(at, c)| if at % 2 == 0 { c.to_ascii_uppercase() } else { c }).collect();
    for signature in [SIGNATURE.to_uppercase(), mixed] {
        assert_eq!(check(&Signed { signature, ..made_by_agentkit() }, BODY), Ok(first));
    }
}

#[test]
fn rfc_3339_with_an_offset_is_a_timestamp_too() {
    let first = check(&made_by_agentkit(), BODY).expect("it is taken");
    for timestamp in [
        "2026-01-01T00:00:00Z",
        "2026-01-01T00:00:00+00:00",
        "2026-01-01 02:00:00+02:00",
        "2025-12-31t19:00:00.000000-05:00",
        "2026-01-01T00:00:00.000z",
    ] {
        assert_eq!(check(&signed_as(timestamp, BODY), BODY), Ok(first), "{timestamp}: the same time, the same message");
    }
    let later = check(&signed_as("2026-01-01T00:00:00.5Z", BODY), BODY).expect("it is taken");
    assert_eq!(later.sent_at.as_micros(), at(SENT).as_micros() + 500_000);
    assert_ne!(later.replay_key, first.replay_key);
}

#[test]
fn a_time_to_the_microsecond_is_signed_too() {
    let sent = Timestamp::from_micros(at(SENT).as_micros() + 123_456);
    let signed = sign_rfc3339(&secret("s3cret"), sent, BODY);
    assert_eq!(signed, signed_as("2026-01-01T00:00:00.123456Z", BODY));
    assert_eq!(check(&signed, BODY).expect("it is taken").sent_at, sent);
}

#[test]
fn no_other_text_is_a_timestamp() {
    for timestamp in [
        "",
        "0",
        "176722560",
        "01767225600",
        "+1767225600",
        "-176722560",
        " 1767225600",
        "1767225600 ",
        "1767225600.0",
        "1767225600000",
        "１７６７２２５６００",
        "2026-01-01",
        "2026-01-01T00:00:00",
        "2026-01-01T00:00:00.5",
        "2026-01-01T00:00:00.Z",
        "2026-01-01T00:00:00,5Z",
        "2026-01-01T00:00Z",
        "2026-01-01T00Z",
        "20260101T000000Z",
        "2026-01-01T00:00:00+00",
        "2026-01-01T00:00:00+0000",
        "2026-01-01T00:00:00Z[UTC]",
        "2026-01-01T00:00:00+00:00[u-ca=gregory]",
        "+002026-01-01T00:00:00Z",
        "2026-02-30T00:00:00Z",
        "2026-01-01T00:00:00.0000000000Z",
        "2026-01-01T00:00:00Z ",
    ] {
        assert_eq!(check(&signed_as(timestamp, BODY), BODY), Err(SignedRefusal::Timestamp), "{timestamp:?}");
    }
}

#[test]
fn a_dot_cannot_be_moved_between_time_and_body() {
    let bodies: [&[u8]; 4] =
        [br#"{"a": 1.5, "b": "x.y"}"#, b"1767225601.{}", b"5Z.{}", b"2026-01-01T00:00:00Z.5+00:00.{\"a\": 2.0}"];
    let times = ["1767225600", "2026-01-01T00:00:00Z", "2026-01-01T00:00:00.25Z", "2026-01-01T01:00:00.123456+01:00"];
    let mut tried = 0;
    for body in bodies {
        for time in times {
            let signed = signed_as(time, body);
            check(&signed, body).expect("it is taken as it was cut");
            let whole = [time.as_bytes(), b".", body].concat();
            let dots = (0..whole.len()).filter(|at| whole[*at] == b'.' && *at != time.len());
            for dot in dots {
                let timestamp = String::from_utf8_lossy(&whole[..dot]).into_owned();
                let cut = Signed { timestamp, signature: signed.signature.clone() };
                assert_eq!(check(&cut, &whole[dot + 1..]), Err(SignedRefusal::Timestamp), "{cut:?}");
                tried += 1;
            }
        }
    }
    assert!(tried > 20, "{tried}");
}

#[test]
fn the_window_has_both_ends() {
    let after = |seconds| verify(&[secret("s3cret")], &made_by_agentkit(), BODY, at(SENT + seconds), TOLERANCE);
    for within in [-300, -299, 0, 299, 300] {
        assert!(after(within).is_ok(), "{within}");
    }
    for beyond in [-1_000_000_000, -301, 301, 86_400, 8_000_000_000] {
        assert_eq!(after(beyond), Err(SignedRefusal::OutsideWindow { sent_at: at(SENT) }), "{beyond}");
    }
    let narrow = std::time::Duration::from_secs(5);
    assert!(verify(&[secret("s3cret")], &made_by_agentkit(), BODY, at(SENT + 6), narrow).is_err(), "as it is given");
}

#[test]
fn every_live_secret_is_tried_and_no_other_fits() {
    let with = |secrets: &[&str]| {
        let secrets: Vec<_> = secrets.iter().map(|text| secret(text)).collect();
        verify(&secrets, &made_by_agentkit(), BODY, at(SENT), TOLERANCE)
    };
    assert!(with(&["new", "s3cret"]).is_ok() && with(&["s3cret", "new"]).is_ok());
    for wrong in [&["new"][..], &[], &["S3CRET", "s3cret ", "s3cre", "s3crett"]] {
        assert_eq!(with(wrong), Err(SignedRefusal::Signature), "{wrong:?}");
    }
}

#[test]
fn the_same_message_under_another_secret_is_the_same() {
    let of = |text: &str| {
        let signed = sign(&secret(text), at(SENT), BODY);
        verify(&[secret(text)], &signed, BODY, at(SENT), TOLERANCE).expect("it is its own").replay_key
    };
    assert_eq!(of("one"), of("two"));
    let later = sign(&secret("one"), at(SENT + 1), BODY);
    let later = verify(&[secret("one")], &later, BODY, at(SENT), TOLERANCE).expect("it is its own").replay_key;
    assert_ne!(of("one"), later);
    let other = sign(&secret("one"), at(SENT), b"{}");
    let other = verify(&[secret("one")], &other, b"{}", at(SENT), TOLERANCE).expect("it is its own").replay_key;
    assert_ne!(of("one"), other);
}

#[test]
fn a_signature_is_64_digits() {
    let longer = format!("{SIGNATURE}00");
    for wrong in
        ["", "00", &SIGNATURE[..62], &SIGNATURE[..63], &longer, &"g".repeat(64), &"é".repeat(32), &"+f".repeat(32)]
    {
        let signed = Signed { signature: wrong.to_owned(), ..made_by_agentkit() };
        assert_eq!(check(&signed, BODY), Err(SignedRefusal::Signature), "{wrong}");
    }
}

#[test]
fn no_bit_of_a_message_can_be_turned() {
    for place in 0..BODY.len() * 8 {
        let mut body = BODY.to_vec();
        body[place / 8] ^= 1 << (place % 8);
        assert_eq!(check(&made_by_agentkit(), &body), Err(SignedRefusal::Signature), "{body:?}");
    }
    for (place, digit) in SIGNATURE.char_indices() {
        let other = if digit == '0' { "1" } else { "0" };
        let mut signature = SIGNATURE.to_owned();
        signature.replace_range(place..=place, other);
        assert_eq!(check(&Signed { signature, ..made_by_agentkit() }, BODY), Err(SignedRefusal::Signature));
    }
    for sent in [SENT - 1, SENT + 1] {
        let signed = Signed { timestamp: sent.to_string(), ..made_by_agentkit() };
        assert_eq!(check(&signed, BODY), Err(SignedRefusal::Signature));
    }
}

#[test]
fn a_secret_is_any_text_but_none_and_never_printed() {
    assert!(AgentKitSecret::new("").is_err() && serde_json::from_str::<AgentKitSecret>(r#""""#).is_err());
    for text in ["x", " ", "whsec_not-base64", "ß"] {
        assert_eq!(secret(text).expose(), text);
    }
    let shown = format!("{:?} {:#?}", secret("s3cret"), [secret("s3cret")]);
    assert!(!shown.contains("s3cret") && shown.contains("[redacted]"), "{shown}");
}

proptest! {
    #[test]
    fn what_was_signed_is_taken(
        texts in prop::collection::vec(".{1,40}", 1..4),
        body in prop::collection::vec(any::<u8>(), 0..200),
        sent in 1_000_000_000_i64..9_999_999_999,
        late in -300_i64..=300,
    ) {
        let secrets: Vec<_> = texts.iter().map(|text| secret(text)).collect();
        for one in &secrets {
            let signed = sign(one, at(sent), &body);
            prop_assert!(verify(&secrets, &signed, &body, at(sent + late), TOLERANCE).is_ok());
        }
    }
}
