//! What the PostgreSQL store promises beyond the contract: several of it on one schema, servers that go away, versions.
#![cfg(all(feature = "postgres", unix))]

mod costs;
mod network;
mod news;
mod opening;
mod outages;
#[path = "../postgres/mod.rs"]
mod postgres;
mod proxy;
mod records;
mod replicas;
