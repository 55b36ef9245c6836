//! A PostgreSQL server for tests: the one that `EAP_TEST_POSTGRES_URL` names, else a private one of this process, from the
//! machine's own `initdb` and `postgres`.
//!
//! A private server listens on 127.0.0.1, keeps its data in a temporary folder with `fsync` on, and ends with the process that
//! started it, however that ends. Where there is neither, tests are skipped, and that is said aloud; under
//! `EAP_REQUIRE_POSTGRES=1` they fail instead.

mod schema;

use std::ffi::OsString;
use std::io::{self, Write as _};
use std::net::TcpStream;
use std::os::unix::fs::{MetadataExt as _, chown};
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::OnceLock;
use std::thread::sleep;
use std::time::{Duration, Instant};
use std::{env, fs};

pub use self::schema::Schema;
use crate::ports::free_address;

/// Where packages put what is not on the path, with the versions below it or without.
const FOLDERS: [&str; 4] = ["/usr/lib/postgresql", "/usr/pgsql", "/opt/homebrew/opt", "/usr/local/pgsql"];

/// Who may run a server where this process is root, which PostgreSQL refuses.
const USERS: [&str; 2] = ["postgres", "nobody"];

/// How long a server may take to answer.
const PATIENCE: Duration = Duration::from_secs(60);

/// Runs a server until a word comes in, or the process at the other end is gone. Then it gets a signal, and its folder goes,
/// unless the word says otherwise.
const KEEPER: &str = r#"
folder=$1 signal=$2
shift 2
"$@" >>"$folder/log" 2>&1 &
server=$!
read -r word
kill -"$signal" "$server"
wait "$server"
[ "$word" = keep ] || rm -rf "$folder"
"#;

/// A server that tests can use.
#[derive(Debug)]
pub struct Server {
    url: String,
}

impl Server {
    /// The URL of a database in which tests may make schemas.
    pub fn url(&self) -> &str {
        &self.url
    }
}

/// The server of this process, found or started when it is first asked for; `None` if tests are to be skipped.
///
/// # Panics
///
/// If there is none and `EAP_REQUIRE_POSTGRES` is set, or if one is there and does not start.
pub fn server() -> Option<&'static Server> {
    static SERVER: OnceLock<Option<(Server, Option<PrivateServer>)>> = OnceLock::new();
    let found = SERVER.get_or_init(|| {
        if let Ok(url) = env::var("EAP_TEST_POSTGRES_URL") {
            return Some((Server { url }, None));
        }
        let private = PrivateServer::start()?;
        Some((Server { url: private.url() }, Some(private)))
    });
    found.as_ref().map(|(server, _)| server)
}

/// A server of one test, which may stop it and start it again.
#[derive(Debug)]
pub struct PrivateServer {
    postgres: PathBuf,
    folder: PathBuf,
    port: u16,
    user: Option<(u32, u32)>,
    keeper: Option<Keeper>,
}

impl PrivateServer {
    /// Makes a database cluster and starts its server; `None` if this machine has no PostgreSQL.
    ///
    /// # Panics
    ///
    /// As [`server`].
    pub fn start() -> Option<Self> {
        let Some(programs) = programs() else {
            missing("no PostgreSQL: EAP_TEST_POSTGRES_URL is not set, and initdb and postgres were not found");
            return None;
        };
        let folder = tempfile::Builder::new().prefix("eap-postgres-").tempdir().expect("a folder can be made").keep();
        let is_root = folder.metadata().expect("the folder is there").uid() == 0;
        let user = is_root.then(|| USERS.into_iter().find_map(ids_of).expect("there is a user beside root"));
        if let Some((uid, gid)) = user {
            chown(&folder, Some(uid), Some(gid)).expect("root may give a folder away");
        }
        let postgres = programs.join("postgres");
        let mut server = Self { postgres, folder, port: 0, user, keeper: None };
        let mut initdb = command(user, &server.folder, &programs.join("initdb"));
        // The data is new: a power cut now costs nothing.
        initdb.args(["--no-sync", "-U", "eap", "-A", "trust", "-E", "UTF8", "--locale=C", "-D"]);
        let made = initdb.arg(server.folder.join("data")).output().expect("initdb runs");
        assert!(made.status.success(), "initdb: {}", String::from_utf8_lossy(&made.stderr));
        server.start_again();
        Some(server)
    }

    /// The URL of its database.
    pub fn url(&self) -> String {
        format!("postgres://eap@127.0.0.1:{}/postgres", self.port)
    }

    /// Stops the server as its operator would: connections are cut, and the data stays.
    pub fn stop(&mut self) {
        if let Some(keeper) = self.keeper.take() {
            keeper.stop();
        }
    }

    /// Starts the server that was stopped, on the port that it had.
    ///
    /// # Panics
    ///
    /// If it does not answer in time.
    pub fn start_again(&mut self) {
        if self.port == 0 {
            self.port = free_address().port();
        }
        let port = self.port.to_string();
        let mut arguments = vec![self.postgres.clone().into_os_string(), "-D".into(), self.folder.join("data").into()];
        arguments.extend(["-k".into(), self.folder.clone().into_os_string()]);
        arguments.extend(["-h", "127.0.0.1", "-p", &port].map(OsString::from));
        // As its operator would: connections are cut, and what was committed is there.
        self.keeper = Some(Keeper::start(self.user, &self.folder, "INT", &arguments));
        let started = Instant::now();
        while !self.answers() {
            assert!(started.elapsed() < PATIENCE, "postgres does not answer: {}", self.log());
            sleep(Duration::from_millis(20));
        }
    }

    fn answers(&self) -> bool {
        let mut ask = command(self.user, &self.folder, &self.postgres.with_file_name("pg_isready"));
        ask.args(["-q", "-t", "1", "-h", "127.0.0.1", "-p", &self.port.to_string()]);
        ask.status().is_ok_and(|status| status.success())
    }

    fn log(&self) -> String {
        fs::read_to_string(self.folder.join("log")).unwrap_or_default()
    }
}

impl Drop for PrivateServer {
    fn drop(&mut self) {
        drop(self.keeper.take());
        // Where it was stopped before, nobody has removed it.
        let _ = fs::remove_dir_all(&self.folder);
    }
}

/// A PgBouncer before a private server, which gives a connection to another client after each transaction.
#[derive(Debug)]
pub struct Pooler {
    port: u16,
    _keeper: Keeper,
}

impl Pooler {
    /// Starts one that has so many connections to the server; `None` if this machine has no PgBouncer.
    ///
    /// # Panics
    ///
    /// As [`server`].
    pub fn start(server: &PrivateServer, connections: u32) -> Option<Self> {
        let places = env::var_os("PATH").map(|path| env::split_paths(&path).collect::<Vec<_>>()).unwrap_or_default();
        let places = places.into_iter().chain(["/usr/sbin".into(), "/usr/local/sbin".into()]);
        let Some(program) = places.map(|place| place.join("pgbouncer")).find(|program| program.is_file()) else {
            missing("no PgBouncer: pgbouncer was not found");
            return None;
        };
        let (port, folder) = (free_address().port(), server.folder.join("pgbouncer"));
        fs::create_dir(&folder).expect("a folder can be made");
        let settings = format!(
            "[databases]\npostgres = host=127.0.0.1 port={} user=eap\n[pgbouncer]\nlisten_addr = 127.0.0.1\n\
             listen_port = {port}\nunix_socket_dir =\nauth_type = any\npool_mode = transaction\n\
             default_pool_size = {connections}\n",
            server.port
        );
        let file = folder.join("pgbouncer.ini");
        fs::write(&file, settings).expect("a file can be written");
        if let Some((uid, gid)) = server.user {
            chown(&folder, Some(uid), Some(gid)).expect("root may give a folder away");
        }
        let keeper = Keeper::start(server.user, &folder, "TERM", &[program.into_os_string(), file.into_os_string()]);
        let started = Instant::now();
        while TcpStream::connect(("127.0.0.1", port)).is_err() {
            let log = || fs::read_to_string(folder.join("log")).unwrap_or_default();
            assert!(started.elapsed() < PATIENCE, "pgbouncer does not answer: {}", log());
            sleep(Duration::from_millis(20));
        }
        Some(Self { port, _keeper: keeper })
    }

    /// The URL of the server's database through it.
    pub fn url(&self) -> String {
        format!("postgres://eap@127.0.0.1:{}/postgres", self.port)
    }
}

/// A server that ends with this, or with the process.
#[derive(Debug)]
struct Keeper(Child);

impl Keeper {
    fn start(user: Option<(u32, u32)>, folder: &Path, signal: &str, arguments: &[OsString]) -> Self {
        let mut keeper = command(user, folder, Path::new("/bin/sh"));
        keeper.args(["-c", KEEPER, "sh"]).arg(folder).arg(signal).args(arguments);
        // Keys that are pressed in the terminal end the tests, and by that the server.
        Self(keeper.process_group(0).stdin(Stdio::piped()).spawn().expect("a shell runs"))
    }

    /// Stops the server and leaves its folder.
    fn stop(mut self) {
        if let Some(stdin) = &mut self.0.stdin {
            let _ = stdin.write_all(b"keep\n");
        }
    }
}

impl Drop for Keeper {
    fn drop(&mut self) {
        drop(self.0.stdin.take());
        let _ = self.0.wait();
    }
}

/// Says that tests are skipped, or fails where they must not be.
fn missing(what: &str) {
    assert!(env::var_os("EAP_REQUIRE_POSTGRES").is_none(), "{what}");
    // Written past the capture of the test runner, or nobody would read it.
    let _ = writeln!(io::stderr(), "SKIPPED tests of the PostgreSQL store: {what}");
}

fn command(user: Option<(u32, u32)>, folder: &Path, program: &Path) -> Command {
    let mut command = Command::new(program);
    command.current_dir(folder).env("LC_ALL", "C");
    if let Some((uid, gid)) = user {
        command.uid(uid).gid(gid);
    }
    command
}

/// The folder with `initdb` and `postgres`: that of the path, else the newest of a package's.
fn programs() -> Option<PathBuf> {
    let has_all =
        |folder: &PathBuf| ["initdb", "postgres", "pg_isready"].iter().all(|name| folder.join(name).is_file());
    let on_path = env::var_os("PATH").and_then(|path| env::split_paths(&path).find(has_all));
    on_path.or_else(|| {
        let below = FOLDERS.iter().filter_map(|folder| fs::read_dir(folder).ok()).flatten().flatten();
        let mut folders: Vec<PathBuf> = below.map(|entry| entry.path().join("bin")).filter(has_all).collect();
        folders.extend(FOLDERS.iter().map(|folder| Path::new(folder).join("bin")).filter(has_all));
        // By number: 9 is older than 15.
        let version = |folder: &PathBuf| -> u32 {
            let name = folder.parent().and_then(Path::file_name).map(|name| name.to_string_lossy().into_owned());
            let digits: String = name.unwrap_or_default().chars().filter(char::is_ascii_digit).collect();
            digits.parse().unwrap_or(0)
        };
        folders.into_iter().max_by_key(version)
    })
}

/// The numbers of a user and of its group.
fn ids_of(user: &str) -> Option<(u32, u32)> {
    let number = |flag| -> Option<u32> {
        let told = Command::new("id").args([flag, user]).output().ok().filter(|told| told.status.success())?;
        String::from_utf8(told.stdout).ok()?.trim().parse().ok()
    };
    Some((number("-u")?, number("-g")?))
}
