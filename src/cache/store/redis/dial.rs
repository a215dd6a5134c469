//! From an address to a connection on which commands are understood: TCP, TLS, login, database, and one answer.
//!
//! Everything that a connection needs from files (password, certificates) is read anew for every attempt, so that a rotated
//! secret needs no restart. TLS is never given up for plaintext, and the name of the server is always verified. A secret is
//! in no error: what a server says about a login may repeat the password, so only the code of such an error is told.

use std::fmt;
use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use futures::future::{BoxFuture, FutureExt, select_ok};
use redis::aio::MultiplexedConnection;
use redis::{AsyncConnectionConfig, RedisConnectionInfo, Value};
use rustls::pki_types::ServerName;
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

use super::address::Address;
use super::reply::error_text;
use crate::tls::{TlsFiles, Trust};

/// All of connecting to one server must be done in this time.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(1);

/// How to connect. It holds paths, no secrets.
#[derive(Clone, Debug)]
pub(super) struct Dialer {
    /// How to prove who we are.
    pub login: Login,
    /// None: plaintext.
    pub tls: Option<TlsFiles>,
    /// The number of the database.
    pub db: u32,
    /// Whether the server must be a master.
    pub must_be_master: bool,
}

/// How to prove who we are.
#[derive(Clone, Debug, Default)]
pub(super) struct Login {
    /// Empty: the default user.
    pub username: String,
    /// Empty: no login.
    pub password_file: PathBuf,
}

/// What was read from the files for one attempt.
pub(super) struct Credentials {
    password: Option<Secret>,
    tls: Option<TlsConnector>,
}

struct Secret(String);

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret")
    }
}

/// What moves the bytes of a connection. When it ends the connection is gone.
pub(super) type Driver = BoxFuture<'static, ()>;

impl Dialer {
    /// Reads the files.
    pub async fn credentials(&self) -> Result<Credentials, String> {
        let dialer = self.clone();
        // Files may lie on a disk that is slow.
        tokio::task::spawn_blocking(move || {
            let password = dialer.login.read_password()?;
            let tls = dialer.tls.as_ref().map(connector).transpose()?;
            Ok(Credentials { password, tls })
        })
        .await
        .map_err(|error| error.to_string())?
    }

    /// Connects, in time.
    pub async fn connect(
        &self,
        address: &Address,
        credentials: &Credentials,
    ) -> Result<(MultiplexedConnection, Driver), String> {
        match tokio::time::timeout(CONNECT_TIMEOUT, self.connect_at_leisure(address, credentials)).await {
            Ok(outcome) => outcome.map_err(|problem| format!("{address}: {problem}")),
            Err(_) => Err(format!("{address}: no answer within {CONNECT_TIMEOUT:?}")),
        }
    }

    async fn connect_at_leisure(
        &self,
        address: &Address,
        credentials: &Credentials,
    ) -> Result<(MultiplexedConnection, Driver), String> {
        let text = |error: io::Error| error.to_string();
        let tcp = TcpStream::connect((address.host.as_str(), address.port)).await.map_err(text)?;
        tcp.set_nodelay(true).map_err(text)?;
        let (mut connection, mut driver) = match &credentials.tls {
            None => multiplexed(tcp).await?,
            Some(tls) => {
                let name = ServerName::try_from(address.host.clone()).map_err(|error| error.to_string())?;
                let stream = tls.connect(name, tcp).await.map_err(|error| format!("TLS: {error}"))?;
                multiplexed(stream).await?
            }
        };
        tokio::select! {
            outcome = self.introduce(&mut connection, credentials) => outcome?,
            () = &mut driver => return Err("the server closed the connection".to_owned()),
        }
        Ok((connection, driver))
    }

    /// Login and database; then the server must answer a question, so that a server that accepts connections and does
    /// nothing else is not taken for one that is there.
    async fn introduce(&self, connection: &mut MultiplexedConnection, credentials: &Credentials) -> Result<(), String> {
        let mut pipeline = redis::pipe();
        if let Some(Secret(password)) = &credentials.password {
            pipeline.cmd("AUTH");
            if !self.login.username.is_empty() {
                pipeline.arg(&self.login.username);
            }
            pipeline.arg(password);
        }
        if self.db != 0 {
            pipeline.cmd("SELECT").arg(self.db);
        }
        pipeline.cmd(if self.must_be_master { "ROLE" } else { "PING" });
        let replies = connection.send_packed_commands(&pipeline, 0, pipeline.len()).await;
        let mut replies = replies.map_err(|error| plain_text(&error))?.into_iter();
        if credentials.password.is_some() {
            check_login(replies.next())?;
        }
        if self.db != 0 {
            check(replies.next(), |reply| *reply == Value::Okay)?;
        }
        match replies.next() {
            // Some users may do nothing but read and write.
            Some(Value::ServerError(error)) if error.code() == "NOPERM" => Ok(()),
            Some(Value::Array(role)) if self.must_be_master => match role.first() {
                Some(Value::BulkString(name)) if name == b"master" => Ok(()),
                _ => Err("it is not the master".to_owned()),
            },
            reply => check(reply, |reply| matches!(reply, Value::SimpleString(text) if text == "PONG")),
        }
    }
}

fn connector(files: &TlsFiles) -> Result<TlsConnector, String> {
    let configuration = files.configuration(&files.read()?, Trust::Proven)?;
    Ok(TlsConnector::from(Arc::new(configuration)))
}

async fn multiplexed<S>(stream: S) -> Result<(MultiplexedConnection, Driver), String>
where
    S: tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin + Send + 'static,
{
    // Nothing waits inside the connection: every call has a deadline of its own.
    let config = AsyncConnectionConfig::new().set_connection_timeout(None).set_response_timeout(None);
    let nothing = RedisConnectionInfo::default().set_skip_set_lib_name();
    let made = MultiplexedConnection::new_with_config(&nothing, stream, config).await;
    let (connection, driver) = made.map_err(|error| plain_text(&error))?;
    Ok((connection, driver.boxed()))
}

fn check_login(reply: Option<Value>) -> Result<(), String> {
    match reply {
        Some(Value::Okay) => Ok(()),
        Some(Value::ServerError(error)) => {
            let is_code = |code: &&str| code.len() <= 16 && code.bytes().all(|byte| byte.is_ascii_uppercase());
            let code = Some(error.code()).filter(is_code).unwrap_or("ERR");
            Err(format!("the server refused the login ({code}): check username and password_file"))
        }
        _ => Err("the server's answer to the login is none".to_owned()),
    }
}

fn check(reply: Option<Value>, is_right: impl Fn(&Value) -> bool) -> Result<(), String> {
    match reply {
        Some(reply) if is_right(&reply) => Ok(()),
        Some(Value::ServerError(error)) => Err(error_text(&error)),
        _ => Err("the answer is not Redis's".to_owned()),
    }
}

/// An error of the client library. It has only seen replies, but a reply may repeat what was sent.
fn plain_text(error: &redis::RedisError) -> String {
    if error.kind() == redis::ErrorKind::Parse { "the answer is not Redis's".to_owned() } else { error.to_string() }
}

impl Login {
    fn read_password(&self) -> Result<Option<Secret>, String> {
        if self.password_file.as_os_str().is_empty() {
            return Ok(None);
        }
        let path = self.password_file.display();
        let text =
            std::fs::read_to_string(&self.password_file).map_err(|error| format!("can't read {path}: {error}"))?;
        match text.trim_end_matches(['\r', '\n']) {
            "" => Err(format!("{path} is empty; it must hold a password")),
            password => Ok(Some(Secret(password.to_owned()))),
        }
    }
}

/// Asks all sentinels where the master is, and takes the first answer.
pub(super) async fn locate_master(dialer: &Dialer, sentinels: &[Address], master: &str) -> Result<Address, String> {
    let credentials = dialer.credentials().await?;
    let answers = sentinels.iter().map(|sentinel| ask_sentinel(dialer, &credentials, sentinel, master).boxed());
    select_ok(answers).await.map(|(address, _)| address)
}

async fn ask_sentinel(
    dialer: &Dialer,
    credentials: &Credentials,
    sentinel: &Address,
    master: &str,
) -> Result<Address, String> {
    let (mut connection, driver) = dialer.connect(sentinel, credentials).await?;
    let mut command = redis::cmd("SENTINEL");
    command.arg("GET-MASTER-ADDR-BY-NAME").arg(master);
    let asked = async {
        tokio::select! {
            reply = connection.send_packed_command(&command) => reply.map_err(|error| plain_text(&error)),
            () = driver => Err("the sentinel closed the connection".to_owned()),
        }
    };
    let reply = tokio::time::timeout(CONNECT_TIMEOUT, asked).await;
    let reply = reply.map_err(|_| format!("{sentinel}: no answer within {CONNECT_TIMEOUT:?}"))?;
    let address = match reply.map_err(|problem| format!("{sentinel}: {problem}"))? {
        Value::Array(values) => master_address(&values),
        Value::Nil => return Err(format!("{sentinel}: it knows no master {master:?}; check sentinel_master")),
        Value::ServerError(error) => return Err(format!("{sentinel}: {}", error_text(&error))),
        _ => None,
    };
    address.ok_or_else(|| format!("{sentinel}: the answer is not a sentinel's"))
}

fn master_address(values: &[Value]) -> Option<Address> {
    let [Value::BulkString(host), Value::BulkString(port)] = values else { return None };
    let text = |bytes| std::str::from_utf8(bytes).ok();
    Some(Address { host: text(host)?.to_owned(), port: text(port)?.parse().ok()? })
}
