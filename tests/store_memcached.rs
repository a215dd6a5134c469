//! The memcached store against real servers, and against a scripted one for what a real one will not do.

mod support;

use std::fmt::Write as _;
use std::future::Future;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use bytes::Bytes;
use futures::future::join_all;
use promfront::cache::store::memcached::{Memcached, Options};
use promfront::cache::store::{Item, Loss, Read, Store, Write};
use promfront::discovery::{self, Address};
use support::caches::{DnsServer, MemcachedServer, Record};
use support::log::Log;
use support::{Random, until};
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::sync::{Notify, mpsc};
use tokio::time::Instant;

/// Longer than any state takes to come.
const PATIENCE: Duration = Duration::from_mins(1);
/// Longer than any sound answer takes to come.
const AMPLE: Duration = Duration::from_secs(20);
const PLACE: u128 = 7;

fn store(addresses: &[SocketAddr], options: Options) -> Memcached {
    Memcached::new(
        addresses.iter().map(|address| Address::parse(&address.to_string()).expect("an address")).collect(),
        options,
    )
}

fn store_at(address: SocketAddr) -> Memcached {
    store(&[address], Options::default())
}

fn item(key: impl Into<String>, value: impl Into<Bytes>) -> Item {
    Item { key: key.into(), value: value.into(), ttl: Duration::from_mins(1) }
}

async fn write(store: &Memcached, items: Vec<Item>) -> Vec<Write> {
    store.write(PLACE, items, Instant::now() + AMPLE).await
}

async fn read(store: &Memcached, keys: &[&str]) -> Vec<Read> {
    read_within(store, keys, AMPLE).await
}

async fn read_within(store: &Memcached, keys: &[&str], time: Duration) -> Vec<Read> {
    let keys: Vec<_> = keys.iter().map(|key| (*key).to_owned()).collect();
    store.read(PLACE, &keys, Instant::now() + time).await
}

fn value(bytes: impl Into<Bytes>) -> Read {
    Read::Value(bytes.into())
}

/// A listener that has `serve` do with each connection what it likes. Counts them.
async fn scripted<F>(serve: impl Fn(usize, TcpStream) -> F + Send + 'static) -> (SocketAddr, Arc<AtomicUsize>)
where
    F: Future<Output = ()> + Send + 'static,
{
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a loopback port");
    let (address, count) = (listener.local_addr().expect("it is bound"), Arc::new(AtomicUsize::new(0)));
    let counter = Arc::clone(&count);
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            tokio::spawn(serve(counter.fetch_add(1, Ordering::SeqCst), stream));
        }
    });
    (address, count)
}

/// Reads a line.
async fn line(stream: &mut BufReader<TcpStream>) -> Option<String> {
    let mut line = String::new();
    stream.read_line(&mut line).await.ok().filter(|length| *length > 0)?;
    Some(line.trim_end().to_owned())
}

/// A server that has one answer for all commands of one line, and then keeps the connection open.
async fn answering(reply: Bytes) -> (SocketAddr, Arc<AtomicUsize>) {
    scripted(move |_, stream| {
        let reply = reply.clone();
        async move {
            let mut stream = BufReader::new(stream);
            while line(&mut stream).await.is_some() && stream.write_all(&reply).await.is_ok() {}
        }
    })
    .await
}

#[tokio::test]
async fn what_was_written_is_read() {
    let server = MemcachedServer::start(&[]).await;
    let before = server.stat("total_connections").await;
    let store = store_at(server.socket());
    let all_bytes: Vec<u8> = (0..=255).cycle().take(100_000).collect();
    let items = vec![
        item("plain", "text"),
        item("empty", ""),
        item("tricky", "\r\nEND\r\nVALUE plain 0 3\r\nxyz\r\n"),
        item("binary", all_bytes.clone()),
    ];
    assert_eq!(write(&store, items).await, [Write::Stored; 4]);
    let keys = ["binary", "missing", "tricky", "plain", "empty", "plain"];
    let tricky = value("\r\nEND\r\nVALUE plain 0 3\r\nxyz\r\n");
    let want = [value(all_bytes), Read::Absent, tricky, value("text"), value(""), value("text")];
    assert_eq!(read(&store, &keys).await, want);
    assert_eq!(read(&store, &[]).await, []);
    assert_eq!(write(&store, vec![]).await, []);

    let keys: Vec<_> = (0..200).map(|n| format!("{n:0>200}")).collect();
    let even = keys.iter().step_by(2);
    let items: Vec<_> = even.map(|key| item(key, key.repeat(50))).collect();
    assert_eq!(write(&store, items).await, [Write::Stored; 100]);
    let reads = store.read(PLACE, &keys, Instant::now() + AMPLE).await;
    for (n, (key, read)) in keys.iter().zip(reads).enumerate() {
        assert_eq!(read, if n % 2 == 0 { value(key.repeat(50)) } else { Read::Absent }, "{key}");
    }
    assert_eq!(server.stat("total_connections").await, before + 2, "the store's one, and this");
}

#[tokio::test]
async fn a_value_that_is_too_long_is_refused_and_the_next_one_stored() {
    let server = MemcachedServer::start(&[]).await;
    let before = server.stat("total_connections").await;
    let default = Options::default();
    let limit = default.max_value_bytes;
    let long_key = |n: u8| format!("{n:0>200}");
    let values =
        |bytes: usize| vec![item(long_key(1), "1"), item(long_key(2), vec![b'x'; bytes]), item(long_key(3), "3")];
    let refused = [Write::Stored, Write::Lost(Loss::Refused), Write::Stored];

    let store_by_default = store_at(server.socket());
    assert_eq!(store_by_default.max_value_bytes(), limit);
    assert_eq!(write(&store_by_default, values(limit)).await, [Write::Stored; 3]);
    assert_eq!(read(&store_by_default, &[&long_key(2)]).await, [value(vec![b'x'; limit])]);
    assert_eq!(write(&store_by_default, values(limit + 1)).await, refused);
    assert_eq!(server.stat("cmd_set").await, 5, "it was not sent");

    let larger = store(&[server.socket()], Options { max_value_bytes: 4 << 20, ..default });
    for bytes in [1 << 20, 3 << 20] {
        assert_eq!(write(&larger, values(bytes)).await, refused);
        assert_eq!(
            read(&larger, &[&long_key(2), &long_key(3)]).await,
            [Read::Absent, value("3")],
            "the server refused it"
        );
    }
    assert_eq!(server.stat("total_connections").await, before + 4, "one of each store, and these two");
}

#[tokio::test]
async fn a_full_server_refuses_and_stays_in_step() {
    let server = MemcachedServer::start(&["-m", "2", "-M"]).await;
    let before = server.stat("total_connections").await;
    let store = store_at(server.socket());
    let sizes = [100, 1_000, 200_000, 900_000].into_iter().cycle().take(200).enumerate();
    let items: Vec<_> = sizes.map(|(n, size)| item(format!("key{n}"), vec![b'x'; size])).collect();
    let writes = write(&store, items.clone()).await;
    let refused = writes.iter().filter(|write| **write == Write::Lost(Loss::Refused)).count();
    assert!((20..180).contains(&refused), "{refused} of 200 were refused");
    for (item, write) in items.iter().zip(&writes) {
        let want = if *write == Write::Stored { value(item.value.clone()) } else { Read::Absent };
        assert!(read(&store, &[&item.key]).await == [want], "{}: {write:?}", item.key);
    }
    assert_eq!(server.stat("total_connections").await, before + 2, "the store's one, and this");
    assert!(!store.servers()[0].is_open);
}

#[tokio::test]
async fn times_to_live_are_whole_seconds_and_never_dates() {
    let server = MemcachedServer::start(&[]).await;
    let store = store_at(server.socket());
    let day = Duration::from_hours(24);
    for (ttl, least, most) in [
        (day, 86_390, 86_400),
        (30 * day, 2_591_990, 2_592_000),
        (31 * day, 2_591_990, 2_592_000),
        (Duration::MAX, 2_591_990, 2_592_000),
    ] {
        let writes = store.write(PLACE, vec![Item { ttl, ..item("key", "value") }], Instant::now() + AMPLE).await;
        assert_eq!(writes, [Write::Stored]);
        let reply = String::from_utf8(server.command("mg key t\r\n").await).expect("ASCII");
        let seconds: u32 = reply.trim_end().trim_start_matches("HD t").parse().expect("a number");
        assert!((least..=most).contains(&seconds), "{ttl:?} became {seconds} s");
    }
}

#[tokio::test]
async fn large_batches_do_not_block_themselves() {
    let server = MemcachedServer::start(&["-m", "512"]).await;
    let store = store_at(server.socket());
    let large = Bytes::from(vec![b'x'; 900_000]);
    let items: Vec<_> = (0..64).map(|n| item(format!("large{n}"), large.clone())).collect();
    let keys: Vec<_> = items.iter().map(|item| item.key.clone()).collect();
    assert_eq!(write(&store, items).await, [Write::Stored; 64]);
    let reads = store.read(PLACE, &keys, Instant::now() + AMPLE).await;
    assert!(reads.iter().all(|read| *read == value(large.clone())));

    // One that answers each command before it reads the next, with little room for answers that are not read.
    let socket = TcpSocket::new_v4().expect("a socket");
    socket.set_send_buffer_size(4096).expect("a size");
    socket.bind(SocketAddr::from(([127, 0, 0, 1], 0))).expect("a loopback port");
    let listener = socket.listen(8).expect("it listens");
    let address = listener.local_addr().expect("it is bound");
    tokio::spawn(async move {
        let (stream, _) = listener.accept().await.expect("one comes");
        let mut stream = BufReader::new(stream);
        while line(&mut stream).await.is_some() && line(&mut stream).await.is_some() {
            stream.write_all(b"SERVER_ERROR object too large for cache\r\n").await.expect("it is read");
        }
    });
    let items: Vec<_> = (0..8_000).map(|n| item(format!("{n}"), vec![b'x'; 2_000])).collect();
    let writes = write(&store_at(address), items).await;
    assert!(writes.iter().all(|write| *write == Write::Lost(Loss::Refused)), "each was answered");
}

#[tokio::test]
async fn a_reply_that_is_cut_gives_what_had_come_whole() {
    let reply = "VALUE a 0 3\r\nxyz\r\nVALUE b 0 7\r\n\r\nEND\r\n\r\nEND\r\n";
    let (first, second) = (18, 40);
    for (then, want) in [(None, Loss::Unavailable), (Some(PATIENCE), Loss::Timeout)] {
        let cuts = (0..reply.len()).map(|cut| async move {
            let (address, _) = scripted(move |_, stream| async move {
                let mut stream = BufReader::new(stream);
                while line(&mut stream).await.is_some() {
                    stream.write_all(&reply.as_bytes()[..cut]).await.expect("it is read");
                    match then {
                        None => return,
                        Some(pause) => tokio::time::sleep(pause).await,
                    }
                }
            })
            .await;
            let (store, time) = (store_at(address), if then.is_none() { AMPLE } else { Duration::from_secs(2) });
            let or_lost = |whole, value| if cut >= whole { value } else { Read::Lost(want) };
            let wanted = [or_lost(first, value("xyz")), or_lost(second, value("\r\nEND\r\n")), Read::Lost(want)];
            assert_eq!(read_within(&store, &["a", "b", "c"], time).await, wanted, "cut at {cut}, then {then:?}");
        });
        join_all(cuts).await;
    }
}

#[tokio::test]
async fn garbage_is_told_at_once_and_its_connection_is_not_used_again() {
    for (reply, want) in [
        ("VALUE a 0 4294967296\r\n", Loss::Garbage),
        ("VALUE a 0 1049600\r\n", Loss::Garbage),
        ("VALUE other 0 1\r\nx\r\nEND\r\n", Loss::Garbage),
        ("VALUE b 0 1\r\nx\r\nVALUE b 0 1\r\ny\r\nEND\r\n", Loss::Garbage),
        ("VALUE b 0 1\r\nx\r\nEND\r\nEND\r\n", Loss::Garbage),
        ("HTTP/1.1 400 Bad Request\r\n\r\n", Loss::Garbage),
        (&"x".repeat(600), Loss::Garbage),
        ("STORED\r\n", Loss::Garbage),
        ("ERROR\r\n", Loss::Refused),
        ("CLIENT_ERROR line format\r\n", Loss::Refused),
        ("SERVER_ERROR out of memory\r\n", Loss::Refused),
    ] {
        let (address, connections) = answering(Bytes::copy_from_slice(reply.as_bytes())).await;
        let store = store_at(address);
        for n in 1..=3 {
            let reads = read(&store, &["a", "b"]).await;
            assert_eq!(reads[0], Read::Lost(want), "{reply}");
            assert_eq!(connections.load(Ordering::SeqCst), n, "{reply}");
        }
        for _ in 3..10 {
            read(&store, &["a"]).await;
        }
        assert_eq!(store.servers()[0].is_open, want == Loss::Garbage, "an error is an answer: {reply}");
    }
}

#[tokio::test]
async fn a_server_that_says_no_before_it_closes_is_heard() {
    let (address, _) = scripted(|_, mut stream| async move {
        stream.write_all(b"ERROR Too many open connections\r\n").await.expect("it is read");
    })
    .await;
    let large = vec![item("key", vec![b'x'; 1_000_000])];
    for _ in 0..20 {
        // When the server closes with bytes unread, the connection is reset, which may overtake its last words.
        let writes = write(&store_at(address), large.clone()).await;
        assert!(matches!(writes[..], [Write::Lost(Loss::Refused | Loss::Unavailable)]), "{writes:?}");
    }
    let (address, _) = answering(Bytes::from_static(b"ERROR Too many open connections\r\n")).await;
    assert_eq!(write(&store_at(address), large).await, [Write::Lost(Loss::Refused)]);
}

#[tokio::test]
async fn a_kept_connection_that_closes_unasked_is_replaced_once() {
    // Each connection answers once, and closes at the second question after so many bytes of an answer.
    async fn closing(bytes: usize) -> (SocketAddr, Arc<AtomicUsize>) {
        scripted(move |_, stream| async move {
            let mut stream = BufReader::new(stream);
            let reply = b"VALUE a 0 1\r\nx\r\nEND\r\n";
            for part in [&reply[..], &reply[..bytes]] {
                line(&mut stream).await;
                stream.write_all(part).await.expect("it is read");
            }
        })
        .await
    }
    let (address, connections) = closing(0).await;
    let kept = store_at(address);
    for n in [1, 2, 3] {
        assert_eq!(read(&kept, &["a"]).await, [value("x")]);
        assert_eq!(connections.load(Ordering::SeqCst), n);
    }
    let (address, connections) = closing(1).await;
    let begun = store_at(address);
    assert_eq!(read(&begun, &["a"]).await, [value("x")]);
    assert_eq!(read(&begun, &["a"]).await, [Read::Lost(Loss::Unavailable)], "an answer had begun");
    assert_eq!(connections.load(Ordering::SeqCst), 1);

    let (address, connections) =
        scripted(|_, stream| async move { drop(line(&mut BufReader::new(stream)).await) }).await;
    assert_eq!(read(&store_at(address), &["a"]).await, [Read::Lost(Loss::Unavailable)]);
    assert_eq!(connections.load(Ordering::SeqCst), 1, "a new connection is not replaced");
}

#[tokio::test]
async fn what_nobody_asked_for_is_no_answer_to_the_next_question() {
    let go_on = Arc::new(Notify::new());
    let (tell, mut told) = mpsc::channel(1);
    let (address, connections) = scripted({
        let go_on = Arc::clone(&go_on);
        move |n, stream| {
            let (go_on, tell) = (Arc::clone(&go_on), tell.clone());
            async move {
                let mut stream = BufReader::new(stream);
                while line(&mut stream).await.is_some() {
                    stream.write_all(b"VALUE a 0 1\r\nx\r\nEND\r\n").await.expect("it is read");
                    if n == 0 {
                        go_on.notified().await;
                        stream.write_all(b"END\r\n").await.expect("there is room");
                        tell.send(()).await.expect("it is awaited");
                    }
                }
            }
        }
    })
    .await;
    let (other, _) = answering(Bytes::from_static(b"END\r\n")).await;
    let store = store_at(address);
    assert_eq!(read(&store, &["a"]).await, [value("x")]);
    go_on.notify_one();
    told.recv().await.expect("it was sent");
    // What has come before this answer is known after it.
    assert_eq!(read(&store_at(other), &["a"]).await, [Read::Absent]);
    assert_eq!(read(&store, &["a"]).await, [value("x")]);
    assert_eq!(connections.load(Ordering::SeqCst), 2);
}

/// A server that answers each key with itself, sooner or later.
async fn echo_after_a_while(n: usize, stream: TcpStream) {
    let (mut random, mut stream) = (Random::from(n), BufReader::new(stream));
    while let Some(command) = line(&mut stream).await {
        if random.below(4) == 0 {
            tokio::time::sleep(Duration::from_micros(random.below(8_000) as u64)).await;
        }
        let mut reply = String::new();
        for key in command.split(' ').skip(1) {
            write!(reply, "VALUE {key} 0 {}\r\n{key}\r\n", key.len()).expect("a text takes everything");
        }
        reply += "END\r\n";
        let cut = random.below(reply.len());
        for part in [&reply[..cut], &reply[cut..]] {
            if stream.write_all(part.as_bytes()).await.is_err() {
                return;
            }
            if random.below(8) == 0 {
                tokio::time::sleep(Duration::from_micros(random.below(4_000) as u64)).await;
            }
        }
    }
}

#[tokio::test]
async fn a_late_reply_is_never_taken_for_the_next_one() {
    let (address, _) = scripted(echo_after_a_while).await;
    let (asked, seed) = (AtomicUsize::new(0), Random::seeded("late replies").below(1 << 30));
    let worker = |worker: usize| {
        let asked = &asked;
        async move {
            let (mut random, mut store, mut counts) = (Random::from(seed + worker), store_at(address), [0; 3]);
            while asked.fetch_add(1, Ordering::Relaxed) < 10_000 {
                // Few different keys, so that a reply to another question could be taken for the right one.
                let keys: Vec<_> = (0..=random.below(3)).map(|_| format!("key{}", random.below(50))).collect();
                let time = Duration::from_micros(500 + random.below(8_000) as u64);
                let is_left = random.below(5) == 0;
                let call = store.read(PLACE, &keys, Instant::now() + if is_left { AMPLE } else { time });
                let Ok(reads) = tokio::time::timeout(if is_left { time } else { AMPLE }, call).await else {
                    counts[2] += 1;
                    continue;
                };
                for (key, read) in keys.iter().zip(&reads) {
                    match read {
                        Read::Value(value) => assert_eq!(value, key),
                        Read::Lost(Loss::Timeout | Loss::Breaker) => {}
                        other => panic!("{key}: {other:?}"),
                    }
                }
                counts[usize::from(reads.contains(&Read::Lost(Loss::Timeout)))] += 1;
                if store.servers()[0].is_open {
                    store = store_at(address);
                }
            }
            counts
        }
    };
    let counts = join_all((0..32).map(worker)).await;
    let sum = |kind: usize| counts.iter().map(|counts| counts[kind]).sum::<usize>();
    println!("whole {}, timed out {}, left {}", sum(0), sum(1), sum(2));
    assert!((0..3).all(|kind| sum(kind) > 200), "there are too few of one kind");
}

#[tokio::test]
async fn a_server_that_hangs_costs_its_deadline_and_then_nothing() {
    let log = Log::of("promfront::cache::store");
    let server = MemcachedServer::start(&[]).await;
    let store = store_at(server.socket());
    assert_eq!(write(&store, vec![item("a", "x")]).await, [Write::Stored]);
    server.pause().await;
    let mut asked = 0;
    while !store.servers()[0].is_open {
        let began = Instant::now();
        let reads = read_within(&store, &["a"], Duration::from_millis(50)).await;
        assert_eq!(reads, [Read::Lost(Loss::Timeout)]);
        assert!(began.elapsed() < Duration::from_secs(5), "{:?}", began.elapsed());
        asked += 1;
    }
    // On a busy machine a deadline may be over before the server is asked, which does not count against the server.
    assert!((10..30).contains(&asked), "it opens after {asked} failures");
    assert_eq!(read(&store, &["a"]).await, [Read::Lost(Loss::Breaker)]);
    assert_eq!(write(&store, vec![item("a", "y")]).await, [Write::Lost(Loss::Breaker)]);
    assert_eq!(log.lines().len(), 1, "{:?}", log.lines());
    server.resume();
    until("it recovers", async || read(&store, &["a"]).await == [value("x")]).await;
    assert!(!store.servers()[0].is_open);
    let lines = log.lines();
    assert!(lines.len() == 2 && lines[0].starts_with("WARN") && lines[1].starts_with("INFO"), "{lines:?}");
}

#[tokio::test]
async fn a_deadline_that_is_over_is_no_failure_of_the_server() {
    let server = MemcachedServer::start(&[]).await;
    let store = store_at(server.socket());
    for _ in 0..20 {
        assert_eq!(read_within(&store, &["a"], Duration::ZERO).await, [Read::Lost(Loss::Timeout)]);
    }
    assert_eq!(read(&store, &["a"]).await, [Read::Absent]);
}

#[tokio::test]
async fn a_restarted_server_is_found_again_at_once() {
    let mut server = MemcachedServer::start(&[]).await;
    let store = store_at(server.socket());
    let fill = join_all((0..64).map(|n| write(&store, vec![item(format!("key{n}"), "x")]))).await;
    assert!(fill.iter().all(|writes| *writes == [Write::Stored]));
    for round in 0..3 {
        server.restart().await;
        let writes = join_all((0..64).map(|n| write(&store, vec![item(format!("key{n}"), "x")]))).await;
        let lost = writes.iter().filter(|writes| **writes != [Write::Stored]).count();
        assert_eq!(lost, 0, "of 64, in round {round}");
        assert_eq!(read(&store, &["key0", "key63"]).await, [value("x"), value("x")]);
    }
}

#[tokio::test]
async fn a_server_that_is_gone_is_unavailable() {
    let mut server = MemcachedServer::start(&[]).await;
    let store = store_at(server.socket());
    assert_eq!(read(&store, &["a"]).await, [Read::Absent]);
    server.kill();
    for _ in 0..10 {
        assert_eq!(read(&store, &["a"]).await, [Read::Lost(Loss::Unavailable)]);
    }
    assert_eq!(read(&store, &["a"]).await, [Read::Lost(Loss::Breaker)]);

    let nowhere = Memcached::new(vec![], Options::default());
    assert_eq!(read(&nowhere, &["a", "b"]).await, [Read::Lost(Loss::Unavailable), Read::Lost(Loss::Unavailable)]);
    assert_eq!(write(&nowhere, vec![item("a", "x")]).await, [Write::Lost(Loss::Unavailable)]);

    // Nobody answers there, or nobody can be asked.
    let far = store_at(SocketAddr::from(([192, 0, 2, 1], 11211)));
    let began = Instant::now();
    let reads = read_within(&far, &["a"], Duration::from_millis(50)).await;
    assert!(matches!(reads[..], [Read::Lost(Loss::Timeout | Loss::Unavailable)]), "{reads:?}");
    assert!(began.elapsed() < Duration::from_secs(5), "{:?}", began.elapsed());
}

#[tokio::test]
async fn connections_have_bounds() {
    let server = MemcachedServer::start(&[]).await;
    let store = store(&[server.socket()], Options { max_idle: 4, max_connections: 20, ..Options::default() });
    let large = Bytes::from(vec![b'x'; 500_000]);
    assert_eq!(write(&store, vec![item("large", large.clone())]).await, [Write::Stored]);
    let before = server.stat("total_connections").await;
    let reads = join_all((0..200).map(|_| read(&store, &["large"]))).await;
    assert!(reads.iter().all(|reads| *reads == [value(large.clone())]));
    // Besides the four there is the one that asks for this.
    until("four are kept", async || server.stat("curr_connections").await <= 5).await;
    let high = server.stat("total_connections").await - before;
    assert!(high > 4, "some calls were at the same time: {high}");

    let (address, count) = scripted(|_, stream| async move {
        let mut stream = BufReader::new(stream);
        while line(&mut stream).await.is_some() {}
    })
    .await;
    let silent = self::store(&[address], Options { max_connections: 3, ..Options::default() });
    let mut holders = join_all((0..3).map(|_| read(&silent, &["a"])));
    until("three connect", async || {
        assert!(futures::poll!(&mut holders).is_pending());
        count.load(Ordering::SeqCst) == 3
    })
    .await;
    let others = (0..50).map(|_| read_within(&silent, &["a"], Duration::from_millis(50)));
    assert!(join_all(others).await.iter().all(|reads| *reads == [Read::Lost(Loss::Timeout)]));
    assert_eq!(count.load(Ordering::SeqCst), 3);
}

#[tokio::test]
async fn servers_come_and_go_with_their_names() {
    let [one, two] = [1, 2].map(|host| Ipv4Addr::new(127, 0, 0, host));
    let first = MemcachedServer::start_at(one, 0, &[]).await;
    let port = first.port();
    let servers = [first, MemcachedServer::start_at(two, port, &[]).await];
    let mut dns = DnsServer::start(&[Record::Host("cache.test", &[one.into(), two.into()])]).await;
    let discovery = discovery::Options {
        interval: Duration::from_millis(50),
        name_servers: vec![dns.socket()],
        ..discovery::Options::default()
    };
    let address = Address::parse(&format!("dns+cache.test:{port}")).expect("an address");
    let store = Memcached::new(vec![address], Options { discovery, ..Options::default() });
    let become_these = async |want: &[&MemcachedServer]| {
        let want: Vec<_> = want.iter().map(|server| server.address()).collect();
        let names = || store.servers().into_iter().map(|server| server.name).collect::<Vec<_>>();
        until(&format!("the servers are {want:?}"), async || names() == want).await;
    };
    let deadline = || Instant::now() + AMPLE;
    become_these(&[&servers[0], &servers[1]]).await;
    for place in 0..100 {
        let items = vec![item(format!("{place}a"), "x"), item(format!("{place}b"), "y")];
        assert_eq!(store.write(place, items, deadline()).await, [Write::Stored; 2]);
    }
    let shares = [servers[0].stat("curr_items").await, servers[1].stat("curr_items").await];
    assert!(
        shares.iter().sum::<usize>() == 200 && shares.iter().all(|share| share % 2 == 0 && *share > 50),
        "{shares:?}"
    );

    let connections = servers[0].stat("total_connections").await;
    dns.set(&[Record::Host("cache.test", &[one.into()])]).await;
    become_these(&[&servers[0]]).await;
    let mut hits = 0;
    for place in 0..100 {
        let reads = store.read(place, &[format!("{place}a")], deadline()).await;
        hits += usize::from(reads == [value("x")]);
        assert!(reads == [value("x")] || reads == [Read::Absent], "{reads:?}");
    }
    assert_eq!(2 * hits, shares[0], "what lay on the one that stayed");
    until("no connection to the one that left is kept", async || servers[1].stat("curr_connections").await <= 1).await;
    dns.set(&[Record::Host("cache.test", &[two.into(), one.into()])]).await;
    become_these(&[&servers[0], &servers[1]]).await;
    for place in 0..100 {
        assert_eq!(store.read(place, &[format!("{place}b")], deadline()).await, [value("y")], "all is as before");
    }
    assert_eq!(
        servers[0].stat("total_connections").await,
        connections + 1,
        "the connection to the one that stayed is kept"
    );
}
