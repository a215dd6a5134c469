//! What stands around a Redis: certificates for TLS, sentinels, and a cluster. Each server is a [`RedisServer`].

use std::fmt::Write;
use std::fs;
use std::process::{Command, Stdio};

use super::caches::RedisServer;
use super::port::Port;
use super::{Folder, Process, until};

impl RedisServer {
    /// One that speaks TLS only, with the certificate `name` of `certificates`.
    pub async fn start_tls(certificates: &Certificates, name: &str) -> Self {
        Self::start_tls_with(certificates, name, &[]).await
    }

    /// The same with more options.
    pub async fn start_tls_with(certificates: &Certificates, name: &str, extra_args: &[&str]) -> Self {
        let [ca, cert, key] =
            ["ca.crt", &format!("{name}.crt"), &format!("{name}.key")].map(|file| certificates.path(file));
        let server = Self::start_with(false, |port, _| {
            let port = port.to_string();
            let args = ["--bind", "127.0.0.1", "--port", "0", "--tls-port", &port];
            let files = ["--tls-ca-cert-file", &ca, "--tls-cert-file", &cert, "--tls-key-file", &key];
            let args =
                args.iter().chain(&Self::EMPTY).chain(&files).chain(&["--tls-auth-clients", "no"]).chain(extra_args);
            args.map(ToString::to_string).collect()
        })
        .await;
        server.spoken_to_with(&["--tls", "--insecure"])
    }

    /// A sentinel, with a configuration that it may rewrite.
    async fn start_sentinel(configuration: &str) -> Self {
        Self::start_with(true, |port, folder| {
            let file = folder.join("sentinel.conf");
            fs::write(&file, format!("port {port}\nbind 127.0.0.1\n{configuration}")).expect("a file");
            vec![file.display().to_string(), "--sentinel".to_owned()]
        })
        .await
    }

    /// Has `redis-cli` say more to it, each time.
    fn spoken_to_with(mut self, cli_args: &[&str]) -> Self {
        self.cli_args.extend(cli_args.iter().map(ToString::to_string));
        self
    }

    /// `redis://127.0.0.1:port`
    pub fn url(&self) -> String {
        format!("redis://{}", self.address())
    }

    /// What `redis-cli` prints, errors too.
    pub fn cli(&self, arguments: &[&str]) -> String {
        let output = self.cli_command(arguments).output().expect("redis-cli is not there: run `make tools`");
        String::from_utf8_lossy(&output.stdout).replace('\r', "").trim_end().to_owned()
    }

    /// `redis-cli`, for what takes a while.
    pub fn cli_in_background(&self, arguments: &[&str]) -> Process {
        let mut command = self.cli_command(arguments);
        let child = command.stdin(Stdio::null()).stdout(Stdio::null()).spawn();
        Process(child.expect("redis-cli is not there: run `make tools`"))
    }

    fn cli_command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new("redis-cli");
        command.args(["-h", "127.0.0.1", "--no-auth-warning", "-p", &self.port().to_string()]);
        command.args(&self.cli_args).args(arguments);
        command
    }
}

/// An authority and certificates, made for one test.
#[derive(Debug)]
pub struct Certificates(Folder);

impl Certificates {
    /// `good`, `client`, `wrong-name`, `expired`, and `stranger`, which another authority vouches for.
    pub fn make() -> Self {
        let made = Self(Folder::new("certificates"));
        for authority in ["ca", "other-ca"] {
            made.openssl(&format!(
                "req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 2 -subj /CN={authority} \
                 -keyout {authority}.key -out {authority}.crt -addext basicConstraints=critical,CA:TRUE \
                 -addext keyUsage=critical,keyCertSign,digitalSignature"
            ));
        }
        let loopback = "IP:127.0.0.1,DNS:localhost";
        made.sign("good", "ca", loopback, 2);
        made.sign("client", "ca", loopback, 2);
        made.sign("stranger", "other-ca", loopback, 2);
        made.sign("wrong-name", "ca", "DNS:elsewhere.example.org", 2);
        made.sign("expired", "ca", loopback, -1);
        made
    }

    /// One of the files: `ca.crt`, `good.key`.
    pub fn path(&self, file: &str) -> String {
        self.0.path().join(file).display().to_string()
    }

    /// Makes a certificate for `names` that `authority` vouches for.
    pub fn sign(&self, name: &str, authority: &str, names: &str, days: i32) {
        fs::write(self.path("extensions"), format!("subjectAltName={names}\n")).expect("a file");
        self.openssl(&format!(
            "req -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -subj /CN={name} -keyout {name}.key -out {name}.csr"
        ));
        self.openssl(&format!(
            "x509 -req -in {name}.csr -CA {authority}.crt -CAkey {authority}.key -CAcreateserial -days {days} \
             -extfile extensions -out {name}.crt"
        ));
    }

    fn openssl(&self, arguments: &str) {
        let output = Command::new("openssl")
            .args(arguments.split_whitespace())
            .current_dir(self.0.path())
            .output()
            .expect("openssl is not there: run `make tools`");
        assert!(output.status.success(), "openssl {arguments}: {}", String::from_utf8_lossy(&output.stderr));
    }
}

/// A master, its replicas, and three sentinels that watch them and agree by two.
#[derive(Debug)]
pub struct Watched {
    /// The one that is the master at the start.
    pub master: RedisServer,
    /// The one that follows it.
    pub replica: RedisServer,
    /// Others that follow it.
    pub more_replicas: Vec<RedisServer>,
    /// Those that watch.
    pub sentinels: Vec<RedisServer>,
}

/// What servers and sentinels ask for before they answer; nothing if it is empty.
#[derive(Clone, Copy, Debug, Default)]
struct Passwords<'a> {
    servers: &'a str,
    sentinels: &'a str,
}

impl Watched {
    /// The name under which the sentinels know the master.
    pub const NAME: &str = "main";

    /// Starts them with one replica, and waits until all know of each other.
    pub async fn start() -> Self {
        Self::start_with_more(0).await
    }

    /// The same with so many more replicas.
    pub async fn start_with_more(replicas: usize) -> Self {
        Self::launch(replicas, Passwords::default()).await
    }

    /// The same with one replica and a password, and with another one for the sentinels.
    pub async fn start_with_passwords(servers: &str, sentinels: &str) -> Self {
        Self::launch(0, Passwords { servers, sentinels }).await
    }

    async fn launch(more_replicas: usize, passwords: Passwords<'_>) -> Self {
        let (login, sentinel_login) = (login(passwords.servers), login(passwords.sentinels));
        let protected = ["--requirepass", passwords.servers, "--masterauth", passwords.servers];
        let protected: &[&str] = if login.is_empty() { &[] } else { &protected };
        let master = RedisServer::start(protected).await.spoken_to_with(&login);
        let address = format!("127.0.0.1 {}", master.port());
        let following = [&["--replicaof", &address], protected].concat();
        let mut replicas = Vec::new();
        for _ in 0..=more_replicas {
            replicas.push(RedisServer::start(&following).await.spoken_to_with(&login));
        }
        for replica in &replicas {
            follows(replica).await;
        }
        let (mut sentinels, configuration) = (Vec::new(), watching(&address, passwords));
        for _ in 0..3 {
            sentinels.push(RedisServer::start_sentinel(&configuration).await.spoken_to_with(&sentinel_login));
        }
        for sentinel in &sentinels {
            until("the sentinels know of each other and of the replicas", async || {
                let text = sentinel.cli(&["SENTINEL", "MASTER", Self::NAME]);
                let value = |field| text.lines().skip_while(|line| *line != field).nth(1).unwrap_or_default();
                value("num-other-sentinels") == "2" && value("num-slaves") == replicas.len().to_string()
            })
            .await;
        }
        Self { master, replica: replicas.remove(0), more_replicas: replicas, sentinels }
    }

    /// The sentinels, as a URL.
    pub fn url(&self) -> String {
        url(&self.sentinels)
    }
}

/// What `redis-cli` says to one that asks for a password.
fn login(password: &str) -> Vec<&str> {
    if password.is_empty() { Vec::new() } else { vec!["-a", password] }
}

/// How a sentinel watches a master.
fn watching(address: &str, passwords: Passwords<'_>) -> String {
    let (name, Passwords { servers, sentinels }) = (Watched::NAME, passwords);
    let mut text = format!(
        "sentinel monitor {name} {address} 2\nsentinel down-after-milliseconds {name} 1000\n\
         sentinel failover-timeout {name} 3000\n"
    );
    if !servers.is_empty() {
        writeln!(text, "sentinel auth-pass {name} {servers}").expect("a text takes it");
    }
    if !sentinels.is_empty() {
        writeln!(text, "requirepass {sentinels}").expect("a text takes it");
    }
    text
}

async fn follows(replica: &RedisServer) {
    let link = "master_link_status:up";
    until("the replica follows", async || replica.cli(&["INFO", "replication"]).contains(link)).await;
}

fn url(servers: &[RedisServer]) -> String {
    let hosts: Vec<_> = servers.iter().map(RedisServer::address).collect();
    format!("redis://{}", hosts.join(","))
}

/// A cluster of three masters, of which the first ones may have a replica.
#[derive(Debug)]
pub struct RedisCluster {
    /// The masters, in the order of their slots, then the replicas, in the order of their masters.
    pub nodes: Vec<RedisServer>,
    _buses: Vec<Port>,
}

impl RedisCluster {
    /// Starts it with a replica of the first master, and waits until all nodes agree.
    pub async fn start() -> Self {
        Self::start_with(1, &[]).await
    }

    /// The same with replicas of so many masters, and with more options.
    pub async fn start_with(replicas: usize, extra_args: &[&str]) -> Self {
        Self::launch(replicas, extra_args, None).await
    }

    /// One without replicas that speaks TLS only, as `good`.
    pub async fn start_tls(certificates: &Certificates) -> Self {
        Self::launch(0, &["--tls-cluster", "yes", "--tls-replication", "yes"], Some(certificates)).await
    }

    async fn launch(replicas: usize, extra_args: &[&str], tls: Option<&Certificates>) -> Self {
        let (mut nodes, mut buses) = (Vec::new(), Vec::new());
        for _ in 0..3 + replicas {
            let bus = Port::reserved();
            let number = bus.number().to_string();
            let mut args =
                vec!["--cluster-enabled", "yes", "--cluster-node-timeout", "1000", "--cluster-port", &number];
            args.extend(["--cluster-require-full-coverage", "no", "--cluster-replica-validity-factor", "0"]);
            args.extend(extra_args);
            nodes.push(match tls {
                Some(certificates) => RedisServer::start_tls_with(certificates, "good", &args).await,
                None => RedisServer::start(&args).await,
            });
            buses.push(bus);
        }
        let cluster = Self { nodes, _buses: buses };
        let masters = [0, 1, 2].map(|node| cluster.nodes[node].address());
        let mut create = vec!["--cluster", "create", "--cluster-yes"];
        create.extend(masters.iter().map(String::as_str));
        let text = cluster.nodes[0].cli(&create);
        assert!(text.contains("All 16384 slots covered"), "{text}");
        cluster.agrees(3).await;
        for master in 0..replicas {
            cluster.add_replica(master).await;
        }
        cluster
    }

    /// Has the next node, which belongs to nobody yet, follow the master of this number.
    async fn add_replica(&self, number: usize) {
        let (master, replica) = (&self.nodes[number], &self.nodes[3 + number]);
        let (new, old, id) = (replica.address(), master.address(), master.cli(&["CLUSTER", "MYID"]));
        let add = ["--cluster", "add-node", &new, &old, "--cluster-slave", "--cluster-master-id", &id];
        let text = master.cli(&add);
        assert!(text.contains("New node added correctly"), "{text}");
        self.agrees(3 + number + 1).await;
        follows(replica).await;
    }

    /// Waits until the first `count` nodes say that the cluster is whole and has that many nodes.
    async fn agrees(&self, count: usize) {
        let known = format!("cluster_known_nodes:{count}\n");
        for node in &self.nodes[..count] {
            until("the nodes agree", async || {
                let text = node.cli(&["CLUSTER", "INFO"]);
                text.contains("cluster_state:ok") && text.contains(&known)
            })
            .await;
        }
    }

    /// Some of its nodes, as a URL.
    pub fn url(&self) -> String {
        url(&self.nodes)
    }

    /// Which of the three masters has a slot at the start.
    pub fn owner(slot: u16) -> usize {
        usize::from(slot > 5460) + usize::from(slot > 10_922)
    }
}
