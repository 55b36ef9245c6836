//! The processes: one server and twenty agents, killed and started again.

use std::collections::BTreeMap;
use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use eap_tests::ports::free_address;
use eap_tests::proxy::Proxy;

use crate::network::Network;
use crate::support::{Running, eap};

/// How many agents there are of each transport.
const AGENTS: [(&str, usize); 3] = [("pull", 7), ("push", 6), ("websocket", 7)];
/// Appends which task and attempt it does, in which process of which agent, and gives the input with the attempt behind.
const SCRIPT: &str = r#"read -r input
echo "$EAP_TASK_ID $EAP_ATTEMPT $1 $2" >>"$0"
sleep "0.0$((EAP_ATTEMPT * 37 % 7))"
printf '%s %s' "$input" "$EAP_ATTEMPT""#;
/// A server that loses patience within seconds: a run has to see many leases end.
const CONFIG: &str = r#"{"timing": {"heartbeat_interval": 1, "lease": 4}, "tasks": {"max_expiries": 50}}"#;

/// A run of the command: which agent it was, and which of its processes.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Run {
    pub(crate) agent: usize,
    pub(crate) process: usize,
}

/// The runs of each task's attempts.
pub(crate) type Runs = BTreeMap<(String, u32), Vec<Run>>;

pub(crate) struct Parts {
    dir: PathBuf,
    address: SocketAddr,
    server: Running,
    to_server: Proxy,
    agents: Vec<Agent>,
    servers_killed: usize,
}

struct Agent {
    number: usize,
    transport: &'static str,
    /// Where it listens if it is pushed to, and how the server gets there.
    served: Option<(SocketAddr, Proxy)>,
    running: Running,
    /// How many processes there were before this one.
    killed: usize,
}

impl Parts {
    pub(crate) async fn start(dir: &Path, network: &Arc<Network>) -> Self {
        fs::write(dir.join("eap.json"), CONFIG).expect("there is room");
        let address = free_address();
        let mut server = serve(dir, address);
        server.line("eap: serving on ");
        let to_server = network.way_to(address).await;
        let mut agents = Vec::new();
        for transport in AGENTS.iter().flat_map(|(transport, agents)| vec![*transport; *agents]) {
            let number = agents.len();
            let served = if transport == "push" {
                let address = free_address();
                Some((address, network.way_to(address).await))
            } else {
                None
            };
            let running = run(dir, number, 0, transport, &to_server.url(), served.as_ref());
            agents.push(Agent { number, transport, served, running, killed: 0 });
        }
        Self { dir: dir.to_owned(), address, server, to_server, agents, servers_killed: 0 }
    }

    /// The server's address, past the network.
    pub(crate) fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// The way over the network.
    pub(crate) fn proxied_url(&self) -> String {
        self.to_server.url()
    }

    pub(crate) fn kill_the_server(&mut self) {
        self.server.kill_9();
        self.servers_killed += 1;
        self.server = serve(&self.dir, self.address);
    }

    pub(crate) fn kill_an_agent(&mut self, which: usize) {
        let which = which % self.agents.len();
        let agent = &mut self.agents[which];
        agent.running.kill_9();
        agent.killed += 1;
        let served = agent.served.as_ref();
        agent.running = run(&self.dir, agent.number, agent.killed, agent.transport, &self.to_server.url(), served);
    }

    /// What the command wrote down.
    pub(crate) fn runs(&self) -> Runs {
        let mut runs = Runs::new();
        for line in fs::read_to_string(self.dir.join("runs")).unwrap_or_default().lines() {
            let words: Vec<&str> = line.split(' ').collect();
            let [task, attempt, agent, process] = words[..] else { panic!("not a line of the command: {line}") };
            let number = |word: &str| word.parse::<usize>().expect("it is a number");
            let run = Run { agent: number(agent), process: number(process) };
            runs.entry((task.to_owned(), attempt.parse().expect("it is a number"))).or_default().push(run);
        }
        runs
    }

    /// Ends everything in order; says how many agents and servers were killed.
    pub(crate) fn stop(mut self) -> (usize, usize) {
        for agent in &mut self.agents {
            assert_eq!(agent.running.stop(), 0, "{}", agent.running.log());
        }
        assert_eq!(self.server.stop(), 0, "{}", self.server.log());
        (self.agents.iter().map(|agent| agent.killed).sum(), self.servers_killed)
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

fn run(
    dir: &Path,
    number: usize,
    process: usize,
    transport: &str,
    url: &str,
    served: Option<&(SocketAddr, Proxy)>,
) -> Running {
    let data = dir.join(format!("agent-{number}"));
    let mut command = eap(&["agent", "run", "--capability", "work", "--max-tasks", "4", "--drain-grace", "5"]);
    command.args(["--name", &format!("AGENT-CHAOS-{number:02}"), "--transport", transport, "--url", url]);
    command.arg("--data-dir").arg(data).env("EAP_LOG", "error");
    if let Some((address, way)) = served {
        command.args(["--listen", &address.to_string(), "--endpoint-url", &way.url()]);
    }
    command.args(["--", "sh", "-c", SCRIPT]).arg(dir.join("runs"));
    Running::start(command.args([number.to_string(), process.to_string()]))
}
