//! A fault by the name that `/control/faults` has for it, as in `webhooks.late_ms=500`.

use mock_agentkit::Faults;
use serde_json::{Value, json};

/// A fault on the command line.
#[derive(Clone, Debug)]
pub(crate) struct NamedFault {
    group: String,
    name: String,
    value: Value,
}

/// Reads one, and checks that there is such a fault.
pub(crate) fn parse(text: &str) -> Result<NamedFault, String> {
    let (path, value) = text.split_once('=').unwrap_or((text, "true"));
    let (group, name) = path.split_once('.').ok_or("it is written as GROUP.NAME or GROUP.NAME=VALUE")?;
    let value = value.parse().map_err(|_| "its value is true, false or a number")?;
    let fault = NamedFault { group: group.to_owned(), name: name.to_owned(), value };
    all(std::slice::from_ref(&fault)).map(|_| fault)
}

/// All of them together.
pub(crate) fn all(faults: &[NamedFault]) -> Result<Faults, String> {
    let mut whole = json!({});
    for NamedFault { group, name, value } in faults {
        whole[group][name] = value.clone();
    }
    serde_json::from_value(whole).map_err(|error| error.to_string())
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use mock_agentkit::WebhookFaults;

    use super::*;

    #[test]
    fn faults_are_named_as_the_control_names_them() {
        let named: Vec<NamedFault> = ["webhooks.late_ms=500", "webhooks.times=3", "work.crash"]
            .iter()
            .map(|text| parse(text).unwrap())
            .collect();
        let faults = all(&named).unwrap();
        assert_eq!(faults.webhooks, WebhookFaults::late(Duration::from_millis(500)).times(3));
        assert!(faults.work.crash && !faults.work.fail);
    }

    #[test]
    fn what_is_no_fault_is_refused() {
        for wrong in [
            "",
            "crash",
            "work.",
            "work.explode",
            "webhook.drop",
            "webhooks.late_ms=soon",
            "runs.late_ms",
            "work.crash=1",
        ] {
            assert!(parse(wrong).is_err(), "{wrong}");
        }
    }
}
