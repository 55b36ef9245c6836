//! Signed messages: what Standard Webhooks publishes as right, and that nothing else passes (T10 to T12).

use eap_types::Timestamp;
use eap_types::webhook::{Refusal, Signed, SigningSecret, TOLERANCE, sign, verify};
use proptest::prelude::*;

/// The example that the libraries of Standard Webhooks are tested with.
const SECRET: &str = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";
const ID: &str = "msg_p5jXN8AQM9LWM0D4loKWxJek";
const SENT: i64 = 1_614_265_330;
const BODY: &[u8] = br#"{"test": 2432232314}"#;
const SIGNATURE: &str = "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=";

fn secret(text: &str) -> SigningSecret {
    text.parse().expect("the secret is well formed")
}

fn other() -> SigningSecret {
    SigningSecret::from_bytes([7; 32]).expect("32 bytes are enough")
}

fn published() -> Signed {
    Signed { id: ID.to_owned(), timestamp: SENT.to_string(), signature: SIGNATURE.to_owned() }
}

fn at(seconds: i64) -> Timestamp {
    Timestamp::from_seconds(seconds)
}

fn check(signed: &Signed, body: &[u8]) -> Result<(), Refusal> {
    verify(&[secret(SECRET)], signed, body, at(SENT), TOLERANCE)
}

#[test]
fn the_published_example_is_made_and_taken() {
    assert_eq!(sign(&[secret(SECRET)], ID, at(SENT), BODY), published());
    assert_eq!(check(&published(), BODY), Ok(()));
}

#[test]
fn the_headers_go_by_their_published_names() {
    let names = ["webhook-id", "webhook-timestamp", "webhook-signature"];
    assert_eq!(published().headers().map(|(name, _)| name), names);
}

#[test]
fn every_live_secret_signs_and_one_that_fits_is_enough() {
    let both = [other(), secret(SECRET)];
    let signed = sign(&both, ID, at(SENT), BODY);
    assert_eq!(signed.signature.split(' ').nth(1), Some(SIGNATURE));
    assert_eq!(check(&signed, BODY), Ok(()), "the receiver still has the old secret alone");
    assert_eq!(verify(&[other()], &signed, BODY, at(SENT), TOLERANCE), Ok(()), "or the new one alone");
    assert_eq!(verify(&both, &published(), BODY, at(SENT), TOLERANCE), Ok(()), "or the sender the old one");
    assert_eq!(verify(&[other()], &published(), BODY, at(SENT), TOLERANCE), Err(Refusal::Signature));
    assert_eq!(verify(&[], &published(), BODY, at(SENT), TOLERANCE), Err(Refusal::Signature));
}

#[test]
fn signatures_of_other_kinds_are_passed_over_and_prove_nothing() {
    let with = |signature: String| Signed { signature, ..published() };
    assert_eq!(check(&with(format!("v1a,AAAA {SIGNATURE} v2,{}", &SIGNATURE[3..])), BODY), Ok(()));
    let bare = &SIGNATURE[3..];
    for wrong in ["", " ", "v1,", "v1", bare, &format!("v2,{bare}"), &format!("v1a,{bare}"), &format!("V1,{bare}")] {
        assert_eq!(check(&with(wrong.to_owned()), BODY), Err(Refusal::Signature), "{wrong}");
    }
    assert_eq!(check(&with(SIGNATURE[..SIGNATURE.len() - 8].to_owned()), BODY), Err(Refusal::Signature), "a prefix");
}

#[test]
fn the_window_has_both_ends() {
    let after = |seconds| verify(&[secret(SECRET)], &published(), BODY, at(SENT + seconds), TOLERANCE);
    for within in [-300, -299, 0, 299, 300] {
        assert_eq!(after(within), Ok(()), "{within}");
    }
    for beyond in [-1_000_000_000, -301, 301, 86_400, 8_000_000_000] {
        assert_eq!(after(beyond), Err(Refusal::OutsideWindow), "{beyond}");
    }
}

#[test]
fn a_timestamp_is_ten_digits() {
    for wrong in [
        "",
        "161426533",
        "01614265330",
        "+161426533",
        "-161426533",
        "1614265330 ",
        "161426533.",
        "１６１４２６５３３０",
    ] {
        let signed = Signed { timestamp: wrong.to_owned(), ..published() };
        assert_eq!(check(&signed, BODY), Err(Refusal::Timestamp), "{wrong}");
    }
}

#[test]
fn a_dot_cannot_be_moved_from_one_part_to_another() {
    // What is signed is one text: every other way to cut it must be refused.
    let body = br#"1614265331.{"a": 1.5}"#;
    let signed = sign(&[secret(SECRET)], "task.1614265329", at(SENT), body);
    let whole = format!("{}.{}.{}", signed.id, signed.timestamp, String::from_utf8_lossy(body));
    let dots: Vec<usize> = whole.match_indices('.').map(|(at, _)| at).collect();
    let mut taken = Vec::new();
    for (index, first) in dots.iter().enumerate() {
        for second in &dots[index + 1..] {
            let (id, timestamp) = (whole[..*first].to_owned(), whole[first + 1..*second].to_owned());
            let cut = Signed { id: id.clone(), timestamp, signature: signed.signature.clone() };
            if check(&cut, &whole.as_bytes()[second + 1..]).is_ok() {
                taken.push(id);
            }
        }
    }
    // Only an id or a body that holds a timestamp of the same minutes can be cut otherwise: neither is the peer's choice.
    assert_eq!(taken, ["task", "task.1614265329", "task.1614265329.1614265330"]);
    let signed = sign(&[secret(SECRET)], "callback-x", at(SENT), br#"{"a": 1.5}"#);
    let cut = Signed { id: "callback-x.1614265330".to_owned(), timestamp: "{\"a\": 1".to_owned(), ..signed };
    assert_eq!(check(&cut, b"5}"), Err(Refusal::Timestamp));
}

#[test]
fn a_secret_is_24_to_64_bytes_of_base64_behind_its_prefix() {
    let written = |bytes: usize| SigningSecret::from_bytes(vec![1; bytes]).map(|secret| secret.expose());
    for few in [0, 1, 23, 65, 1000] {
        assert!(written(few).is_err(), "{few}");
    }
    for enough in [24, 32, 64] {
        let text = written(enough).expect("that many bytes are enough");
        assert_eq!(secret(&text).expose(), text);
    }
    for wrong in
        ["", "whsec_", &SECRET[6..], "whsec_%%%", "WHSEC_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw", "whsec_MfKQ9r8GKYqr"]
    {
        let refusal = wrong.parse::<SigningSecret>().expect_err("it is no secret").to_string();
        assert!(wrong.len() < 8 || !refusal.contains(&wrong[6..]), "the text tells the secret: {refusal}");
    }
}

#[test]
fn a_secret_is_never_printed() {
    let shown = format!("{:?} {:#?}", secret(SECRET), [secret(SECRET)]);
    assert!(!shown.contains("MfKQ") && shown.contains("[redacted]"), "{shown}");
}

#[test]
fn no_bit_of_a_message_can_be_turned() {
    /// Every text that differs in one bit, of those that a header can hold.
    fn turned(text: &str) -> impl Iterator<Item = String> {
        let bits = (0..text.len()).flat_map(|place| (0..8).map(move |bit| (place, 1 << bit)));
        bits.filter_map(|(place, bit)| {
            let mut bytes = text.as_bytes().to_vec();
            bytes[place] ^= bit;
            String::from_utf8(bytes).ok()
        })
    }
    let of_id = turned(ID).map(|id| Signed { id, ..published() });
    let sent = SENT.to_string();
    let of_time = turned(&sent).map(|timestamp| Signed { timestamp, ..published() });
    let of_signature = turned(SIGNATURE).map(|signature| Signed { signature, ..published() });
    let mut tried = 0;
    for signed in of_id.chain(of_time).chain(of_signature) {
        assert!(check(&signed, BODY).is_err(), "{signed:?}");
        tried += 1;
    }
    for place in 0..BODY.len() * 8 {
        let mut body = BODY.to_vec();
        body[place / 8] ^= 1 << (place % 8);
        assert!(check(&published(), &body).is_err(), "{body:?}");
        tried += 1;
    }
    assert!(tried > 700, "{tried}");
}

proptest! {
    #[test]
    fn what_was_signed_is_taken(
        keys in prop::collection::vec(prop::collection::vec(any::<u8>(), 24..=64), 1..4),
        id in "[!-~]{1,64}",
        body in prop::collection::vec(any::<u8>(), 0..200),
        sent in 1_000_000_000_i64..9_999_999_999,
        late in -300_i64..=300,
    ) {
        let secrets: Vec<_> = keys.into_iter().map(|key| SigningSecret::from_bytes(key).unwrap()).collect();
        let signed = sign(&secrets, &id, at(sent), &body);
        for secret in secrets {
            prop_assert_eq!(verify(&[secret], &signed, &body, at(sent + late), TOLERANCE), Ok(()));
        }
    }
}
