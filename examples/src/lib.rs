//! Small programs that show how to use EAP for Rust, one question each: see `examples/`, and `python/` and `node/`
//! for agents in other languages. Below is the README of the project: its programs are compiled with the tests.
//!
#![doc = include_str!("../../README.md")]

/// The programs of a README that its own crate does not include.
#[cfg(doctest)]
#[doc = include_str!("../../eap-orchestrator/README.md")]
mod orchestrator {}
