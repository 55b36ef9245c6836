//! Prometheus' text format, read strictly: whatever a scraper may complain about is an error here.

use std::collections::{BTreeMap, BTreeSet};

use crate::harness::{Answer, Server};

/// The samples of a page, and the metrics they belong to.
#[derive(Clone, Debug, Default)]
pub(crate) struct Page {
    /// By name and labels as they are written, as in `eap_agents{state="online"}`.
    samples: BTreeMap<String, f64>,
    /// What each metric is.
    pub(super) kinds: BTreeMap<String, String>,
}

impl Page {
    /// What the server tells its operator.
    pub(crate) async fn of(server: &Server) -> Self {
        let call = server.operator().get("/metrics");
        let (status, content_type, text) = call.page().await;
        assert_eq!((status, content_type.as_str()), (200, "text/plain; version=0.0.4; charset=utf-8"), "{text}");
        Self::read(&text)
    }

    /// Reads a page, or fails at what is wrong with it.
    pub(super) fn read(text: &str) -> Self {
        assert!(text.ends_with('\n'), "the last line has an end as well");
        let (mut page, mut helped, mut current) = (Self::default(), BTreeSet::new(), String::new());
        for line in text.lines() {
            if let Some(rest) = line.strip_prefix("# HELP ") {
                let (name, help) = rest.split_once(' ').expect("a metric has a help");
                assert!(help.ends_with('.') && helped.insert(name.to_owned()), "{line}");
                name.clone_into(&mut current);
            } else if let Some(rest) = line.strip_prefix("# TYPE ") {
                let (name, kind) = rest.split_once(' ').expect("a metric has a type");
                assert_eq!(name, current, "the type follows the help");
                assert!(["counter", "gauge", "histogram"].contains(&kind), "{line}");
                assert_eq!(name.ends_with("_total"), kind == "counter", "{line}");
                assert!(page.kinds.insert(name.to_owned(), kind.to_owned()).is_none(), "{line}");
            } else {
                let (sample, value) = line.rsplit_once(' ').expect("a sample has a value");
                let value: f64 = value.parse().expect("a value is a number");
                assert!(value.is_finite() && value >= 0.0, "{line}");
                let name = sample.split('{').next().unwrap_or_default();
                let is_histogram = page.kinds.get(&current).is_some_and(|kind| kind == "histogram");
                let suffixes: &[&str] = if is_histogram { &["_bucket", "_sum", "_count"] } else { &[""] };
                assert!(
                    suffixes.iter().any(|suffix| name.strip_suffix(suffix) == Some(&current)),
                    "{line} stands under {current}"
                );
                assert!(name.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'_'));
                check_labels(&sample[name.len()..]);
                assert!(page.samples.insert(sample.to_owned(), value).is_none(), "{line} comes twice");
            }
        }
        page.check_histograms();
        page
    }

    fn check_histograms(&self) {
        for (name, _) in self.kinds.iter().filter(|(_, kind)| *kind == "histogram") {
            for (labels, count) in self.labelled(&format!("{name}_count")) {
                let mut buckets: Vec<(f64, f64)> = Vec::new();
                for (bucket, below) in self.labelled(&format!("{name}_bucket")) {
                    let (others, bound) = bucket.split_once("le=\"").expect("a bucket has a bound");
                    let bound = bound.trim_end_matches("\"}");
                    if others.trim_end_matches(',').trim_end_matches('{') == labels.trim_end_matches('}') {
                        buckets.push((bound.replace("+Inf", "inf").parse().expect("a bound is a number"), below));
                    }
                }
                buckets.sort_by(|a, b| a.0.total_cmp(&b.0));
                assert!(buckets.is_sorted_by(|a, b| a.0 < b.0 && a.1 <= b.1), "{name}{labels}: {buckets:?}");
                assert_eq!(buckets.last(), Some(&(f64::INFINITY, count)), "{name}{labels}");
                assert!(self.samples.contains_key(&format!("{name}_sum{labels}")), "{name}{labels}");
            }
        }
    }

    /// The samples of one name, by their labels as they are written.
    fn labelled<'a>(&'a self, name: &str) -> impl Iterator<Item = (&'a str, f64)> {
        let samples = self.samples.iter().map(|(sample, value)| (sample.as_str(), *value));
        let name = name.to_owned();
        samples.filter_map(move |(sample, value)| {
            let labels = sample.strip_prefix(name.as_str())?;
            (labels.is_empty() || labels.starts_with('{')).then_some((labels, value))
        })
    }

    /// The value of a sample, which has to be there.
    #[track_caller]
    pub(crate) fn get(&self, sample: &str) -> f64 {
        *self.samples.get(sample).unwrap_or_else(|| panic!("there is no {sample}"))
    }

    /// The words that stand under a label of one metric.
    pub(super) fn words(&self, name: &str, label: &str) -> Vec<String> {
        let start = format!("{{{label}=\"");
        let words =
            self.labelled(name).filter_map(|(labels, _)| labels.strip_prefix(start.as_str())?.split('"').next());
        words.map(str::to_owned).collect()
    }

    /// All values of one metric that are not zero, by their labels.
    pub(super) fn all(&self, name: &str) -> BTreeMap<String, u64> {
        assert!(self.kinds.contains_key(name), "there is no {name}");
        let samples = self.labelled(name).filter(|(_, value)| *value != 0.0);
        samples.map(|(labels, value)| (labels.to_owned(), value as u64)).collect()
    }
}

/// `{name="value",…}` with values in which quotes and backslashes are escaped, or nothing.
fn check_labels(labels: &str) {
    if labels.is_empty() {
        return;
    }
    let mut rest = labels.strip_prefix('{').and_then(|rest| rest.strip_suffix('}')).expect("labels stand in braces");
    loop {
        let (name, value) = rest.split_once("=\"").expect("a label has a value");
        assert!(name.bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'_'), "{labels}");
        let mut escaped = false;
        let end = value.find(|letter| {
            let is_end = letter == '"' && !escaped;
            escaped = letter == '\\' && !escaped;
            is_end
        });
        rest = &value[end.expect("a value ends") + 1..];
        match rest.strip_prefix(',') {
            Some(next) => rest = next,
            None => return assert_eq!(rest, "", "{labels}"),
        }
    }
}

/// What a refused scrape is answered.
pub(super) async fn refused(server: &Server, key: Option<&str>) -> Answer {
    let call = server.api.get("/metrics");
    match key {
        Some(key) => call.bearer(key).send().await,
        None => call.send().await,
    }
}
