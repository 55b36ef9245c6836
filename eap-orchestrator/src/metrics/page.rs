//! The page itself, in Prometheus' text format (version 0.0.4).
//!
//! Written by hand: the format is three kinds of lines. The crates for it keep a lock in each histogram or a global
//! registry, and would be asked for nothing but these lines.

use std::fmt::{Display, Write as _};

use crate::store::Distribution;

/// What the page is, for `Content-Type`.
pub(crate) const CONTENT_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";

/// A page that is being written.
#[derive(Debug, Default)]
pub(super) struct Page(String);

/// The samples of one metric.
pub(super) struct Samples<'a> {
    page: &'a mut String,
    name: &'static str,
}

impl Page {
    /// Begins a metric that only rises; its name ends in `_total`.
    pub(super) fn counter(&mut self, name: &'static str, help: &str) -> Samples<'_> {
        self.begin(name, "counter", help)
    }

    /// Begins a metric that rises and falls.
    pub(super) fn gauge(&mut self, name: &'static str, help: &str) -> Samples<'_> {
        self.begin(name, "gauge", help)
    }

    /// Begins a metric of distributions.
    pub(super) fn histogram(&mut self, name: &'static str, help: &str) -> Samples<'_> {
        self.begin(name, "histogram", help)
    }

    fn begin(&mut self, name: &'static str, kind: &str, help: &str) -> Samples<'_> {
        let help = help.replace('\\', "\\\\").replace('\n', "\\n");
        line(&mut self.0, format_args!("# HELP {name} {help}\n# TYPE {name} {kind}"));
        Samples { page: &mut self.0, name }
    }

    pub(super) fn finish(self) -> String {
        self.0
    }
}

impl Samples<'_> {
    /// One value, under these labels.
    pub(super) fn value(&mut self, labels: &[(&str, &str)], value: impl Display) -> &mut Self {
        self.sample("", labels, None, value)
    }

    /// A distribution whose values are told in `unit`s, as in 1,000,000 for microseconds told in seconds.
    pub(super) fn distribution(&mut self, labels: &[(&str, &str)], distribution: &Distribution, unit: f64) {
        let mut below = 0;
        for (index, count) in distribution.counts.iter().enumerate() {
            below += count;
            let bound = distribution.bounds.get(index).map(|bound| (*bound as f64 / unit).to_string());
            self.sample("_bucket", labels, Some(bound.as_deref().unwrap_or("+Inf")), below);
        }
        self.sample("_sum", labels, None, distribution.sum as f64 / unit);
        self.sample("_count", labels, None, below);
    }

    fn sample(&mut self, suffix: &str, labels: &[(&str, &str)], bound: Option<&str>, value: impl Display) -> &mut Self {
        let mut written = String::new();
        for (name, value) in labels.iter().copied().chain(bound.map(|bound| ("le", bound))) {
            let comma = if written.is_empty() { "" } else { "," };
            let value = value.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n");
            let _ = write!(written, "{comma}{name}=\"{value}\"");
        }
        let name = self.name;
        if written.is_empty() {
            line(self.page, format_args!("{name}{suffix} {value}"));
        } else {
            line(self.page, format_args!("{name}{suffix}{{{written}}} {value}"));
        }
        self
    }
}

fn line(page: &mut String, text: std::fmt::Arguments<'_>) {
    writeln!(page, "{text}").expect("a string takes every line");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_page_is_written_as_prometheus_reads_it() {
        let mut page = Page::default();
        page.counter("a_total", "Two\nlines \\ more.").value(&[("x", "say \"\\\n\"")], 3).value(&[], 4);
        page.gauge("b_seconds", "One.").value(&[("y", ""), ("z", "é")], 0.25);
        let distribution = Distribution { bounds: &[250, 1_000_000], counts: vec![1, 2, 3], sum: 1_500_000 };
        page.histogram("c_seconds", "Both.").distribution(&[("call", "x")], &distribution, 1e6);
        let expected = r#"# HELP a_total Two\nlines \\ more.
# TYPE a_total counter
a_total{x="say \"\\\n\""} 3
a_total 4
# HELP b_seconds One.
# TYPE b_seconds gauge
b_seconds{y="",z="é"} 0.25
# HELP c_seconds Both.
# TYPE c_seconds histogram
c_seconds_bucket{call="x",le="0.00025"} 1
c_seconds_bucket{call="x",le="1"} 3
c_seconds_bucket{call="x",le="+Inf"} 6
c_seconds_sum{call="x"} 1.5
c_seconds_count{call="x"} 6
"#;
        assert_eq!(page.finish(), expected);
    }
}
