//! What every test needs: a server, an operator, agents, and a way to wait.

mod agent;
mod call;
mod endpoint;
mod gate;
mod operator;
mod raw;
mod receiver;
mod server;
mod shape;
mod socket;
mod wait;

pub(crate) use agent::{Agent, FEATURES, registration};
pub(crate) use call::{Answer, Api, Call};
pub(crate) use endpoint::{Endpoint, Turn};
pub(crate) use gate::{GatedStore, Hold};
pub(crate) use operator::{Operator, id_of, work};
pub(crate) use raw::{Peer, request};
pub(crate) use receiver::{Play, Received, Receiver};
pub(crate) use server::{OPERATOR_KEY, REGISTRATION_SECRET, START, Server, Setup};
pub(crate) use shape::{assert_shape, assignment_shape, task_shape};
pub(crate) use socket::Socket;
pub(crate) use wait::{BLINK, eventually, in_time};
