//! A PostgreSQL database on the command line: its URL, which may hold a password, and the options beside it.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use clap::{ArgAction, Args};
use eap_orchestrator::store::{PostgresOptions, PostgresStore, StoreError};
use eap_types::Secret;
use tracing::warn;
use url::{Host, Url};

use super::database::Opened;

/// What a URL may say behind its `?`; whatever else it says would have no effect.
const PARAMETERS: [&str; 8] = ["application_name", "dbname", "host", "hostaddr", "options", "password", "port", "user"];
const SSL_MODE: [&str; 2] = ["sslmode", "ssl-mode"];
const SSL_FILES: [&str; 7] = ["sslrootcert", "sslcert", "sslkey", "ssl-root-cert", "ssl-cert", "ssl-key", "ssl-ca"];
/// Those that leave nobody on the way who can read, and the others.
const SSL_MODES: [&str; 6] = ["require", "verify-ca", "verify-full", "prefer", "allow", "disable"];
const ENCRYPTED: usize = 3;

/// What is said of a PostgreSQL database beside its URL.
#[derive(Args, Clone, Default, PartialEq, Eq)]
pub(super) struct PostgresArgs {
    /// The schema of a PostgreSQL database that everything stands in; servers that share it work as one [default: eap].
    #[arg(long, env = "EAP_DATABASE_SCHEMA", hide_env_values = true, value_name = "NAME")]
    database_schema: Option<String>,

    /// How many connections to PostgreSQL this server opens at most; two of them write [default: 10].
    #[arg(long, env = "EAP_DATABASE_CONNECTIONS", hide_env_values = true, value_name = "N",
        value_parser = clap::value_parser!(u32).range(1..=10_000))]
    database_connections: Option<u32>,

    /// Whether statements are prepared once for each connection. Behind a proxy that hands connections on between
    /// transactions, as PgBouncer does, say false [default: true].
    #[arg(long, env = "EAP_DATABASE_PREPARED_STATEMENTS", hide_env_values = true, value_name = "BOOL",
        action = ArgAction::Set)]
    database_prepared_statements: Option<bool>,

    /// Where to listen for what other servers on the same schema write, if --database goes through such a proxy: the address of
    /// PostgreSQL itself. Without it, this server looks for that twice a second behind a proxy.
    #[arg(long, env = "EAP_DATABASE_LISTEN_URL", hide_env_values = true, value_name = "URL")]
    database_listen_url: Option<String>,
}

impl fmt::Debug for PostgresArgs {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // The URL to listen at may hold a password.
        f.debug_struct("PostgresArgs").field("database_schema", &self.database_schema).finish_non_exhaustive()
    }
}

impl PostgresArgs {
    /// An option that was given, which means nothing to another database.
    pub(super) fn given(&self) -> Option<&'static str> {
        self.database_schema
            .as_ref()
            .map(|_| "--database-schema")
            .or(self.database_connections.map(|_| "--database-connections"))
            .or(self.database_prepared_statements.map(|_| "--database-prepared-statements"))
            .or(self.database_listen_url.as_ref().map(|_| "--database-listen-url"))
    }

    fn options(&self) -> PostgresOptions {
        let mut options = PostgresOptions::default();
        if let Some(schema) = &self.database_schema {
            options = options.with_schema(schema);
        }
        if let Some(connections) = self.database_connections {
            options = options.with_max_connections(connections);
        }
        if let Some(prepared) = self.database_prepared_statements {
            options = options.with_prepared_statements(prepared);
        }
        if let Some(url) = &self.database_listen_url {
            options = options.with_listen_url(url);
        }
        options
    }
}

/// A PostgreSQL database. Shown, it has no password, and says nothing but where it is.
#[derive(Clone)]
pub(super) struct PostgresDatabase {
    url: Secret,
    args: PostgresArgs,
    shown: String,
    has_password: bool,
    is_readable_on_the_way: bool,
}

impl FromStr for PostgresDatabase {
    type Err = String;

    /// Without a word of the text in an error: any of it may be part of a password.
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let url = Url::parse(text)
            .map_err(|error| format!("is no URL ({error}): write postgres://USER@HOST:PORT/DATABASE"))?;
        // What stands there is what `/`, `?` and `#` in a password make of it.
        let rest = [Some(url.path()), url.query(), url.fragment()];
        if rest.into_iter().flatten().any(|rest| rest.contains('@')) || url.fragment().is_some() {
            return Err("has an @ or a # behind its host: write /, ?, # and @ of a password as %2F, %3F, %23 and %40"
                .to_owned());
        }
        let parameters: Vec<_> = url.query_pairs().collect();
        let said = |name: &str| parameters.iter().rev().find(|(key, _)| key == name).map(|(_, value)| &**value);
        if said("schema").is_some() {
            return Err("has a parameter schema: say --database-schema or EAP_DATABASE_SCHEMA instead".to_owned());
        }
        let is_known = |key: &str| [&PARAMETERS[..], &SSL_MODE, &SSL_FILES].iter().any(|known| known.contains(&key));
        if let Some((key, _)) = parameters.iter().find(|(key, _)| !is_known(key)) {
            let key: String = key.chars().take(40).collect();
            return Err(format!("has a parameter {key} that would have no effect: leave it out"));
        }
        for (key, path) in parameters.iter().filter(|(key, _)| SSL_FILES.contains(&&**key)) {
            // The driver would say that there is no file, and not which.
            std::fs::File::open(&**path).map_err(|error| format!("has {key}={path}, which cannot be read: {error}"))?;
        }
        let mode = said(SSL_MODE[0]).or(said(SSL_MODE[1]));
        if mode.is_some_and(|mode| !SSL_MODES.contains(&mode)) {
            return Err(format!("has an sslmode that there is not: it is one of {}", SSL_MODES.join(", ")));
        }
        let host = said("host").or(said("hostaddr")).map(str::to_owned).or(url.host().map(|host| host.to_string()));
        let is_here = match (&host, url.host()) {
            (None, _) => true,
            (Some(host), _) if host.starts_with('/') || host.starts_with("%2F") => true,
            (Some(host), _) => matches!(Host::parse(host), Ok(host) if is_loopback(&host)),
        };
        let encrypted = mode.map(str::to_owned).or_else(|| std::env::var("PGSSLMODE").ok());
        let is_encrypted = encrypted.is_some_and(|mode| SSL_MODES[..ENCRYPTED].contains(&&*mode));
        Ok(Self {
            shown: shown(&url, host.as_deref(), &said),
            has_password: url.password().is_some() || said("password").is_some(),
            is_readable_on_the_way: !is_here && !is_encrypted,
            url: Secret::new(text),
            args: PostgresArgs::default(),
        })
    }
}

/// Where a database is, in a form that can be written again.
fn shown<'u>(url: &Url, host: Option<&str>, said: &impl Fn(&str) -> Option<&'u str>) -> String {
    let user = said("user").unwrap_or(url.username());
    let at = if user.is_empty() { "" } else { "@" };
    let port = said("port").map(str::to_owned).or(url.port().map(|port| port.to_string()));
    let port = port.map(|port| format!(":{port}")).unwrap_or_default();
    let database = said("dbname").unwrap_or(url.path().trim_start_matches('/'));
    format!("postgres://{user}{at}{}{port}/{database}", host.unwrap_or_default())
}

fn is_loopback<S: AsRef<str>>(host: &Host<S>) -> bool {
    match host {
        Host::Domain(name) => name.as_ref() == "localhost",
        Host::Ipv4(address) => address.is_loopback(),
        Host::Ipv6(address) => address.is_loopback(),
    }
}

impl fmt::Display for PostgresDatabase {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.shown)?;
        self.args.database_schema.iter().try_for_each(|schema| write!(f, ", schema {schema}"))
    }
}

impl fmt::Debug for PostgresDatabase {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.shown)
    }
}

impl PartialEq for PostgresDatabase {
    fn eq(&self, other: &Self) -> bool {
        (self.url.expose(), &self.args) == (other.url.expose(), &other.args)
    }
}

impl Eq for PostgresDatabase {}

impl PostgresDatabase {
    /// The same with what is said beside its URL; a text that is wrong there is told as one in the URL is.
    pub(super) fn with(self, args: PostgresArgs) -> Result<Self, String> {
        let listening = args.database_listen_url.as_deref().map(str::parse::<Self>).transpose()?;
        Ok(Self {
            is_readable_on_the_way: self.is_readable_on_the_way
                || listening.is_some_and(|url| url.is_readable_on_the_way),
            args,
            ..self
        })
    }

    /// Whether a password stands where `ps` shows it.
    fn is_told_to_all(&self) -> bool {
        let listening = self.args.database_listen_url.as_deref().and_then(|url| url.parse::<Self>().ok());
        let urls = [Some(self), listening.as_ref()].into_iter().flatten().filter(|url| url.has_password);
        let texts: Vec<_> = urls.map(|url| url.url.expose()).collect();
        std::env::args_os().any(|argument| texts.iter().any(|text| argument.to_string_lossy().contains(text)))
    }

    /// Opens the store. Time is the database's, which all who share it agree about.
    pub(super) async fn open(&self) -> Result<Opened, StoreError> {
        if self.is_told_to_all() {
            warn!(
                "the password of the database is on the command line, where every user of this machine can read it: \
                 set EAP_DATABASE_URL instead, or PGPASSWORD"
            );
        }
        if self.is_readable_on_the_way {
            warn!("the connection to the database may be plain text: sslmode=verify-full in its URL insists on TLS");
        }
        let store = PostgresStore::connect(self.url.expose(), self.args.options()).await?;
        let artifacts = Arc::new(store.artifacts());
        Ok(Opened { store: Arc::new(store), clock: None, artifacts })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<PostgresDatabase, String> {
        text.parse()
    }

    #[test]
    fn what_is_shown_has_no_password_wherever_it_stood() {
        for (text, shown) in [
            (
                "postgres://eap:canary@db.example.com:6432/tasks?sslmode=verify-full",
                "postgres://eap@db.example.com:6432/tasks",
            ),
            ("postgresql://db/tasks?user=eap&password=canary", "postgres://eap@db/tasks"),
            ("postgres://eap:can%61ry@[::1]/tasks", "postgres://eap@[::1]/tasks"),
            ("postgres:///tasks?host=/run/postgresql&password=canary", "postgres:///run/postgresql/tasks"),
            ("postgres://a:canary@ignored/x?host=db&port=1&dbname=y&user=b", "postgres://b@db:1/y"),
        ] {
            let url = read(text).unwrap();
            assert_eq!(url.to_string(), shown);
            assert!(url.has_password && !format!("{url:?}").contains("canary"), "{url:?}");
        }
    }

    #[test]
    fn what_would_have_no_effect_is_refused_by_its_name_alone() {
        for (text, word) in [
            ("postgres://a:canary@db/x?schema=s", "--database-schema"),
            ("postgres://a@db/x?pasword=canary", "parameter pasword"),
            ("postgres://a:canary@db/x?channel_binding=require", "parameter channel_binding"),
            ("postgres://a:canary@db/x?sslmode=canary", "verify-full"),
            ("postgres://a:canary@db/x?sslrootcert=/nowhere/ca.pem", "sslrootcert=/nowhere/ca.pem"),
            ("postgres://a:canary@[db/x", "postgres://USER@HOST"),
            ("postgres://a:canary@db:99999/x", "postgres://USER@HOST"),
            // Passwords whose own signs end the host, the path and the query.
            ("postgres://a:can/ary@db/x", "postgres://USER@HOST"),
            ("postgres://a:1/canary@db/x", "%2F"),
            ("postgres://a:1?canary@db/x", "%3F"),
            ("postgres://a:1#canary@db/x", "%23"),
            ("postgres://db/x?user=a&password=can#ary", "%23"),
        ] {
            let error = read(text).unwrap_err();
            assert!(error.contains(word) && !error.contains("canary"), "{error}");
        }
    }

    #[test]
    fn a_connection_that_leaves_the_machine_may_be_read_unless_the_url_insists() {
        for (text, is_readable) in [
            ("postgres://a@127.0.0.1/x", false),
            ("postgres://a@localhost/x", false),
            ("postgres://a@[::1]/x", false),
            ("postgres:///x?host=/run/postgresql", false),
            ("postgres://a@%2Frun%2Fpostgresql/x", false),
            ("postgres://a@db/x", true),
            ("postgres://a@db/x?sslmode=prefer", true),
            ("postgres://a@db/x?sslmode=require", false),
            ("postgres://a@127.0.0.1/x?host=db", true),
        ] {
            assert_eq!(read(text).unwrap().is_readable_on_the_way, is_readable, "{text}");
        }
    }
}
