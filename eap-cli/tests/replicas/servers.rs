//! The replicas, each with a way of its own to the database, and the balancer before them.

use std::ffi::OsStr;
use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use eap_tests::link::Link;
use eap_tests::ports::free_address;
use eap_tests::postgres::PrivateServer;
use nix::sys::signal::{Signal, kill};
use tokio::task::JoinHandle;
use tokio::time::sleep;

use crate::chance::Chance;
use crate::faults::Fault;
use crate::support::{EAP, Running, eap_at};

/// How many replicas there are.
pub(crate) const REPLICAS: usize = 3;
/// How long a lease holds where a run has to see many of them end.
pub(crate) const SHORT_LEASE: Duration = Duration::from_secs(4);

/// The exit code of a server that may be started again (docs/operations.md).
const MAY_BE_REPEATED: i32 = 1;
/// How long replicas may take to serve again once their database is there.
const RECOVERY: Duration = Duration::from_secs(60);
/// What a server says once it serves.
const SERVING: &str = "eap: serving on ";

/// Servers that hear of their agents each second, and let a task be lost to many of them.
fn config(lease: Duration) -> String {
    let timing = serde_json::json!({ "heartbeat_interval": 1, "lease": lease.as_secs() });
    serde_json::json!({ "timing": timing, "tasks": { "max_expiries": 50 } }).to_string()
}

pub(crate) struct Servers {
    dir: PathBuf,
    replicas: Vec<Replica>,
    balancer: Link,
}

struct Replica {
    address: SocketAddr,
    /// Its way to the database.
    link: Arc<Link>,
    database: String,
    running: Running,
    /// Whether it was seen to serve; one that was started again may not yet.
    is_up: bool,
    /// What ends when it suffers from nothing any more.
    trouble: Option<JoinHandle<()>>,
}

impl Servers {
    pub(crate) async fn start(dir: &Path, database: &PrivateServer, lease: Duration) -> Self {
        Self::start_of(EAP.as_ref(), dir, database, lease).await
    }

    /// Those of another build; whatever is started again is of this one.
    pub(crate) async fn start_of(program: &OsStr, dir: &Path, database: &PrivateServer, lease: Duration) -> Self {
        fs::write(dir.join("eap.json"), config(lease)).expect("there is room");
        let url = database.url();
        let (front, back) = url.split_once("127.0.0.1:").expect("a private server is on loopback");
        let (port, rest) = back.split_once('/').expect("the URL names a database");
        let target: SocketAddr = format!("127.0.0.1:{port}").parse().expect("it is an address");
        let mut replicas = Vec::new();
        for _ in 0..REPLICAS {
            let address = free_address();
            let link = Link::start(vec![target]).await.expect("loopback has a free port");
            let database = format!("{front}{}/{rest}", link.address());
            let mut running = serve(program, dir, address, &database);
            running.line(SERVING);
            replicas.push(Replica { address, link: Arc::new(link), database, running, is_up: true, trouble: None });
        }
        let targets = replicas.iter().map(|replica| replica.address).collect();
        let balancer = Link::start(targets).await.expect("loopback has a free port");
        Self { dir: dir.to_owned(), replicas, balancer }
    }

    /// Where the balancer listens.
    pub(crate) fn balanced(&self) -> SocketAddr {
        self.balancer.address()
    }

    /// The same as a base.
    pub(crate) fn url(&self) -> String {
        format!("http://{}", self.balanced())
    }

    /// Something happens to one of them, unless it suffers from something already; says what it was. To be called in a
    /// runtime, which ends it after a while.
    pub(crate) fn suffer(&mut self, which: usize, fault: Fault, chance: &mut Chance) -> &'static str {
        let replica = &mut self.replicas[which % REPLICAS];
        let suffers = replica.trouble.as_ref().is_some_and(|trouble| !trouble.is_finished());
        if suffers || replica.running.ended().is_some() {
            return "nothing, as one suffers already";
        }
        // Longer than a lease, and at times longer than a replica may be silent before others take it for dead.
        let lasts = SHORT_LEASE + Duration::from_millis(chance.below(10_000));
        replica.trouble = Some(match fault {
            Fault::Kill => {
                replica.running.kill_9();
                replica.start_again(&self.dir);
                return fault.name();
            }
            Fault::Stop => {
                replica.running.signal(Signal::SIGSTOP);
                let pid = replica.running.pid();
                tokio::spawn(async move {
                    sleep(lasts).await;
                    kill(pid, Signal::SIGCONT).expect("nobody kills one that is stopped");
                })
            }
            Fault::CutOff => {
                let link = Arc::clone(&replica.link);
                if chance.below(2) == 0 {
                    link.cut();
                } else {
                    link.fall_silent();
                }
                tokio::spawn(async move {
                    sleep(lasts).await;
                    link.heal();
                })
            }
        });
        fault.name()
    }

    /// Starts those again that ended because their database was not there when they began, as whoever runs them in earnest
    /// does; says how many. One that served does not end by itself.
    pub(crate) fn supervise(&mut self) -> usize {
        let mut started = 0;
        for replica in &mut self.replicas {
            if let Some(code) = replica.running.ended() {
                let log = replica.running.log();
                assert!(code == MAY_BE_REPEATED && !replica.is_up && !log.contains(SERVING), "{code}: {log}");
                replica.start_again(&self.dir);
                started += 1;
            }
        }
        started
    }

    /// Waits until none of them suffers any more, and all of them serve; says how many were started again for that.
    pub(crate) async fn recover(&mut self) -> usize {
        for trouble in self.replicas.iter_mut().filter_map(|replica| replica.trouble.take()) {
            trouble.await.expect("it ends well");
        }
        let (mut started, deadline) = (0, Instant::now() + RECOVERY);
        while self.replicas.iter().any(|replica| !replica.is_up) {
            assert!(Instant::now() < deadline, "a replica does not come back");
            started += self.supervise();
            for replica in self.replicas.iter_mut().filter(|replica| !replica.is_up) {
                replica.is_up = replica.running.try_line(SERVING).is_some();
            }
        }
        started + self.supervise()
    }

    /// Stops one in order, and starts it again once it has ended.
    pub(crate) fn replace(&mut self, which: usize) {
        let replica = &mut self.replicas[which];
        assert_eq!(replica.running.stop(), 0, "{}", replica.running.log());
        replica.start_again(&self.dir);
        replica.running.line(SERVING);
    }

    /// Ends all of them in order.
    pub(crate) fn stop(mut self) {
        for replica in &mut self.replicas {
            assert_eq!(replica.running.stop(), 0, "{}", replica.running.log());
        }
    }
}

impl Replica {
    fn start_again(&mut self, dir: &Path) {
        self.running = serve(EAP.as_ref(), dir, self.address, &self.database);
        self.is_up = false;
    }
}

fn serve(program: &OsStr, dir: &Path, address: SocketAddr, database: &str) -> Running {
    let config = dir.join("eap.json");
    let config = config.to_str().expect("temporary folders have plain names");
    let mut command = eap_at(program, &["serve", "--listen", &address.to_string(), "--config", config]);
    command.env("EAP_DATABASE_URL", database).env("EAP_SEALING_KEY", "a sealing key for the tests alone");
    Running::start(command.env("EAP_LOG", "error"))
}
