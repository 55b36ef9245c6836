//! The server, killed and started again.

use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use eap_tests::ports::free_address;

use crate::support::{Running, eap};

/// A server that loses patience within seconds: a run has to see many leases end.
const CONFIG: &str = r#"{"timing": {"heartbeat_interval": 1, "lease": 4}, "tasks": {"max_expiries": 50}}"#;

pub(crate) struct Server {
    dir: PathBuf,
    pub(crate) address: SocketAddr,
    running: Running,
    killed: usize,
}

impl Server {
    pub(crate) fn start(dir: &Path) -> Self {
        fs::write(dir.join("eap.json"), CONFIG).expect("there is room");
        let address = free_address();
        let mut running = serve(dir, address);
        running.line("eap: serving on ");
        Self { dir: dir.to_owned(), address, running, killed: 0 }
    }

    /// Kills it, and starts it again.
    pub(crate) fn kill(&mut self) {
        self.running.kill_9();
        self.killed += 1;
        self.running = serve(&self.dir, self.address);
    }

    /// Ends it in order; says how often it was killed.
    pub(crate) fn stop(mut self) -> usize {
        assert_eq!(self.running.stop(), 0, "{}", self.running.log());
        self.killed
    }
}

fn serve(dir: &Path, address: SocketAddr) -> Running {
    let database = format!("sqlite:{}", dir.join("eap.db").display());
    let config = dir.join("eap.json");
    let config = config.to_str().expect("temporary folders have plain names");
    let address = address.to_string();
    let arguments = ["serve", "--listen", &address, "--database", &database, "--config", config];
    Running::start(eap(&arguments).env("EAP_LOG", "error"))
}
