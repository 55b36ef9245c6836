//! The mock against a receiver of the tests' own, which checks signatures by code of its own.

mod binary;
mod control;
mod http;
mod mock_shape;
mod real_shape;
mod receiver;
mod report_faults;
mod retries;
mod run_faults;
mod webhook_faults;
mod webhooks;
