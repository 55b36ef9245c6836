//! A PostgreSQL server for tests: the one that `EAP_TEST_POSTGRES_URL` names, else a private one of this process, from the
//! machine's own `initdb` and `postgres`.
//!
//! A private server listens on 127.0.0.1, keeps its data in a temporary folder with `fsync` on, and ends with the process that
//! started it, however that ends. Where there is neither, tests are skipped, and that is said aloud; under
//! `EAP_REQUIRE_POSTGRES=1` they fail instead.

use std::io::{self, Write as _};
use std::net::TcpListener;
use std::os::unix::fs::{MetadataExt as _, chown};
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::OnceLock;
use std::thread::sleep;
use std::time::{Duration, Instant};
use std::{env, fs};

/// Where packages put what is not on the path, with the versions below it or without.
const FOLDERS: [&str; 4] = ["/usr/lib/postgresql", "/usr/pgsql", "/opt/homebrew/opt", "/usr/local/pgsql"];

/// Who may run a server where this process is root, which PostgreSQL refuses.
const USERS: [&str; 2] = ["postgres", "nobody"];

/// How long a server may take to answer.
const PATIENCE: Duration = Duration::from_secs(60);

/// Runs the server until a word comes in, or the process at the other end is gone. Then it is stopped as by its operator,
/// and its folder goes, unless the word says otherwise.
const KEEPER: &str = r#"
"$1" -D "$2/data" -k "$2" -h 127.0.0.1 -p "$3" >>"$2/log" 2>&1 &
server=$!
read -r word
kill -INT "$server"
wait "$server"
[ "$word" = keep ] || rm -rf "$2"
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
    keeper: Option<Child>,
}

impl PrivateServer {
    /// Makes a database cluster and starts its server; `None` if this machine has no PostgreSQL.
    ///
    /// # Panics
    ///
    /// As [`server`].
    pub fn start() -> Option<Self> {
        let Some(programs) = programs() else {
            let missing = "no PostgreSQL: EAP_TEST_POSTGRES_URL is not set, and initdb and postgres were not found";
            assert!(env::var_os("EAP_REQUIRE_POSTGRES").is_none(), "{missing}");
            // Written past the capture of the test runner, or nobody would read it.
            let _ = writeln!(io::stderr(), "SKIPPED tests of the PostgreSQL store: {missing}");
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
        let mut initdb = server.command(&programs.join("initdb"));
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
        self.end(b"keep\n");
    }

    /// Starts the server that was stopped, on the port that it had.
    ///
    /// # Panics
    ///
    /// If it does not answer in time.
    pub fn start_again(&mut self) {
        if self.port == 0 {
            let free = TcpListener::bind("127.0.0.1:0").expect("there is a free port");
            self.port = free.local_addr().expect("it is bound").port();
        }
        let mut keeper = self.command(Path::new("/bin/sh"));
        keeper.args(["-c", KEEPER, "sh"]).arg(&self.postgres).arg(&self.folder).arg(self.port.to_string());
        // Keys that are pressed in the terminal end the tests, and by that the server.
        let keeper = keeper.process_group(0).stdin(Stdio::piped()).spawn().expect("a shell runs");
        self.keeper = Some(keeper);
        let started = Instant::now();
        while !self.answers() {
            assert!(started.elapsed() < PATIENCE, "postgres does not answer: {}", self.log());
            sleep(Duration::from_millis(20));
        }
    }

    fn answers(&self) -> bool {
        let mut ask = self.command(&self.postgres.with_file_name("pg_isready"));
        ask.args(["-q", "-t", "1", "-h", "127.0.0.1", "-p", &self.port.to_string()]);
        ask.status().is_ok_and(|status| status.success())
    }

    fn log(&self) -> String {
        fs::read_to_string(self.folder.join("log")).unwrap_or_default()
    }

    fn command(&self, program: &Path) -> Command {
        let mut command = Command::new(program);
        command.current_dir(&self.folder).env("LC_ALL", "C");
        if let Some((uid, gid)) = self.user {
            command.uid(uid).gid(gid);
        }
        command
    }

    fn end(&mut self, word: &[u8]) {
        let Some(mut keeper) = self.keeper.take() else { return };
        if let Some(mut stdin) = keeper.stdin.take() {
            let _ = stdin.write_all(word);
        }
        let _ = keeper.wait();
    }
}

impl Drop for PrivateServer {
    fn drop(&mut self) {
        self.end(b"");
        // Where it was stopped before, nobody has removed it.
        let _ = fs::remove_dir_all(&self.folder);
    }
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
