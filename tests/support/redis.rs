//! What stands around a Redis: certificates for TLS, sentinels, and a cluster. Each server is a [`RedisServer`].

use std::fs;
use std::process::{Command, Stdio};

use super::caches::RedisServer;
use super::port::Port;
use super::{Folder, Process, until};

impl RedisServer {
    /// One that speaks TLS only, with the certificate `name` of `certificates`.
    pub async fn start_tls(certificates: &Certificates, name: &str) -> Self {
        let [ca, cert, key] =
            ["ca.crt", &format!("{name}.crt"), &format!("{name}.key")].map(|file| certificates.path(file));
        Self::start_with(false, |port, _| {
            let port = port.to_string();
            let args = ["--bind", "127.0.0.1", "--port", "0", "--tls-port", &port, "--save", "", "--appendonly", "no"];
            let files = ["--tls-ca-cert-file", &ca, "--tls-cert-file", &cert, "--tls-key-file", &key];
            let args = args.iter().chain(&files).chain(&["--tls-auth-clients", "no"]);
            args.map(ToString::to_string).collect()
        })
        .await
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
        command.args(["-h", "127.0.0.1", "--no-auth-warning", "-p", &self.port().to_string()]).args(arguments);
        command
    }
}

/// An authority and certificates, made for one test.
#[derive(Debug)]
pub struct Certificates(Folder);

impl Certificates {
    /// `good`, `wrong-name`, `expired`, and `stranger`, which another authority vouches for.
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
        made.sign("stranger", "other-ca", loopback, 2);
        made.sign("wrong-name", "ca", "DNS:elsewhere.example.org", 2);
        made.sign("expired", "ca", loopback, -1);
        made
    }

    /// One of the files: `ca.crt`, `good.key`.
    pub fn path(&self, file: &str) -> String {
        self.0.path().join(file).display().to_string()
    }

    fn sign(&self, name: &str, authority: &str, names: &str, days: i32) {
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

/// A master, a replica, and three sentinels that watch them and agree by two.
#[derive(Debug)]
pub struct Watched {
    /// The one that is the master at the start.
    pub master: RedisServer,
    /// The one that follows it.
    pub replica: RedisServer,
    sentinels: Vec<RedisServer>,
}

impl Watched {
    /// The name under which the sentinels know the master.
    pub const NAME: &str = "main";

    /// Starts them, and waits until all know of each other.
    pub async fn start() -> Self {
        let master = RedisServer::start(&[]).await;
        let address = format!("127.0.0.1 {}", master.port());
        let replica = RedisServer::start(&["--replicaof", &address, "--repl-diskless-sync-delay", "0"]).await;
        follows(&replica).await;
        let (mut sentinels, name) = (Vec::new(), Self::NAME);
        for _ in 0..3 {
            let configuration = format!(
                "sentinel monitor {name} {address} 2\nsentinel down-after-milliseconds {name} 1000\n\
                 sentinel failover-timeout {name} 3000\n"
            );
            sentinels.push(RedisServer::start_sentinel(&configuration).await);
        }
        for sentinel in &sentinels {
            until("the sentinels know of each other and of the replica", async || {
                let text = sentinel.cli(&["SENTINEL", "MASTER", name]);
                let value = |field| text.lines().skip_while(|line| *line != field).nth(1).unwrap_or_default();
                value("num-other-sentinels") == "2" && value("num-slaves") == "1"
            })
            .await;
        }
        Self { master, replica, sentinels }
    }

    /// The sentinels, as a URL.
    pub fn url(&self) -> String {
        url(&self.sentinels)
    }
}

async fn follows(replica: &RedisServer) {
    let link = "master_link_status:up";
    until("the replica follows", async || replica.cli(&["INFO", "replication"]).contains(link)).await;
}

fn url(servers: &[RedisServer]) -> String {
    let hosts: Vec<_> = servers.iter().map(RedisServer::address).collect();
    format!("redis://{}", hosts.join(","))
}

/// A cluster of three masters, of which the first has a replica.
#[derive(Debug)]
pub struct RedisCluster {
    /// The masters, in the order of their slots, then the replica.
    pub nodes: Vec<RedisServer>,
    _buses: Vec<Port>,
}

impl RedisCluster {
    /// Starts it, and waits until all nodes agree.
    pub async fn start() -> Self {
        let (mut nodes, mut buses) = (Vec::new(), Vec::new());
        for _ in 0..4 {
            let bus = Port::reserved();
            let number = bus.number().to_string();
            let mut args =
                vec!["--cluster-enabled", "yes", "--cluster-node-timeout", "1000", "--cluster-port", &number];
            args.extend(["--cluster-require-full-coverage", "no", "--cluster-replica-validity-factor", "0"]);
            args.extend(["--repl-diskless-sync-delay", "0"]);
            nodes.push(RedisServer::start(&args).await);
            buses.push(bus);
        }
        let cluster = Self { nodes, _buses: buses };
        let address = |node: usize| cluster.nodes[node].address();
        let masters = [address(0), address(1), address(2)];
        let mut create = vec!["--cluster", "create", "--cluster-yes"];
        create.extend(masters.iter().map(String::as_str));
        let text = cluster.nodes[0].cli(&create);
        assert!(text.contains("All 16384 slots covered"), "{text}");
        cluster.agrees(3).await;
        let master = cluster.nodes[0].cli(&["CLUSTER", "MYID"]);
        let (new, old) = (address(3), address(0));
        let add = ["--cluster", "add-node", &new, &old, "--cluster-slave", "--cluster-master-id", &master];
        let text = cluster.nodes[0].cli(&add);
        assert!(text.contains("New node added correctly"), "{text}");
        cluster.agrees(4).await;
        follows(&cluster.nodes[3]).await;
        cluster
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
}
