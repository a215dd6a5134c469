//! The Redis store against real servers: what it stores, what it says when it cannot, and how it comes back.

mod support;

use std::fs;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use bytes::Bytes;
use futures::future::join_all;
use promfront::cache::store::redis::Redis;
use promfront::cache::store::{Item, Loss, Read, Store, Write};
use promfront::config::Redis as Options;
use support::caches::RedisServer;
use support::faults::{Calls, Fault, FaultProxy, Mode};
use support::log::Log;
use support::port::Port;
use support::redis::{Certificates, RedisCluster, Watched};
use support::{Folder, Random, until};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio::time::Instant;

/// A deadline that a server which is there meets on a busy machine.
const AMPLE: Duration = Duration::from_secs(5);
/// What two calls may cost that ask nobody, on a busy machine: with a short deadline still less than one attempt to connect.
const NOTHING: Duration = Duration::from_millis(900);
/// A server that is back is used again by then.
const BACK_WITHIN: Duration = Duration::from_secs(15);

fn at(url: &str) -> Options {
    Options { url: url.to_owned(), ..Options::default() }
}

fn open(options: &Options) -> Redis {
    Redis::new(options).expect("sound options")
}

fn item(key: &str, value: &[u8]) -> Item {
    Item { key: key.to_owned(), value: Bytes::copy_from_slice(value), ttl: Duration::from_mins(1) }
}

async fn read(store: &Redis, key: &str) -> Read {
    read_within(store, key, AMPLE).await
}

async fn read_within(store: &Redis, key: &str, time: Duration) -> Read {
    let keys = [key.to_owned()];
    let outcomes = store.read(0, &keys, Instant::now() + time).await;
    let [outcome] = outcomes.try_into().expect("as many outcomes as keys");
    outcome
}

async fn write(store: &Redis, key: &str, value: &[u8]) -> Write {
    let outcomes = store.write(0, vec![item(key, value)], Instant::now() + AMPLE).await;
    let [outcome] = outcomes.try_into().expect("as many outcomes as items");
    outcome
}

fn value(bytes: &[u8]) -> Read {
    Read::Value(Bytes::copy_from_slice(bytes))
}

/// What a server counts.
fn counted(server: &RedisServer, section: &str, name: &str) -> u32 {
    let text = server.cli(&["INFO", section]);
    let count = text.lines().find_map(|line| line.strip_prefix(name)).unwrap_or("0");
    let digits: String = count.chars().take_while(char::is_ascii_digit).collect();
    digits.parse().expect("a number")
}

/// Waits until the servers answer.
async fn connected(store: &Redis) {
    until("the store is connected", async || !matches!(read(store, "{nothing}").await, Read::Lost(_))).await;
}

async fn open_and_connected(options: &Options) -> Redis {
    let store = open(options);
    connected(&store).await;
    store
}

/// Waits until a key has a value, and says how long that took.
async fn back(store: &Redis, key: &str, want: &[u8]) -> Duration {
    let began = Instant::now();
    until("the value is there", async || read_within(store, key, Duration::from_millis(500)).await == value(want))
        .await;
    began.elapsed()
}

/// Holds that a store is not connected for some attempts, and that its calls cost nothing meanwhile.
async fn never_connected(store: &Redis, log: &Log) {
    until("an attempt failed", async || log.text().contains("can't connect")).await;
    for _ in 0..50 {
        let began = Instant::now();
        assert_eq!(read(store, "{a}").await, Read::Lost(Loss::Unavailable));
        assert_eq!(write(store, "{a}", b"x").await, Write::Lost(Loss::Unavailable));
        assert!(began.elapsed() < NOTHING, "{:?}", began.elapsed());
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    assert_eq!(log.text().matches("can't connect").count(), 1, "told once: {}", log.text());
}

/// Holds the same for several stores at once, each of them for another server, and that each tells why.
async fn none_connects(cases: &[(Options, &str)]) {
    join_all(cases.iter().map(async |(options, why)| {
        let (_, address) = options.url.split_once("://").expect("a URL");
        let (log, began) = (Log::of_all().about(address), Instant::now());
        let store = open(options);
        assert_eq!(read(&store, "{a}").await, Read::Lost(Loss::Unavailable));
        assert!(began.elapsed() < NOTHING, "{:?}", began.elapsed());
        never_connected(&store, &log).await;
        assert!(log.text().contains(why), "{why}: {}", log.text());
    }))
    .await;
}

#[tokio::test]
async fn what_is_written_is_read() {
    let server = RedisServer::start(&[]).await;
    let store = open_and_connected(&at(&server.url())).await;
    assert_eq!(read(&store, "{a}1").await, Read::Absent);
    let binary: Vec<u8> = (0..=255).chain(*b"\r\n$-1\r\n*1\r\n\0").collect();
    let large = vec![7; store.max_value_bytes()];
    for (key, bytes) in [("{a}1", b"one".as_slice()), ("{a}2", b""), ("{a}3", &binary), ("{a}4", &large)] {
        assert_eq!(write(&store, key, bytes).await, Write::Stored, "{key}");
        assert_eq!(read(&store, key).await, value(bytes), "{key}");
    }
    assert_eq!(write(&store, "{a}1", b"two").await, Write::Stored);
    assert_eq!(read(&store, "{a}1").await, value(b"two"), "the later one");
    let left: u64 = server.cli(&["PTTL", "{a}1"]).parse().expect("a number");
    assert!((1..=60_000).contains(&left), "{left}");
    assert!(store.read(0, &[], Instant::now() + AMPLE).await.is_empty());
    assert!(store.write(0, Vec::new(), Instant::now() + AMPLE).await.is_empty());
    let servers = store.servers();
    assert_eq!(servers.len(), 1);
    assert_eq!((servers[0].name.clone(), servers[0].is_open), (format!("127.0.0.1:{}", server.port()), false));
}

#[tokio::test]
async fn outcomes_stand_in_the_order_of_the_keys() {
    let server = RedisServer::start(&[]).await;
    let store = open_and_connected(&at(&format!("{}/3", server.url()))).await;
    for count in [200, 700] {
        let keys: Vec<_> = (0..count).map(|number| format!("{{{count}}}{number}")).collect();
        let items = keys.iter().step_by(2).map(|key| item(key, key.as_bytes())).collect();
        let outcomes = store.write(0, items, Instant::now() + AMPLE).await;
        assert_eq!(outcomes, vec![Write::Stored; count / 2]);
        let outcomes = store.read(0, &keys, Instant::now() + AMPLE).await;
        let want = keys.iter().enumerate().map(
            |(number, key)| {
                if number % 2 == 0 { value(key.as_bytes()) } else { Read::Absent }
            },
        );
        assert_eq!(outcomes, want.collect::<Vec<_>>());
    }
    assert_eq!(server.cli(&["-n", "3", "DBSIZE"]), "450", "in the database of the URL");
}

#[tokio::test]
async fn a_value_that_is_too_long_is_not_sent_and_does_not_hinder_the_others() {
    let server = RedisServer::start(&[]).await;
    let store = open_and_connected(&at(&server.url())).await;
    let too_long = vec![0; store.max_value_bytes() + 1];
    let items = vec![item("{a}1", b"1"), item("{a}2", &too_long), item("{a}3", b"3")];
    let refused = Write::Lost(Loss::Refused);
    let outcomes = store.write(0, items, Instant::now() + AMPLE).await;
    assert_eq!(outcomes, [Write::Stored, refused, Write::Stored]);
    let keys = ["{a}1", "{a}2", "{a}3"].map(str::to_owned);
    assert_eq!(store.read(0, &keys, Instant::now() + AMPLE).await, [value(b"1"), Read::Absent, value(b"3")]);
    assert_eq!(store.write(0, vec![item("{a}2", &too_long)], Instant::now() + AMPLE).await, [refused]);
}

#[tokio::test]
async fn a_password_is_read_again_at_every_connect_and_told_to_nobody() {
    const SECRETS: [&str; 3] = ["first-hunter2", "second-hunter2", "wrong-hunter2"];
    let log = Log::of_all();
    let server = RedisServer::start(&["--requirepass", SECRETS[0]]).await;
    let folder = Folder::new("secrets");
    let file = folder.path().join("password");
    fs::write(&file, SECRETS[2]).expect("a file");
    let made = || {
        let text = server.cli(&["-a", SECRETS[0], "INFO", "stats"]);
        let count = text.lines().find_map(|line| line.strip_prefix("total_connections_received:"));
        count.expect("it counts").trim().parse::<u32>().expect("a number")
    };
    let (before, began) = (made(), Instant::now());
    let store = open(&Options { password_file: file.clone(), ..at(&server.url()) });
    never_connected(&store, &log).await;
    assert!(log.text().contains("WRONGPASS"), "{}", log.text());
    let (made, seconds) = (made() - before, u32::try_from(began.elapsed().as_secs()).expect("small"));
    assert!((8..=4 * (7 + seconds)).contains(&made), "ever more slowly: {made} in {seconds}s");

    fs::write(&file, format!("{}\n", SECRETS[0])).expect("a file");
    connected(&store).await;
    until("it is told", async || log.text().contains("connected again")).await;
    assert_eq!(write(&store, "{a}", b"x").await, Write::Stored);

    fs::write(&file, SECRETS[1]).expect("a file");
    let admin = |password, arguments: &[&str]| server.cli(&[&["-a", password], arguments].concat());
    assert_eq!(admin(SECRETS[0], &["CONFIG", "SET", "requirepass", SECRETS[1]]), "OK");
    assert_ne!(admin(SECRETS[1], &["CLIENT", "KILL", "TYPE", "normal"]), "0", "somebody was connected");
    assert!(back(&store, "{a}", b"x").await < BACK_WITHIN);

    let shown = format!("{store:?} {}", log.text());
    for secret in SECRETS {
        assert!(!shown.contains(secret), "{shown}");
    }
}

#[tokio::test]
async fn a_server_that_repeats_the_password_does_not_bring_it_into_the_log() {
    let log = Log::of_all();
    // Without the command `AUTH` the server says: unknown command 'AUTH', with args beginning with: 'hunter2'.
    let server = RedisServer::start(&["--rename-command", "AUTH", "\"\""]).await;
    assert!(server.cli(&["AUTH", "hunter2"]).contains("hunter2"), "it does");
    let folder = Folder::new("secrets");
    let file = folder.path().join("password");
    fs::write(&file, "hunter2").expect("a file");
    let store = open(&Options { username: "somebody".to_owned(), password_file: file, ..at(&server.url()) });
    never_connected(&store, &log).await;
    assert!(log.text().contains("refused the login (ERR)"), "{}", log.text());
    assert!(!log.text().contains("hunter2"), "{}", log.text());
}

#[tokio::test]
async fn a_login_that_is_missing_or_unreadable_is_told() {
    let folder = Folder::new("secrets");
    let empty = folder.path().join("empty");
    fs::write(&empty, "\n").expect("a file");
    let (mut servers, mut cases) = (Vec::new(), Vec::new());
    for (file, word) in [("".into(), "NOAUTH"), (folder.path().join("missing"), "can't read"), (empty, "is empty")] {
        let server = RedisServer::start(&["--requirepass", "secret"]).await;
        cases.push((Options { password_file: file, ..at(&server.url()) }, word));
        servers.push(server);
    }
    none_connects(&cases).await;
}

#[tokio::test]
async fn users_may_do_what_their_acl_says() {
    let server = RedisServer::start(&[]).await;
    let folder = Folder::new("secrets");
    let file = folder.path().join("password");
    fs::write(&file, "pass\n").expect("a file");
    let user = |name: &str, rules: &[&str]| {
        let command = [&["ACL", "SETUSER", name, "on", ">pass", "~*", "-@all"], rules].concat();
        assert_eq!(server.cli(&command), "OK");
        Options { username: name.to_owned(), password_file: file.clone(), ..at(&server.url()) }
    };
    let reader = open_and_connected(&user("reader", &["+mget"])).await;
    let writer = open(&user("writer", &["+set"]));
    until("the writer is connected", async || write(&writer, "{a}", b"x").await == Write::Stored).await;
    assert_eq!(read(&reader, "{a}").await, value(b"x"));
    assert_eq!(write(&reader, "{a}", b"y").await, Write::Lost(Loss::Refused));
    assert_eq!(read(&writer, "{a}").await, Read::Lost(Loss::Refused));

    // Another password, and nobody is connected any more.
    fs::write(&file, "other").expect("a file");
    assert_eq!(server.cli(&["ACL", "SETUSER", "reader", "resetpass", ">other"]), "OK");
    assert_ne!(server.cli(&["CLIENT", "KILL", "USER", "reader"]), "0");
    assert!(back(&reader, "{a}", b"x").await < BACK_WITHIN);
    assert!(reader.servers().iter().all(|server| !server.is_open), "a refusal is an answer");
}

#[tokio::test]
async fn a_server_that_is_full_refuses_writes_and_answers_reads() {
    let server = RedisServer::start(&["--maxmemory", "3mb", "--maxmemory-policy", "noeviction"]).await;
    let store = open_and_connected(&at(&server.url())).await;
    let value_bytes = vec![1; 100_000];
    let mut outcomes = Vec::new();
    for number in 0..50 {
        outcomes.push(write(&store, &format!("{{a}}{number}"), &value_bytes).await);
    }
    assert_eq!(outcomes[0], Write::Stored);
    assert_eq!(outcomes[49], Write::Lost(Loss::Refused));
    assert_eq!(read(&store, "{a}0").await, value(&value_bytes));
    assert!(store.servers().iter().all(|server| !server.is_open), "a refusal is an answer");
}

#[tokio::test]
async fn one_refused_write_leaves_the_others() {
    let server = RedisServer::start(&[]).await;
    assert_eq!(server.cli(&["ACL", "SETUSER", "default", "resetkeys", "~{a}[0-4]", "~{nothing}"]), "OK");
    let store = open_and_connected(&at(&server.url())).await;
    let items = (0..10).map(|number| item(&format!("{{a}}{number}"), b"x")).collect();
    let outcomes = store.write(0, items, Instant::now() + AMPLE).await;
    assert_eq!(outcomes, [[Write::Stored; 5], [Write::Lost(Loss::Refused); 5]].concat());
}

#[tokio::test]
async fn a_replica_answers_reads_and_refuses_writes() {
    let master = RedisServer::start(&[]).await;
    assert_eq!(master.cli(&["SET", "{a}", "x"]), "OK");
    let replica = RedisServer::start(&["--replicaof", &format!("127.0.0.1 {}", master.port())]).await;
    until("the replica has it", async || replica.cli(&["GET", "{a}"]) == "x").await;
    let made = || counted(&replica, "stats", "total_connections_received:");
    let before = made();
    let store = open_and_connected(&at(&replica.url())).await;
    for _ in 0..20 {
        assert_eq!(write(&store, "{a}", b"y").await, Write::Lost(Loss::Refused));
        assert_eq!(read(&store, "{a}").await, value(b"x"));
    }
    let made = made() - before;
    assert!(made < 15, "connections are not made anew for every refusal: {made}");
}

#[tokio::test]
async fn a_key_of_another_type_is_absent_and_can_be_overwritten() {
    let server = RedisServer::start(&[]).await;
    assert_eq!(server.cli(&["LPUSH", "{a}", "x"]), "1");
    let store = open_and_connected(&at(&server.url())).await;
    assert_eq!(read(&store, "{a}").await, Read::Absent, "so MGET says");
    assert_eq!(write(&store, "{a}", b"y").await, Write::Stored);
    assert_eq!(read(&store, "{a}").await, value(b"y"));
}

#[tokio::test]
async fn a_server_that_hangs_costs_the_deadline_and_then_nothing() {
    let server = RedisServer::start(&[]).await;
    let store = open_and_connected(&at(&server.url())).await;
    assert_eq!(write(&store, "{a}", b"x").await, Write::Stored);
    server.pause().await;
    let mut timeouts = 0;
    for _ in 0..100 {
        let began = Instant::now();
        match read_within(&store, "{a}", Duration::from_millis(50)).await {
            Read::Lost(Loss::Timeout) => timeouts += 1,
            Read::Lost(Loss::Unavailable | Loss::Breaker) => {}
            other => panic!("{other:?}"),
        }
        assert!(began.elapsed() < Duration::from_millis(50) + NOTHING, "{:?}", began.elapsed());
    }
    assert!((1..=4).contains(&timeouts), "one for each connection: {timeouts}");
    server.resume();
    let took = back(&store, "{a}", b"x").await;
    println!("back {took:?} after SIGCONT");
    assert!(took < BACK_WITHIN);
}

#[tokio::test]
async fn a_breaker_that_opened_is_shown_and_closes_again() {
    let server = RedisServer::start(&[]).await;
    let store = open_and_connected(&at(&server.url())).await;
    assert_eq!(write(&store, "{a}", b"x").await, Write::Stored);
    server.pause().await;
    let calls = (0..20).map(|_| read_within(&store, "{a}", Duration::from_millis(100)));
    assert_eq!(join_all(calls).await, vec![Read::Lost(Loss::Timeout); 20]);
    assert!(store.servers()[0].is_open);
    server.resume();
    until("it is connected, and not asked", async || {
        read_within(&store, "{a}", AMPLE).await == Read::Lost(Loss::Breaker)
    })
    .await;
    let took = back(&store, "{a}", b"x").await;
    println!("back {took:?} after the breaker opened");
    assert!(took < BACK_WITHIN && !store.servers()[0].is_open);
}

#[tokio::test]
async fn a_slow_command_of_another_client_costs_the_deadline() {
    let server = RedisServer::start(&["--enable-debug-command", "yes"]).await;
    let store = open_and_connected(&at(&server.url())).await;
    assert_eq!(write(&store, "{a}", b"x").await, Write::Stored);
    let mut sleeper = server.cli_in_background(&["DEBUG", "SLEEP", "2"]);
    until("the server sleeps", async || {
        let began = Instant::now();
        let outcome = read_within(&store, "{a}", Duration::from_millis(50)).await;
        assert!(began.elapsed() < Duration::from_millis(50) + NOTHING);
        outcome == Read::Lost(Loss::Timeout)
    })
    .await;
    assert!(back(&store, "{a}", b"x").await < BACK_WITHIN);
    until("the other client is answered", async || !sleeper.is_running()).await;
    assert_eq!(sleeper.terminate(), Some(0), "it was allowed to");
}

#[tokio::test]
async fn hits_resume_after_a_restart() {
    let log = Log::of_all();
    let mut server = RedisServer::start(&[]).await;
    let store = open_and_connected(&at(&server.url())).await;
    server.kill();
    until("the loss is noticed", async || read(&store, "{a}").await == Read::Lost(Loss::Unavailable)).await;
    never_connected(&store, &log).await;
    server.restart().await;
    assert_eq!(server.cli(&["SET", "{a}", "x"]), "OK");
    let took = back(&store, "{a}", b"x").await;
    println!("back {took:?} after the restart");
    assert!(took < BACK_WITHIN);
    until("it is told", async || log.text().contains("connected again")).await;
    assert_eq!(log.text().lines().count(), 2, "{}", log.text());
}

#[tokio::test]
async fn a_connection_that_ends_between_calls_is_made_anew_before_the_next_one() {
    let server = RedisServer::start(&[]).await;
    let store = open_and_connected(&at(&server.url())).await;
    assert_eq!(write(&store, "{a}", b"x").await, Write::Stored);
    let clients = || server.cli(&["CLIENT", "LIST", "TYPE", "normal"]).lines().count() - 1;
    until("all are there", async || clients() == 4).await;
    assert_eq!(server.cli(&["CLIENT", "KILL", "TYPE", "normal"]), "4");
    until("all are there again", async || clients() == 4).await;
    // The server may know of them a moment before the store does.
    connected(&store).await;
    for _ in 0..8 {
        assert_eq!(read(&store, "{a}").await, value(b"x"));
    }
    drop(store);
    until("all have gone with the store", async || clients() == 0).await;
}

#[tokio::test]
async fn a_server_that_is_not_there_at_the_start_costs_nothing() {
    let nobody = Port::reserved();
    // They take connections and say nothing.
    let silent = [Port::reserved(), Port::reserved()];
    let _listeners = silent.each_ref().map(|port| port.listen(1024));
    none_connects(&[
        (at(&format!("redis://{}", nobody.socket())), "refused"),
        (at(&format!("redis://{}", silent[0].socket())), "no answer within 1s"),
        (at(&format!("rediss://{}", silent[1].socket())), "no answer within 1s"),
    ])
    .await;
}

/// A server that answers `PING`, and everything else with `reply`; then it says no more.
async fn scripted(reply: &'static [u8]) -> (String, Arc<AtomicUsize>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a loopback port");
    let url = format!("redis://{}", listener.local_addr().expect("it is bound"));
    let asked = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&asked);
    tokio::spawn(async move {
        while let Ok((mut client, _)) = listener.accept().await {
            let count = Arc::clone(&count);
            tokio::spawn(async move {
                let mut buffer = [0; 4096];
                while let Ok(length @ 1..) = client.read(&mut buffer).await {
                    let is_ping = buffer[..length].ends_with(b"PING\r\n");
                    let reply = if is_ping { b"+PONG\r\n" } else { reply };
                    count.fetch_add(usize::from(!is_ping), Ordering::Relaxed);
                    if client.write_all(reply).await.is_err() {
                        return;
                    }
                }
            });
        }
    });
    (url, asked)
}

#[tokio::test]
async fn what_is_no_answer_is_garbage_and_the_connection_is_not_used_again() {
    let garbage: [&[u8]; 12] = [
        b":1\r\n",
        b"+OK\r\n",
        b"$1\r\nx\r\n",
        b"*0\r\n",
        b"*2\r\n$1\r\nx\r\n$1\r\ny\r\n",
        b"*1\r\n:1\r\n",
        b"*1\r\n*1\r\n$1\r\nx\r\n",
        b"*1\r\n-ERR inside\r\n",
        b"*x\r\n",
        b"$abc\r\n",
        b"HTTP/1.1 400 Bad Request\r\n\r\n",
        b"\0\0\0\0\r\n",
    ];
    for reply in garbage {
        let (url, asked) = scripted(reply).await;
        let store = open(&at(&url));
        until("it was asked", async || {
            let outcome = read_within(&store, "{a}", AMPLE).await;
            let is_expected = matches!(outcome, Read::Lost(Loss::Garbage | Loss::Unavailable | Loss::Breaker));
            assert!(is_expected, "{:?}: {outcome:?}", String::from_utf8_lossy(reply));
            outcome == Read::Lost(Loss::Garbage)
        })
        .await;
        assert!(asked.load(Ordering::Relaxed) >= 1);
    }
}

#[tokio::test]
async fn replies_that_lie_about_their_length_cost_the_deadline() {
    let lies: [&[u8]; 8] = [
        b"*1\r\n$5\r\nha",
        b"*1\r\n$",
        b"*1000000000000\r\n",
        b"*9223372036854775807\r\n",
        b"*1\r\n$9223372036854775807\r\nx",
        b"*1\r\n$100000000000\r\nx",
        b"%9223372036854775807\r\n",
        b"~1000000000000\r\n",
    ];
    for reply in lies {
        let (url, _asked) = scripted(reply).await;
        let store = open(&at(&url));
        until("it was asked", async || {
            let began = Instant::now();
            let outcome = read_within(&store, "{a}", Duration::from_millis(50)).await;
            assert!(began.elapsed() < Duration::from_millis(50) + NOTHING, "{:?}", began.elapsed());
            assert!(matches!(outcome, Read::Lost(_)), "{outcome:?}");
            outcome != Read::Lost(Loss::Unavailable)
        })
        .await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_late_reply_is_never_that_of_another_question() {
    const CALLS: usize = 10_000;
    const WORKERS: usize = 20;
    let server = RedisServer::start(&[]).await;
    let proxy = FaultProxy::before(server.port()).await;
    proxy.set(Mode::OneOf(40, Calls::All, Fault::Slow(Duration::from_millis(30)))).await;
    let direct = open_and_connected(&at(&server.url())).await;
    let keys: Vec<_> = (0..200).map(|number| format!("{{late}}{number}")).collect();
    let items = keys.iter().map(|key| item(key, format!("of {key}").as_bytes())).collect();
    assert!(direct.write(0, items, Instant::now() + AMPLE).await.iter().all(|outcome| *outcome == Write::Stored));

    let url = format!("redis://127.0.0.1:{}", proxy.port());
    let (hits, timeouts) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
    let workers = (0..WORKERS).map(|worker| {
        let (store, keys, mut random) = (open(&at(&url)), keys.clone(), Random::named(&format!("late {worker}")));
        let (hits, timeouts) = (Arc::clone(&hits), Arc::clone(&timeouts));
        tokio::spawn(async move {
            let mut asked = 0;
            while asked < CALLS / WORKERS {
                let from = random.below(keys.len());
                let wanted = &keys[from..keys.len().min(from + 1 + random.below(4))];
                let time = Duration::from_micros(2_000 + u64::try_from(random.below(20_000)).expect("small"));
                let call = store.read(0, wanted, Instant::now() + time);
                // Some callers leave before there is an answer.
                let outcomes = if random.below(50) == 0 {
                    let left = Duration::from_micros(u64::try_from(random.below(300)).expect("small"));
                    asked += 1;
                    let Ok(outcomes) = tokio::time::timeout(left, call).await else { continue };
                    outcomes
                } else {
                    call.await
                };
                match &outcomes[0] {
                    Read::Lost(Loss::Unavailable | Loss::Breaker) => {
                        tokio::time::sleep(Duration::from_millis(1)).await;
                        continue;
                    }
                    Read::Lost(Loss::Timeout) => drop(timeouts.fetch_add(1, Ordering::Relaxed)),
                    _ => {
                        hits.fetch_add(1, Ordering::Relaxed);
                        let want: Vec<_> = wanted.iter().map(|key| value(format!("of {key}").as_bytes())).collect();
                        assert_eq!(outcomes, want);
                    }
                }
                asked += 1;
            }
        })
    });
    for worker in join_all(workers).await {
        worker.expect("no value of another key");
    }
    let (hits, timeouts) = (hits.load(Ordering::Relaxed), timeouts.load(Ordering::Relaxed));
    println!("{hits} hits, {timeouts} timeouts");
    assert!(hits > CALLS / 2 && timeouts > 50, "{hits} hits, {timeouts} timeouts");
}

#[tokio::test]
async fn tls_is_spoken_with_a_server_that_proves_its_name() {
    let certificates = Certificates::make();
    let server = RedisServer::start_tls(&certificates, "good").await;
    for host in ["127.0.0.1", "localhost"] {
        let url = format!("rediss://{host}:{}", server.port());
        let store = open_and_connected(&Options { ca_file: certificates.path("ca.crt").into(), ..at(&url) }).await;
        assert_eq!(write(&store, "{a}", &vec![3; 100_000]).await, Write::Stored);
        assert_eq!(read(&store, "{a}").await, value(&vec![3; 100_000]));
    }
    // A server that wants to know who asks.
    let server = RedisServer::start_tls_with(&certificates, "good", &["--tls-auth-clients", "yes"]).await;
    let url = format!("rediss://127.0.0.1:{}", server.port());
    let anonymous = Options { ca_file: certificates.path("ca.crt").into(), ..at(&url) };
    let (cert_file, key_file) = (certificates.path("client.crt").into(), certificates.path("client.key").into());
    let store = open_and_connected(&Options { cert_file, key_file, ..anonymous.clone() }).await;
    assert_eq!(write(&store, "{a}", b"x").await, Write::Stored);
    let log = Log::of_all();
    never_connected(&open(&anonymous), &log).await;
}

#[tokio::test]
async fn tls_that_proves_nothing_is_no_connection() {
    let certificates = Certificates::make();
    let (mut servers, plain) = (Vec::new(), RedisServer::start(&[]).await);
    for name in ["expired", "wrong-name", "stranger", "good"] {
        servers.push(RedisServer::start_tls(&certificates, name).await);
    }
    let secured = |server: &RedisServer| at(&server.url().replace("redis:", "rediss:"));
    let trusting = |server, file| Options { ca_file: certificates.path(file).into(), ..secured(server) };
    none_connects(&[
        (trusting(&servers[0], "ca.crt"), "xpired"),
        (trusting(&servers[1], "ca.crt"), "not valid for name"),
        (trusting(&servers[2], "ca.crt"), "UnknownIssuer"),
        // Without the file the system's authorities vouch, and they do not know this one.
        (secured(&servers[3]), "UnknownIssuer"),
        // TLS was meant for a port that speaks none, and the other way round.
        (trusting(&plain, "ca.crt"), ""),
    ])
    .await;
    none_connects(&[(at(&servers[3].url()), "")]).await;
    assert_eq!(plain.cli(&["DBSIZE"]), "0");
    // Files that are none.
    for (file, word) in [("missing.crt", "can't read"), ("ca.key", "no certificate")] {
        none_connects(&[(trusting(&plain, file), word)]).await;
    }
}

#[tokio::test]
async fn a_master_is_found_through_sentinels_also_when_it_is_another_one() {
    let log = Log::of_all();
    let mut watched = Watched::start_with_more(1).await;
    let options = Options { sentinel_master: Watched::NAME.to_owned(), ..at(&watched.url()) };
    let store = open_and_connected(&options).await;
    assert_eq!(write(&store, "{a}", b"x").await, Write::Stored);
    assert_eq!(store.servers()[0].name, Watched::NAME);
    until("a replica has it", async || watched.replica.cli(&["GET", "{a}"]) == "x").await;
    until("the other one too", async || watched.more_replicas[0].cli(&["GET", "{a}"]) == "x").await;

    watched.master.kill();
    let took = back(&store, "{a}", b"x").await;
    println!("back {took:?} after the master was killed");
    assert!(took < BACK_WITHIN);
    until("writes too", async || write(&store, "{a}", b"y").await == Write::Stored).await;

    // The old master comes back, and is a replica now.
    watched.master.restart().await;
    until("it follows", async || watched.master.cli(&["GET", "{a}"]) == "y").await;
    // A failover that was asked for. For some seconds the old master does not know of it and takes writes, which are lost;
    // then the sentinels make it a replica, and the store goes to the new one.
    let master = |sentinel: &RedisServer| {
        let text = sentinel.cli(&["SENTINEL", "GET-MASTER-ADDR-BY-NAME", Watched::NAME]);
        text.lines().nth(1).and_then(|port| port.parse::<u16>().ok())
    };
    let old = master(&watched.sentinels[0]);
    until("a failover begins", async || watched.sentinels[0].cli(&["SENTINEL", "FAILOVER", Watched::NAME]) == "OK")
        .await;
    until("all sentinels name another master", async || {
        let names: Vec<_> = watched.sentinels.iter().map(master).collect();
        names[0].is_some() && names[0] != old && names.iter().all(|name| *name == names[0])
    })
    .await;
    let new = master(&watched.sentinels[0]);
    let servers = [&watched.master, &watched.replica, &watched.more_replicas[0]];
    let new = servers.into_iter().find(|server| Some(server.port()) == new).expect("one of ours");
    let began = Instant::now();
    until("writes come to the new master", async || {
        write(&store, "{a}", b"z").await == Write::Stored && new.cli(&["GET", "{a}"]) == "z"
    })
    .await;
    println!("at the new master {:?} after the failover", began.elapsed());
    assert_eq!(read(&store, "{a}").await, value(b"z"));
    // One sentinel is enough, and a dead one does no harm.
    watched.sentinels[0].kill();
    watched.sentinels[1].pause().await;
    let store = open_and_connected(&options).await;
    assert_eq!(read(&store, "{a}").await, value(b"z"));
    assert!(!log.text().contains("ERROR"), "{}", log.text());
}

#[tokio::test]
async fn sentinels_have_passwords_of_their_own() {
    let log = Log::of_all();
    let mut watched = Watched::start_with_passwords("hunter2", "hunter3").await;
    let folder = Folder::new("secrets");
    let (ours, theirs) = (folder.path().join("ours"), folder.path().join("theirs"));
    fs::write(&ours, "hunter2\n").expect("a file");
    fs::write(&theirs, "hunter4\n").expect("a file");
    let store = open(&Options {
        sentinel_master: Watched::NAME.to_owned(),
        password_file: ours,
        sentinel_password_file: theirs.clone(),
        ..at(&watched.url())
    });
    never_connected(&store, &log).await;
    fs::write(&theirs, "hunter3\n").expect("a file");
    connected(&store).await;
    assert_eq!(write(&store, "{a}", b"x").await, Write::Stored);
    until("the replica has it", async || watched.replica.cli(&["GET", "{a}"]) == "x").await;
    watched.master.kill();
    assert!(back(&store, "{a}", b"x").await < BACK_WITHIN);
    assert!(!log.text().contains("hunter"), "{}", log.text());
}

#[tokio::test]
async fn a_name_that_the_sentinels_do_not_know_is_told() {
    let watched = Watched::start().await;
    let log = Log::of_all();
    let store = open(&Options { sentinel_master: "other".to_owned(), ..at(&watched.url()) });
    never_connected(&store, &log).await;
    assert!(log.text().contains("knows no master"), "{}", log.text());
}

/// A key on the node `owner`, one of the first three masters.
fn key_on(cluster: &RedisCluster, owner: usize) -> String {
    let slot = |key: &str| cluster.nodes[0].cli(&["CLUSTER", "KEYSLOT", key]).parse().expect("a number");
    (0..1000)
        .map(|number| format!("{{t{number}}}"))
        .find(|key| RedisCluster::owner(slot(key)) == owner)
        .expect("one of them")
}

#[tokio::test]
async fn a_node_that_hangs_or_dies_concerns_its_own_keys() {
    let mut cluster = RedisCluster::start().await;
    let store = open(&Options { cluster: true, ..at(&cluster.url()) });
    let keys = [0, 1, 2].map(|owner| key_on(&cluster, owner));
    for key in &keys {
        until("the node is connected", async || write(&store, key, key.as_bytes()).await == Write::Stored).await;
        assert_eq!(read(&store, key).await, value(key.as_bytes()));
    }
    assert_eq!(store.servers().len(), 3);
    let many: Vec<_> = (0..300).map(|number| item(&format!("{}{number}", keys[1]), b"x")).collect();
    assert_eq!(store.write(0, many, Instant::now() + AMPLE).await, vec![Write::Stored; 300]);

    // The last master has no replica: it hangs, and the others go on as if nothing were.
    cluster.nodes[2].pause().await;
    let looks =
        || cluster.nodes[..2].iter().map(|node| counted(node, "commandstats", "cmdstat_cluster|slots:calls=")).sum();
    let before: u32 = looks();
    let (mut lost, began) = (0, Instant::now());
    while began.elapsed() < Duration::from_secs(4) {
        for key in &keys[..2] {
            let began = Instant::now();
            assert_eq!(read_within(&store, key, AMPLE).await, value(key.as_bytes()));
            assert!(began.elapsed() < NOTHING, "{:?}", began.elapsed());
        }
        let began = Instant::now();
        let outcome = read_within(&store, &keys[2], Duration::from_millis(50)).await;
        assert!(matches!(outcome, Read::Lost(_)), "{outcome:?}");
        assert!(began.elapsed() < Duration::from_millis(50) + NOTHING, "{:?}", began.elapsed());
        lost += usize::from(outcome == Read::Lost(Loss::Timeout));
    }
    let looks = looks() - before;
    println!("{lost} timeouts at the node that hung, {looks} looks at the map");
    assert!(lost >= 1);
    assert!((1..=7).contains(&looks), "about one a second: {looks}");
    cluster.nodes[2].resume();
    let took = back(&store, &keys[2], keys[2].as_bytes()).await;
    println!("back {took:?} after SIGCONT");
    assert!(took < BACK_WITHIN);

    // The first master has one: it dies, and the replica takes over.
    until("the replica has it", async || cluster.nodes[3].cli(&["DBSIZE"]) == "1").await;
    cluster.nodes[0].kill();
    let took = back(&store, &keys[0], keys[0].as_bytes()).await;
    println!("back {took:?} after the master was killed");
    assert!(took < BACK_WITHIN);
    until("writes too", async || write(&store, &keys[0], b"y").await == Write::Stored).await;
    for key in &keys[1..] {
        assert_eq!(read(&store, key).await, value(key.as_bytes()));
    }
    let names: Vec<_> = store.servers().into_iter().map(|server| server.name).collect();
    assert!(names.contains(&format!("127.0.0.1:{}", cluster.nodes[3].port())), "{names:?}");
    assert!(!names.contains(&format!("127.0.0.1:{}", cluster.nodes[0].port())), "{names:?}");
}

#[tokio::test]
async fn a_node_that_hangs_is_left_for_the_one_that_takes_over() {
    let cluster = RedisCluster::start().await;
    let store = open(&Options { cluster: true, ..at(&cluster.url()) });
    let key = key_on(&cluster, 0);
    until("the node is connected", async || write(&store, &key, b"x").await == Write::Stored).await;
    until("the replica has it", async || cluster.nodes[3].cli(&["DBSIZE"]) == "1").await;
    cluster.nodes[0].pause().await;
    let began = Instant::now();
    until("the value is there", async || read_within(&store, &key, Duration::from_millis(50)).await == value(b"x"))
        .await;
    println!("back {:?} after SIGSTOP", began.elapsed());
    assert!(began.elapsed() < BACK_WITHIN);
    // The old master comes back and does not know yet that it is none.
    cluster.nodes[0].resume();
    until("it follows", async || cluster.nodes[0].cli(&["ROLE"]).starts_with("slave")).await;
    assert_eq!(read(&store, &key).await, value(b"x"));
}

#[tokio::test]
async fn keys_are_found_while_and_after_their_slot_moves() {
    let cluster = RedisCluster::start_with(0, &[]).await;
    let store = open(&Options { cluster: true, ..at(&cluster.url()) });
    let tag = key_on(&cluster, 0);
    let slot = cluster.nodes[0].cli(&["CLUSTER", "KEYSLOT", &tag]);
    let keys: Vec<_> = (0..20).map(|number| format!("{tag}{number}")).collect();
    for key in &keys {
        until("the node is connected", async || write(&store, key, key.as_bytes()).await == Write::Stored).await;
    }
    let id = |node: usize| cluster.nodes[node].cli(&["CLUSTER", "MYID"]);
    let (from, to) = (id(0), id(1));
    assert_eq!(cluster.nodes[1].cli(&["CLUSTER", "SETSLOT", &slot, "IMPORTING", &from]), "OK");
    assert_eq!(cluster.nodes[0].cli(&["CLUSTER", "SETSLOT", &slot, "MIGRATING", &to]), "OK");
    let port = cluster.nodes[1].port().to_string();
    for key in &keys[..10] {
        assert_eq!(cluster.nodes[0].cli(&["MIGRATE", "127.0.0.1", &port, key, "0", "1000"]), "OK");
    }
    // Half way: those that are gone are asked of the other node (ASK), and so are new ones.
    for key in &keys {
        assert_eq!(read(&store, key).await, value(key.as_bytes()), "{key}");
    }
    assert_eq!(store.read(0, &keys[..10], Instant::now() + AMPLE).await.len(), 10);
    assert_eq!(store.read(0, &keys[..10], Instant::now() + AMPLE).await[9], value(keys[9].as_bytes()));
    let mixed = vec![item(&keys[0], b"moved"), item(&keys[15], b"stayed"), item(&format!("{tag}new"), b"new")];
    assert_eq!(store.write(0, mixed, Instant::now() + AMPLE).await, [Write::Stored; 3]);
    for (key, bytes) in [(&keys[0], b"moved".as_slice()), (&keys[15], b"stayed"), (&format!("{tag}new"), b"new")] {
        assert_eq!(read(&store, key).await, value(bytes), "{key}");
    }
    // Some here, some there: the server cannot say.
    assert_eq!(store.read(0, &keys, Instant::now() + AMPLE).await, vec![Read::Lost(Loss::Refused); 20]);

    for key in &keys[10..] {
        assert_eq!(cluster.nodes[0].cli(&["MIGRATE", "127.0.0.1", &port, key, "0", "1000"]), "OK");
    }
    for node in [1, 0, 2] {
        assert_eq!(cluster.nodes[node].cli(&["CLUSTER", "SETSLOT", &slot, "NODE", &to]), "OK");
    }
    // Moved: at once by following, and then from the map.
    for _ in 0..3 {
        let outcomes = store.read(0, &keys, Instant::now() + AMPLE).await;
        assert!(outcomes.iter().all(|outcome| matches!(outcome, Read::Value(_))), "{outcomes:?}");
    }
    let moved = || counted(&cluster.nodes[0], "errorstats", "errorstat_MOVED:count=");
    until("the map is learned", async || {
        let before = moved();
        assert_eq!(read(&store, &keys[3]).await, value(keys[3].as_bytes()));
        moved() == before
    })
    .await;
}

#[tokio::test]
async fn a_cluster_that_is_not_whole_refuses_and_comes_back() {
    let mut cluster = RedisCluster::start_with(0, &["--cluster-require-full-coverage", "yes"]).await;
    let store = open(&Options { cluster: true, ..at(&cluster.url()) });
    let key = key_on(&cluster, 0);
    until("the node is connected", async || write(&store, &key, b"x").await == Write::Stored).await;
    cluster.nodes[2].kill();
    until("the cluster is down", async || read(&store, &key).await == Read::Lost(Loss::Refused)).await;
    let (lost, began) = (key_on(&cluster, 2), Instant::now());
    assert!(matches!(read(&store, &lost).await, Read::Lost(_)));
    assert!(began.elapsed() < AMPLE);
    cluster.nodes[2].restart().await;
    assert!(back(&store, &key, b"x").await < BACK_WITHIN);
    until("the other one too", async || write(&store, &lost, b"x").await == Write::Stored).await;
}

#[tokio::test]
async fn a_cluster_speaks_tls_too() {
    let certificates = Certificates::make();
    let cluster = RedisCluster::start_tls(&certificates).await;
    let url = cluster.url().replace("redis:", "rediss:");
    let store = open(&Options { cluster: true, ca_file: certificates.path("ca.crt").into(), ..at(&url) });
    for owner in [0, 1, 2] {
        let key = key_on(&cluster, owner);
        until("the node is connected", async || write(&store, &key, b"x").await == Write::Stored).await;
        assert_eq!(read(&store, &key).await, value(b"x"));
    }
}

#[tokio::test]
async fn a_server_that_is_no_cluster_is_told() {
    let server = RedisServer::start(&[]).await;
    let log = Log::of_all();
    let store = open(&Options { cluster: true, ..at(&server.url()) });
    until("it is told", async || log.text().contains("cluster support disabled")).await;
    assert_eq!(read(&store, "{a}").await, Read::Lost(Loss::Unavailable));
    assert!(store.servers().is_empty());
}
