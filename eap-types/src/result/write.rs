//! How a result is written: its figures twice, beside the other fields and in `metrics`.

use serde::ser::SerializeMap;
use serde::{Serialize, Serializer};

use super::{FIGURES, TaskResult};
use crate::figure;

// By hand because of `metrics`, which exists on the wire only.
impl Serialize for TaskResult {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let figures = [self.execution_time_ms, self.tokens_used, self.cost_usd];
        let mut map = serializer.serialize_map(None)?;
        map.serialize_entry("task_id", &self.task_id)?;
        map.serialize_entry("status", &self.status)?;
        map.serialize_entry("artifacts", &self.artifacts)?;
        map.serialize_entry("output_data", &self.output_data)?;
        write_present(&mut map, "error_message", self.error_message.as_ref())?;
        write_figures(&mut map, figures)?;
        if figures.iter().any(|figure| !figure::is_absent(figure)) {
            map.serialize_entry("metrics", &Metrics(figures))?;
        }
        write_present(&mut map, "lease_id", self.lease_id.as_ref())?;
        write_present(&mut map, "attempt", self.attempt.as_ref())?;
        write_present(&mut map, "error_code", self.error_code.as_ref())?;
        write_present(&mut map, "retryable", self.retryable.as_ref())?;
        map.end()
    }
}

struct Metrics([Option<f64>; 3]);

impl Serialize for Metrics {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(None)?;
        write_figures(&mut map, self.0)?;
        map.end()
    }
}

fn write_figures<M: SerializeMap>(map: &mut M, figures: [Option<f64>; 3]) -> Result<(), M::Error> {
    for (name, figure) in FIGURES.into_iter().zip(figures) {
        if !figure::is_absent(&figure) {
            write_present(map, name, figure.map(figure::Figure).as_ref())?;
        }
    }
    Ok(())
}

fn write_present<M: SerializeMap, T: Serialize>(map: &mut M, name: &str, value: Option<&T>) -> Result<(), M::Error> {
    match value {
        Some(value) => map.serialize_entry(name, value),
        None => Ok(()),
    }
}
