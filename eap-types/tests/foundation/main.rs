//! The foundation of the crate, through its public API: ids, times, opaque JSON, the decoder.

mod ids;
mod json;
mod read;
mod time;
