//! The fault proxy and the servers around it do what their names say: shown with raw bytes, before anything relies on it.

mod support;

use std::io::ErrorKind;
use std::net::{IpAddr, Ipv4Addr};
use std::process::Command;
use std::time::{Duration, Instant};

use support::caches::{DnsServer, MemcachedServer, Record, RedisServer, resp_command, shift_clock};
use support::faults::{Calls, Fault, FaultProxy, Mode};
use support::frames::Protocol;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpStream, UdpSocket};
use tokio::time::timeout;

/// What is certain to come comes within this.
const PATIENCE: Duration = Duration::from_secs(30);
/// What never comes is not waited for any longer than this. Too short, it would hide a fault, never invent one.
const A_WHILE: Duration = Duration::from_millis(150);

/// A cache with a value in it, the proxy before it, and the requests in the language of that cache.
#[derive(Debug)]
struct Rig {
    cache: Cache,
    proxy: FaultProxy,
    protocol: Protocol,
}

#[derive(Debug)]
enum Cache {
    Redis(RedisServer),
    Memcached(MemcachedServer),
}

const VALUE: &str = "a value of forty bytes, which is not few";

impl Rig {
    async fn redis() -> Self {
        let redis = RedisServer::start(&[]).await;
        assert_eq!(redis.command(&["SET", "k", VALUE]).await, b"+OK\r\n");
        let proxy = FaultProxy::before(redis.port()).await;
        Self { cache: Cache::Redis(redis), proxy, protocol: Protocol::Resp }
    }

    async fn memcached() -> Self {
        let memcached = MemcachedServer::start(&[]).await;
        assert_eq!(memcached.command(format!("set k 0 0 40\r\n{VALUE}\r\n")).await, b"STORED\r\n");
        let proxy = FaultProxy::before(memcached.port()).await;
        Self { cache: Cache::Memcached(memcached), proxy, protocol: Protocol::Memcached }
    }

    async fn both() -> [Self; 2] {
        [Self::redis().await, Self::memcached().await]
    }

    async fn connect(&self) -> Client {
        let stream = timeout(PATIENCE, TcpStream::connect(("127.0.0.1", self.proxy.port()))).await;
        Client {
            stream: stream.expect("in time").expect("somebody listens"),
            received: Vec::new(),
            protocol: self.protocol,
        }
    }

    fn get(&self, key: &str) -> Vec<u8> {
        match self.cache {
            Cache::Redis(_) => resp_command(&["GET", key]),
            Cache::Memcached(_) => format!("get {key}\r\n").into_bytes(),
        }
    }

    fn set(&self, key: &str, value: &str) -> Vec<u8> {
        match self.cache {
            Cache::Redis(_) => resp_command(&["SET", key, value, "PX", "60000"]),
            Cache::Memcached(_) => format!("set {key} 0 60 {}\r\n{value}\r\n", value.len()).into_bytes(),
        }
    }

    /// Something that concerns no values.
    fn ping(&self) -> Vec<u8> {
        match self.cache {
            Cache::Redis(_) => resp_command(&["PING"]),
            Cache::Memcached(_) => b"verbosity 0\r\n".to_vec(),
        }
    }

    fn pong(&self) -> &'static str {
        match self.cache {
            Cache::Redis(_) => "+PONG\r\n",
            Cache::Memcached(_) => "OK\r\n",
        }
    }

    /// The reply with a value.
    fn found(&self, key: &str, value: &str) -> String {
        match self.cache {
            Cache::Redis(_) => format!("${}\r\n{value}\r\n", value.len()),
            Cache::Memcached(_) => format!("VALUE {key} 0 {}\r\n{value}\r\nEND\r\n", value.len()),
        }
    }

    fn stored(&self) -> &'static str {
        match self.cache {
            Cache::Redis(_) => "+OK\r\n",
            Cache::Memcached(_) => "STORED\r\n",
        }
    }

    fn error(&self, text: &str) -> String {
        match self.cache {
            Cache::Redis(_) => format!("-{text}\r\n"),
            Cache::Memcached(_) => format!("{text}\r\n"),
        }
    }

    async fn meets(&self, calls: Calls, fault: Fault) {
        self.proxy.set(Mode::Each(calls, fault)).await;
    }
}

/// A connection.
#[derive(Debug)]
struct Client {
    stream: TcpStream,
    received: Vec<u8>,
    protocol: Protocol,
}

/// What a client hears.
#[derive(Debug, PartialEq, Eq)]
enum Heard {
    Reply(String),
    /// So many bytes, which are no whole reply, and then silence.
    Silence(usize),
    Reset,
    Closed,
}

impl Client {
    async fn send(&mut self, request: &[u8]) {
        self.stream.write_all(request).await.expect("the connection is there");
    }

    async fn ask(&mut self, request: &[u8]) -> String {
        self.send(request).await;
        match self.hear(PATIENCE).await {
            Heard::Reply(reply) => reply,
            other => panic!("{other:?} after {:?}", String::from_utf8_lossy(request)),
        }
    }

    /// The next reply, or what is there in its place for so long.
    async fn hear(&mut self, patience: Duration) -> Heard {
        loop {
            if let Some(reply) = self.protocol.take_reply(&mut self.received) {
                return Heard::Reply(String::from_utf8_lossy(&reply.bytes).into_owned());
            }
            match timeout(patience, self.stream.read_buf(&mut self.received)).await {
                Err(_) => return Heard::Silence(self.received.len()),
                Ok(Ok(0)) => return Heard::Closed,
                Ok(Ok(_)) => {}
                Ok(Err(error)) => {
                    assert_eq!(error.kind(), ErrorKind::ConnectionReset);
                    return Heard::Reset;
                }
            }
        }
    }
}

async fn is_refused(port: u16) -> bool {
    let connected = TcpStream::connect(("127.0.0.1", port)).await;
    connected.is_err_and(|error| error.kind() == ErrorKind::ConnectionRefused)
}

#[tokio::test]
async fn what_passes_is_counted_and_not_changed() {
    for rig in Rig::both().await {
        let mut client = rig.connect().await;
        assert_eq!(client.ask(&rig.get("k")).await, rig.found("k", VALUE));
        assert_eq!(client.ask(&rig.set("new", "12345")).await, rig.stored());
        assert_eq!(client.ask(&rig.set("new", "678")).await, rig.stored());
        assert_eq!(rig.connect().await.ask(&rig.get("new")).await, rig.found("new", "678"));
        let counts = rig.proxy.counts();
        assert_eq!((counts.connections, counts.asked(&["get"]), counts.asked(&["set"])), (2, 2, 2));
        assert_eq!((counts.written_bytes, counts.faults), (8, 0));
    }
}

#[tokio::test]
async fn pipelines_and_big_values_pass() {
    for rig in Rig::both().await {
        let (mut client, big) = (rig.connect().await, "x".repeat(1_000_000));
        let mut pipeline = rig.set("big", &big);
        for _ in 0..20 {
            pipeline.extend(rig.get("big"));
        }
        let (mut up, mut replies) = (Vec::new(), Vec::new());
        {
            let (mut read, mut write) = client.stream.split();
            let reads = async {
                while replies.len() < 21 {
                    assert!(read.read_buf(&mut up).await.expect("the connection is there") > 0);
                    replies.extend(std::iter::from_fn(|| rig.protocol.take_reply(&mut up)));
                }
            };
            let (written, ()) = tokio::join!(write.write_all(&pipeline), async {
                timeout(PATIENCE, reads).await.expect("all replies come");
            });
            written.expect("the connection is there");
        }
        assert_eq!(replies[0].bytes, rig.stored().as_bytes());
        for reply in &replies[1..] {
            assert_eq!(reply.values().collect::<Vec<_>>(), [big.as_bytes()]);
        }
        assert_eq!(rig.proxy.counts().written_bytes, big.len());
    }
}

#[tokio::test]
async fn many_values_of_one_reply_are_told_apart() {
    let rig = Rig::redis().await;
    let mut client = rig.connect().await;
    // RESP 3: the greeting is a map, and a push comes between the replies of a pipeline.
    assert!(client.ask(&resp_command(&["HELLO", "3"])).await.starts_with('%'));
    assert_eq!(client.ask(&resp_command(&["CLIENT", "TRACKING", "ON"])).await, "+OK\r\n");
    assert_eq!(client.ask(&rig.get("new")).await, "_\r\n");
    rig.meets(Calls::Reads, Fault::Truncated(3)).await;
    client.send(&[rig.set("new", "678910"), resp_command(&["MGET", "k", "none", "new"])].concat()).await;
    assert_eq!(client.hear(PATIENCE).await, Heard::Reply("+OK\r\n".to_owned()));
    let push = ">2\r\n$10\r\ninvalidate\r\n*1\r\n$3\r\nnew\r\n";
    assert_eq!(client.hear(PATIENCE).await, Heard::Reply(push.to_owned()));
    let values = "*3\r\n$3\r\na v\r\n_\r\n$3\r\n678\r\n";
    assert_eq!(client.hear(PATIENCE).await, Heard::Reply(values.to_owned()));

    let rig = Rig::memcached().await;
    let mut client = rig.connect().await;
    assert_eq!(client.ask(&rig.set("new", "678910")).await, rig.stored());
    rig.meets(Calls::Data, Fault::Truncated(3)).await;
    let reply = client.ask(b"get k none new\r\n").await;
    assert_eq!(reply, "VALUE k 0 3\r\na v\r\nVALUE new 0 3\r\n678\r\nEND\r\n");
    // The meta commands too, and a write that is not answered.
    client.send(b"set quiet 0 0 2 noreply\r\nok\r\n").await;
    assert_eq!(client.ask(b"ms new 5 T60\r\n12345\r\n").await, "HD\r\n");
    assert_eq!(client.ask(b"mg new v\r\n").await, "VA 3\r\n123\r\n");
    assert_eq!(rig.proxy.counts().faults, 3, "all but what is not answered");
    rig.proxy.set(Mode::Pass).await;
    assert_eq!(client.ask(&rig.get("quiet")).await, rig.found("quiet", "ok"));
    assert_eq!(rig.proxy.counts().written_bytes, 6 + 2 + 5);
}

#[tokio::test]
async fn refusing_resets_what_is_there_and_ends_on_the_same_port() {
    for rig in Rig::both().await {
        let mut client = rig.connect().await;
        assert_eq!(client.ask(&rig.get("k")).await, rig.found("k", VALUE));
        rig.proxy.set(Mode::Refuse).await;
        assert_eq!(client.hear(PATIENCE).await, Heard::Reset);
        assert!(is_refused(rig.proxy.port()).await);
        rig.proxy.set(Mode::Pass).await;
        assert_eq!(rig.connect().await.ask(&rig.get("k")).await, rig.found("k", VALUE));
    }
}

#[tokio::test]
async fn in_a_black_hole_nothing_moves_until_it_ends() {
    for rig in Rig::both().await {
        let mut old = rig.connect().await;
        assert_eq!(old.ask(&rig.ping()).await, rig.pong());
        rig.proxy.set(Mode::BlackHole).await;
        let mut new = rig.connect().await;
        for client in [&mut old, &mut new] {
            client.send(&rig.get("k")).await;
            assert_eq!(client.hear(A_WHILE).await, Heard::Silence(0));
        }
        assert_eq!(rig.proxy.counts().asked(&["get"]), 0, "the server gets nothing");
        rig.proxy.set(Mode::Pass).await;
        for client in [&mut old, &mut new] {
            assert_eq!(client.hear(PATIENCE).await, Heard::Reply(rig.found("k", VALUE)));
        }
    }
}

#[tokio::test]
async fn a_syn_may_stay_without_an_answer() {
    let rig = Rig::redis().await;
    let mut old = rig.connect().await;
    assert_eq!(old.ask(&rig.get("k")).await, rig.found("k", VALUE));
    rig.proxy.set(Mode::NoHandshake).await;
    let new = TcpStream::connect(("127.0.0.1", rig.proxy.port()));
    tokio::pin!(new);
    assert!(timeout(A_WHILE, &mut new).await.is_err(), "no handshake");
    old.send(&rig.get("k")).await;
    assert_eq!(old.hear(A_WHILE).await, Heard::Silence(0));
    rig.proxy.set(Mode::Pass).await;
    assert_eq!(old.hear(PATIENCE).await, Heard::Reply(rig.found("k", VALUE)));
    // The kernel sends its SYN again, and gets through.
    let stream = timeout(PATIENCE, new).await.expect("in time").expect("somebody listens");
    let mut new = Client { stream, received: Vec::new(), protocol: rig.protocol };
    assert_eq!(new.ask(&rig.get("k")).await, rig.found("k", VALUE));
}

#[tokio::test]
async fn slow_replies_come_and_not_one_after_the_other() {
    for rig in Rig::both().await {
        let mut client = rig.connect().await;
        rig.meets(Calls::Data, Fault::Slow(Duration::from_secs(2))).await;
        let began = Instant::now();
        client.send(&[rig.get("k"), rig.get("k"), rig.get("k"), rig.get("k")].concat()).await;
        for _ in 0..4 {
            assert_eq!(client.hear(PATIENCE).await, Heard::Reply(rig.found("k", VALUE)));
            assert!(began.elapsed() >= Duration::from_secs(2));
        }
        assert!(began.elapsed() < Duration::from_secs(7), "all wait at the same time");
        assert_eq!(rig.proxy.counts().faults, 4);
    }
}

#[tokio::test]
async fn a_connection_that_hangs_hangs_to_its_end() {
    for rig in Rig::both().await {
        let (mut old, mut other) = (rig.connect().await, rig.connect().await);
        rig.meets(Calls::Writes, Fault::Hang).await;
        assert_eq!(other.ask(&rig.get("k")).await, rig.found("k", VALUE));
        old.send(&rig.set("k", "new")).await;
        assert_eq!(old.hear(A_WHILE).await, Heard::Silence(0));
        rig.proxy.set(Mode::Pass).await;
        old.send(&rig.get("k")).await;
        assert_eq!(old.hear(A_WHILE).await, Heard::Silence(0));
        assert_eq!(rig.connect().await.ask(&rig.get("k")).await, rig.found("k", VALUE), "it was swallowed");
    }
}

#[tokio::test]
async fn half_a_reply_is_followed_by_silence() {
    for rig in Rig::both().await {
        let mut client = rig.connect().await;
        rig.meets(Calls::Reads, Fault::Half).await;
        client.send(&rig.get("k")).await;
        let half = rig.found("k", VALUE).len() / 2;
        assert_eq!(client.hear(A_WHILE).await, Heard::Silence(half));
        rig.proxy.set(Mode::Pass).await;
        client.send(&rig.get("k")).await;
        assert_eq!(client.hear(A_WHILE).await, Heard::Silence(half));
    }
}

#[tokio::test]
async fn a_late_reply_comes_to_the_next_request() {
    for rig in Rig::both().await {
        let mut client = rig.connect().await;
        for key in ["a", "b", "c"] {
            assert_eq!(client.ask(&rig.set(key, key)).await, rig.stored());
        }
        rig.meets(Calls::Reads, Fault::Late).await;
        client.send(&rig.get("a")).await;
        assert_eq!(client.hear(A_WHILE).await, Heard::Silence(0));
        assert_eq!(client.ask(&rig.get("b")).await, rig.found("a", "a"));
        assert_eq!(client.ask(&rig.get("c")).await, rig.found("b", "b"));
        rig.proxy.set(Mode::Pass).await;
        assert_eq!(client.ask(&rig.get("k")).await, rig.found("c", "c"));
        assert_eq!(client.hear(PATIENCE).await, Heard::Reply(rig.found("k", VALUE)));
    }
}

#[tokio::test]
async fn garbage_comes_in_place_of_replies() {
    for rig in Rig::both().await {
        let mut client = rig.connect().await;
        rig.meets(Calls::Reads, Fault::Garbage).await;
        client.send(&rig.get("k")).await;
        let whole = rig.found("k", VALUE).into_bytes();
        let mut garbage = vec![0; whole.len()];
        timeout(PATIENCE, client.stream.read_exact(&mut garbage))
            .await
            .expect("in time")
            .expect("as long as the reply");
        assert_ne!(garbage, whole);
        assert!(garbage.iter().any(|byte| !byte.is_ascii()), "{garbage:?}");
        assert_eq!(client.ask(&rig.set("k", VALUE)).await, rig.stored(), "writes are spared");
    }
}

#[tokio::test]
async fn bits_flip_in_values_only() {
    for rig in Rig::both().await {
        let (mut client, value) = (rig.connect().await, "v".repeat(100_000));
        assert_eq!(client.ask(&rig.set("long", &value)).await, rig.stored());
        rig.meets(Calls::Data, Fault::BitFlips(1000)).await;
        client.send(&rig.get("long")).await;
        let reply = loop {
            client.stream.read_buf(&mut client.received).await.expect("the connection is there");
            if let Some(reply) = client.protocol.take_reply(&mut client.received) {
                break reply;
            }
        };
        let values: Vec<_> = reply.values().collect();
        assert_eq!((values.len(), values[0].len()), (1, value.len()));
        let flipped: u32 = values[0].iter().map(|byte| (byte ^ b'v').count_ones()).sum();
        assert!((20..500).contains(&flipped), "about 100 of 100,000: {flipped}");
        assert_eq!(client.ask(&rig.set("k", VALUE)).await, rig.stored(), "no values, no flips");
    }
}

#[tokio::test]
async fn errors_come_in_place_of_what_is_meant() {
    for rig in Rig::both().await {
        let mut client = rig.connect().await;
        for text in
            ["OOM command not allowed when used memory > 'maxmemory'.", "MOVED 1 127.0.0.1:1", "SERVER_ERROR no"]
        {
            rig.meets(Calls::Writes, Fault::Error(text.to_owned())).await;
            assert_eq!(client.ask(&rig.set("k2", "new")).await, rig.error(text));
            assert_eq!(client.ask(&rig.get("k")).await, rig.found("k", VALUE));
            rig.meets(Calls::Data, Fault::Error(text.to_owned())).await;
            assert_eq!(client.ask(&rig.get("k")).await, rig.error(text));
            assert_eq!(client.ask(&rig.ping()).await, rig.pong(), "what prepares connections is let through");
            rig.meets(Calls::All, Fault::Error(text.to_owned())).await;
            assert_eq!(client.ask(&rig.ping()).await, rig.error(text));
        }
        assert_eq!(rig.proxy.counts().faults, 9);
    }
}

#[tokio::test]
async fn the_nth_call_fails_until_there_are_not_so_many() {
    for rig in Rig::both().await {
        let mut heard = Vec::new();
        for number in 1..10 {
            rig.proxy.set(Mode::Nth(number, Calls::DataAndConnects, Fault::Reset)).await;
            let mut client = rig.connect().await;
            let mut unharmed = 0;
            for request in [rig.get("k"), rig.ping(), rig.set("k", VALUE), rig.get("k")] {
                // The reset may come before the request goes.
                if client.stream.write_all(&request).await.is_ok()
                    && matches!(client.hear(PATIENCE).await, Heard::Reply(_))
                {
                    unharmed += 1;
                } else {
                    break;
                }
            }
            heard.push((rig.proxy.fired(), unharmed));
            if !rig.proxy.fired() {
                break;
            }
        }
        // The connection, get, set, get; then none.
        assert_eq!(heard, [(true, 0), (true, 0), (true, 2), (true, 3), (false, 4)]);
        rig.proxy.set(Mode::Pass).await;
        assert!(!rig.proxy.fired());
    }
}

#[tokio::test]
async fn one_of_so_many_calls_fails() {
    for rig in Rig::both().await {
        let mut client = rig.connect().await;
        rig.proxy.set(Mode::OneOf(10, Calls::Reads, Fault::Error("ERR no".to_owned()))).await;
        let mut failed = 0;
        for _ in 0..300 {
            let reply = client.ask(&rig.get("k")).await;
            failed += usize::from(reply == rig.error("ERR no"));
            assert!(reply == rig.error("ERR no") || reply == rig.found("k", VALUE), "{reply}");
            assert_eq!(client.ask(&rig.set("k", VALUE)).await, rig.stored());
        }
        assert!((10..100).contains(&failed), "about 30 of 300: {failed}");
        assert_eq!(rig.proxy.counts().faults, failed);
    }
}

#[tokio::test]
async fn a_connection_can_be_received_badly() {
    let rig = Rig::redis().await;
    rig.proxy.set(Mode::Nth(2, Calls::DataAndConnects, Fault::Error("ERR max".to_owned()))).await;
    let mut first = rig.connect().await;
    assert_eq!(first.ask(&rig.ping()).await, "+PONG\r\n");
    assert_eq!(rig.connect().await.hear(PATIENCE).await, Heard::Reply("-ERR max\r\n".to_owned()));
    assert_eq!(first.ask(&rig.get("k")).await, rig.found("k", VALUE));
    rig.proxy.set(Mode::Nth(1, Calls::DataAndConnects, Fault::Hang)).await;
    let mut client = rig.connect().await;
    client.send(&rig.get("k")).await;
    assert_eq!(client.hear(A_WHILE).await, Heard::Silence(0));
    assert_eq!(rig.connect().await.ask(&rig.get("k")).await, rig.found("k", VALUE));
}

#[tokio::test]
async fn what_is_no_cache_protocol_passes_too() {
    // A TLS greeting: Redis answers it as it can, which shows that it got there.
    let rig = Rig::redis().await;
    let mut client = rig.connect().await;
    client.send(b"\x16\x03\x01\r\nPING\r\n").await;
    let Heard::Reply(reply) = client.hear(PATIENCE).await else { panic!("no reply") };
    assert!(reply.starts_with("-ERR unknown command"), "{reply}");
    rig.meets(Calls::All, Fault::Hang).await;
    let mut client = rig.connect().await;
    client.send(b"\x16\x03\x01\r\nPING\r\n").await;
    assert_eq!(client.hear(A_WHILE).await, Heard::Silence(0));
}

#[tokio::test]
async fn a_proxy_that_is_dropped_is_gone() {
    let rig = Rig::redis().await;
    let mut client = rig.connect().await;
    assert_eq!(client.ask(&rig.get("k")).await, rig.found("k", VALUE));
    let port = rig.proxy.port();
    drop(rig.proxy);
    assert_eq!(client.hear(PATIENCE).await, Heard::Reset);
    let began = Instant::now();
    while !is_refused(port).await {
        assert!(began.elapsed() < PATIENCE, "somebody still listens");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

#[tokio::test]
async fn a_killed_server_comes_back_empty_in_its_place() {
    for mut rig in Rig::both().await {
        let mut client = rig.connect().await;
        assert_eq!(client.ask(&rig.get("k")).await, rig.found("k", VALUE));
        match &mut rig.cache {
            Cache::Redis(redis) => redis.kill(),
            Cache::Memcached(memcached) => memcached.kill(),
        }
        assert!(matches!(client.hear(PATIENCE).await, Heard::Closed | Heard::Reset));
        assert_eq!(rig.connect().await.hear(PATIENCE).await, Heard::Reset, "nobody is behind the proxy");
        match &mut rig.cache {
            Cache::Redis(redis) => redis.restart().await,
            Cache::Memcached(memcached) => memcached.restart().await,
        }
        let nothing = if rig.protocol == Protocol::Resp { "$-1\r\n" } else { "END\r\n" };
        assert_eq!(rig.connect().await.ask(&rig.get("k")).await, nothing);
    }
}

#[tokio::test]
async fn a_paused_server_answers_when_it_goes_on() {
    for rig in Rig::both().await {
        let mut client = rig.connect().await;
        match &rig.cache {
            Cache::Redis(redis) => redis.pause().await,
            Cache::Memcached(memcached) => memcached.pause().await,
        }
        client.send(&rig.get("k")).await;
        assert_eq!(client.hear(A_WHILE).await, Heard::Silence(0));
        match &rig.cache {
            Cache::Redis(redis) => redis.resume(),
            Cache::Memcached(memcached) => memcached.resume(),
        }
        assert_eq!(client.hear(PATIENCE).await, Heard::Reply(rig.found("k", VALUE)));
    }
}

/// One question over UDP: the response code, and the records of the answer as they lie there.
async fn lookup(server: &DnsServer, name: &str, kind: u16) -> Option<(u8, Vec<Vec<u8>>)> {
    let socket = UdpSocket::bind("127.0.0.1:0").await.ok()?;
    let mut question = vec![0, 7, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0];
    for label in name.split('.') {
        question.push(u8::try_from(label.len()).ok()?);
        question.extend(label.bytes());
    }
    question.push(0);
    question.extend([kind.to_be_bytes(), [0, 1]].concat());
    socket.connect(server.socket()).await.ok()?;
    socket.send(&question).await.ok()?;
    let mut answer = vec![0; 4096];
    let length = timeout(PATIENCE, socket.recv(&mut answer)).await.expect("an answer or a refusal").ok()?;
    let (mut rest, mut records) = (&answer[question.len()..length], Vec::new());
    for _ in 0..answer[7] {
        // A pointer to the name, the kind, the class, the time to live, and the length of what follows.
        let (record, next) = rest[12..].split_at(usize::from(rest[11]));
        records.push(record.to_vec());
        rest = next;
    }
    records.sort();
    Some((answer[3] & 15, records))
}

#[tokio::test]
async fn a_name_server_knows_what_it_is_told() {
    let ip = |last| IpAddr::V4(Ipv4Addr::new(127, 0, 0, last));
    let mut server = DnsServer::start(&[
        Record::Host("cache.test", &[ip(1), ip(2)]),
        Record::Host("a.cache.test", &[ip(3)]),
        Record::Service("_memcached._tcp.cache.test", "a.cache.test", 11_211),
        Record::Service("_memcached._tcp.cache.test", "cache.test", 11_212),
    ])
    .await;
    let (a, srv) = (1, 33);
    assert_eq!(lookup(&server, "cache.test", a).await, Some((0, vec![vec![127, 0, 0, 1], vec![127, 0, 0, 2]])));
    assert_eq!(lookup(&server, "other.test", a).await, Some((3, vec![])), "NXDOMAIN");
    let (code, services) = lookup(&server, "_memcached._tcp.cache.test", srv).await.expect("it answers");
    let ports: Vec<_> = services.iter().map(|record| u16::from_be_bytes([record[4], record[5]])).collect();
    assert_eq!((code, ports), (0, vec![11_211, 11_212]));

    server.set(&[Record::Host("cache.test", &[ip(9)])]).await;
    assert_eq!(lookup(&server, "cache.test", a).await, Some((0, vec![vec![127, 0, 0, 9]])));
    assert_eq!(lookup(&server, "_memcached._tcp.cache.test", srv).await, Some((3, vec![])));
    server.kill();
    assert_eq!(lookup(&server, "cache.test", a).await, None, "nobody is there");
    server.restart().await;
    assert_eq!(lookup(&server, "cache.test", a).await, Some((0, vec![vec![127, 0, 0, 9]])));
}

#[expect(clippy::disallowed_methods, reason = "the wall clock of this process is what is looked at")]
fn wall_clock() -> u64 {
    std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).expect("after 1970").as_secs()
}

#[tokio::test]
async fn timers_take_their_time() {
    let (began, before) = (Instant::now(), wall_clock());
    tokio::time::sleep(Duration::from_millis(300)).await;
    assert!(timeout(Duration::from_millis(300), std::future::pending::<()>()).await.is_err());
    let took = began.elapsed();
    assert!((Duration::from_millis(600)..PATIENCE).contains(&took), "{took:?}");
    assert!(wall_clock() - before < PATIENCE.as_secs());
    println!("wall clock: {before};");
}

#[test]
fn a_shifted_process_has_another_wall_clock_and_the_same_timers() {
    for shift in [3600, -3600] {
        let mut command = Command::new(std::env::current_exe().expect("this program"));
        command.args(["--exact", "timers_take_their_time", "--nocapture"]);
        shift_clock(&mut command, shift);
        let (began, before) = (Instant::now(), wall_clock());
        let output = command.output().expect("this program runs");
        let said = String::from_utf8_lossy(&output.stdout).into_owned();
        assert!(output.status.success(), "{said}{}", String::from_utf8_lossy(&output.stderr));
        assert!(began.elapsed() < PATIENCE, "no timer waits an hour");
        let (_, rest) = said.split_once("wall clock: ").expect("it told it");
        let told: u64 = rest.split(';').next().and_then(|clock| clock.parse().ok()).expect("seconds");
        let off = told.checked_add_signed(-shift).expect("after 1970") - before;
        assert!(off < PATIENCE.as_secs(), "{told} against {before}");
    }
}
