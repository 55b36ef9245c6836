//! Ports for what is started later, or again: nothing else on the machine takes them meanwhile.

use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::ops::Range;
use std::process;
use std::sync::atomic::{AtomicU32, Ordering};

/// Below those that the kernel gives to connections and to whoever binds port 0 (32768 and up on Linux): a port from there
/// that nobody listens on yet may be a connection's a moment later.
const PORTS: Range<u32> = 20_000..32_000;
/// How far apart the first ports of processes with neighbouring ids are.
const STRIDE: u32 = 64;

/// How many were given by this process.
static GIVEN: AtomicU32 = AtomicU32::new(0);

/// An address of loopback that nobody listens on, and that this process gives only once in a while.
///
/// # Panics
///
/// If none of 12,000 is free.
#[must_use]
pub fn free_address() -> SocketAddr {
    let mut tried = PORTS.map(|_| {
        let number = process::id().wrapping_mul(STRIDE).wrapping_add(GIVEN.fetch_add(1, Ordering::Relaxed));
        let port = PORTS.start + number % (PORTS.end - PORTS.start);
        SocketAddr::from((Ipv4Addr::LOCALHOST, u16::try_from(port).expect("it is below 32000")))
    });
    tried.find(|address| TcpListener::bind(address).is_ok()).expect("loopback has a free port")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nobody_is_given_a_port_that_is_taken_or_that_the_kernel_gives() {
        let held: Vec<_> = (0..STRIDE).map(|_| TcpListener::bind(free_address()).expect("it is free")).collect();
        let ports = held.iter().map(|listener| u32::from(listener.local_addr().expect("it is bound").port()));
        assert!(ports.clone().all(|port| PORTS.contains(&port)));
        // Given again from the first one on, those that are held are passed over.
        GIVEN.fetch_sub(STRIDE, Ordering::Relaxed);
        let next = free_address();
        assert!(ports.clone().all(|port| port != u32::from(next.port())), "{next} is taken");
    }
}
