//! End to end, through the public API: a real server on a port of its own, raw JSON over HTTP.
//!
//! Names of tests are promises. The G and A numbers are those of docs/reliability.md.

mod harness;
mod sdk_harness;

mod arrows;
mod bad_input;
mod bad_query;
mod batch;
mod by_the_clock;
mod callbacks;
mod client;
mod contract;
mod dead_letters;
mod events;
mod explain;
mod faulty_store;
mod framing;
mod hang_ups;
mod heartbeats;
mod identity;
mod in_process;
mod keys;
mod late_news;
mod leases;
mod loopback;
mod metrics;
mod registration;
mod registration_secrets;
mod reports;
mod restart;
mod results;
mod rotation;
mod scoring;
mod sdk_blocking;
mod sdk_crash;
mod sdk_drain;
mod sdk_failures;
mod sdk_identity;
mod sdk_leases;
mod sdk_load;
mod sdk_outage;
mod sdk_rotation;
mod secrets;
mod starting_and_stopping;
mod tasks;
mod traces;
