//! The README of the project, included so that its programs are compiled with the tests. The examples
//! themselves are in `examples/`, one question each; agents in other languages are in `python/` and `node/`.
//!
#![doc = include_str!("../../README.md")]
