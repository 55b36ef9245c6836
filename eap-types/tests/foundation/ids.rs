//! Ids check themselves on the way in.

use std::collections::BTreeSet;

use eap_types::{AgentId, DirectiveId, IdempotencyKey, InstanceId, LeaseId, RequestId, TaskId, TenantId, Timestamp};

const TEXT: &str = "01890a5d-ac96-774b-bcce-b302099a8057";

#[test]
fn a_uuid_is_written_with_hyphens_and_in_lower_case() {
    let id: TaskId = TEXT.to_uppercase().parse().unwrap();
    assert_eq!(id.to_string(), TEXT);
    assert_eq!(format!("{id:?}"), TEXT);
    assert_eq!(serde_json::to_string(&id).unwrap(), format!("\"{TEXT}\""));
    assert_eq!(serde_json::from_str::<TaskId>(&format!("\"{TEXT}\"")).unwrap(), id);
    assert_eq!(TaskId::from_bytes(*id.as_bytes()), id);
}

#[test]
fn what_is_no_uuid_is_refused_without_being_repeated() {
    for text in ["", "t-1", &TEXT[1..], "01890a5d-ac96-774b-bcce-b302099a805g"] {
        let error = text.parse::<TaskId>().unwrap_err();
        assert_eq!(error.to_string(), "task id must be a UUID");
    }
    assert!(serde_json::from_str::<TaskId>("7").is_err());
}

#[test]
fn ids_of_version_7_sort_by_time() {
    let at = |ms: i64| TaskId::v7(Timestamp::from_micros(ms * 1000), [0xff; 10]);
    let ids: Vec<_> = [0, 1, 1_700_000_000_000, 1_700_000_000_001].map(at).into();
    assert!(ids.is_sorted() && ids.iter().collect::<BTreeSet<_>>().len() == 4);
    let text = LeaseId::v7(Timestamp::from_seconds(1_700_000_000), [0; 10]).to_string();
    assert_eq!(text, "018bcfe5-6800-7000-8000-000000000000");
    assert_eq!(AgentId::v7(Timestamp::from_seconds(1_700_000_000), [0; 10]).as_str(), text);
    assert_eq!(at(-5), at(0));
}

#[test]
fn different_random_bytes_make_different_ids() {
    let id = |random| LeaseId::v7(Timestamp::UNIX_EPOCH, [random; 10]);
    assert_ne!(id(1), id(2));
}

#[test]
fn the_default_tenant_is_the_nil_uuid() {
    assert_eq!(TenantId::default().to_string(), "00000000-0000-0000-0000-000000000000");
}

#[test]
fn an_agent_id_is_one_safe_part_of_a_path() {
    for text in [TEXT, "bot", "agent kit #1", "日本", "...", &"é".repeat(128)] {
        assert_eq!(text.parse::<AgentId>().unwrap().as_str(), text);
    }
    for text in ["", " a", "a ", "a/b", "a\nb", "a\u{7f}", ".", "..", &"é".repeat(129)] {
        assert!(text.parse::<AgentId>().is_err(), "{text:?}");
        assert!(serde_json::from_str::<AgentId>(&serde_json::to_string(text).unwrap()).is_err());
    }
}

#[test]
fn texts_for_headers_are_visible_ascii() {
    assert!("req_1~!".parse::<RequestId>().is_ok());
    assert!("k".repeat(255).parse::<IdempotencyKey>().is_ok());
    for text in ["", "a b", "é", "a\r\nb"] {
        assert!(text.parse::<RequestId>().is_err(), "{text:?}");
        assert!(text.parse::<IdempotencyKey>().is_err(), "{text:?}");
        assert!(text.parse::<DirectiveId>().is_err(), "{text:?}");
    }
    assert!("k".repeat(129).parse::<RequestId>().is_err());
    assert!("k".repeat(256).parse::<IdempotencyKey>().is_err());
}

#[test]
fn an_instance_id_is_visible_in_any_script() {
    assert!("hôst-1".parse::<InstanceId>().is_ok());
    for text in ["", "a b", "a\u{2003}b", "a\0", &"a".repeat(129)] {
        assert!(text.parse::<InstanceId>().is_err(), "{text:?}");
    }
}

#[test]
fn a_refusal_says_what_and_why() {
    let error = "".parse::<AgentId>().unwrap_err();
    assert_eq!((error.what(), error.why()), ("agent id", "must have 1 to 128 characters"));
    assert_eq!(error.to_string(), "agent id must have 1 to 128 characters");
}

#[test]
fn an_id_borrowed_as_text_finds_its_place_in_a_set() {
    let ids = BTreeSet::from(["a".parse::<AgentId>().unwrap()]);
    assert!(ids.contains("a") && !ids.contains("b"));
}
