//! Names that change, against a real DNS server.

mod support;

use std::net::SocketAddr;
use std::time::Duration;

use promfront::discovery::{Address, Discovery, Options, Servers};
use support::caches::{DnsServer, Record};
use support::log::Log;
use support::only_ipv4::OnlyIpv4;
use support::until;
use tokio::sync::watch;

/// Longer than any state takes to come.
const PATIENCE: Duration = Duration::from_secs(30);

fn discover(addresses: &[&str], name_server: SocketAddr) -> Discovery {
    let addresses = addresses.iter().map(|text| Address::parse(text).expect("an address")).collect();
    let options = Options {
        interval: Duration::from_millis(50),
        timeout: Duration::from_millis(900),
        name_servers: vec![name_server],
    };
    Discovery::new(addresses, options)
}

/// Waits until the servers are these.
async fn becomes(discovery: &Discovery, want: &[&str]) {
    let mut changes: watch::Receiver<Servers> = discovery.subscribe();
    let is_there = changes.wait_for(|servers| servers.iter().map(|server| &*server.address).eq(want.iter().copied()));
    let is_there = tokio::time::timeout(PATIENCE, is_there).await.is_ok();
    assert!(is_there, "{:?} did not become {want:?}", discovery.servers());
}

/// Waits until a few more rounds have failed.
async fn fails(discovery: &Discovery) {
    let before = discovery.failures();
    until("rounds fail", async || discovery.failures() >= before + 3).await;
}

fn are(discovery: &Discovery, want: &[&str]) {
    assert!(
        discovery.servers().iter().map(|server| &*server.address).eq(want.iter().copied()),
        "{:?}",
        discovery.servers()
    );
}

#[tokio::test]
async fn addresses_follow_their_records() {
    let one = "host-record=cache.test,127.0.0.1";
    let mut dns = DnsServer::start(
        &[one, "host-record=cache.test,127.0.0.2,::1", "host-record=other.test,127.0.0.1"].map(Record::Line),
    )
    .await;
    let addresses = ["dns+cache.test:11211", "zone-a:11211", "dns+other.test.:11211", "dns+10.0.0.9:1", "dns+[::1]:2"];
    let discovery = discover(&addresses, dns.socket());
    are(&discovery, &["zone-a:11211"]);
    let literal = ["10.0.0.9:1", "127.0.0.1:11211"];
    let all = [literal[0], literal[1], "127.0.0.2:11211", "[::1]:11211", "[::1]:2", "zone-a:11211"];
    becomes(&discovery, &all).await;
    assert_eq!(discovery.failures(), 0, "a family without records is no failure");
    dns.set(&[one, "host-record=other.test,127.0.0.3"].map(Record::Line)).await;
    becomes(&discovery, &[literal[0], literal[1], "127.0.0.3:11211", "[::1]:2", "zone-a:11211"]).await;
}

#[tokio::test]
async fn the_last_good_answer_is_kept() {
    let records =
        ["host-record=cache.test,127.0.0.1", "host-record=cache.test,127.0.0.2", "host-record=other.test,127.0.0.5"];
    let mut dns = DnsServer::start(&records.map(Record::Line)).await;
    let discovery = discover(&["dns+cache.test:1", "dns+other.test:1"], dns.socket());
    becomes(&discovery, &["127.0.0.1:1", "127.0.0.2:1", "127.0.0.5:1"]).await;

    dns.set(&["txt-record=cache.test,nothing", "host-record=other.test,127.0.0.6"].map(Record::Line)).await;
    becomes(&discovery, &["127.0.0.1:1", "127.0.0.2:1", "127.0.0.6:1"]).await;
    fails(&discovery).await;
    are(&discovery, &["127.0.0.1:1", "127.0.0.2:1", "127.0.0.6:1"]);

    dns.set(&["host-record=other.test,127.0.0.7"].map(Record::Line)).await;
    becomes(&discovery, &["127.0.0.1:1", "127.0.0.2:1", "127.0.0.7:1"]).await;
    fails(&discovery).await;
    are(&discovery, &["127.0.0.1:1", "127.0.0.2:1", "127.0.0.7:1"]);

    dns.kill();
    fails(&discovery).await;
    are(&discovery, &["127.0.0.1:1", "127.0.0.2:1", "127.0.0.7:1"]);

    dns.set(&["host-record=cache.test,127.0.0.9", "host-record=other.test,127.0.0.7"].map(Record::Line)).await;
    becomes(&discovery, &["127.0.0.7:1", "127.0.0.9:1"]).await;
}

#[tokio::test]
async fn a_trouble_is_told_when_it_begins_and_ends() {
    let log = Log::of("promfront::discovery");
    let record = "host-record=cache.test,127.0.0.1";
    let mut dns = DnsServer::start(&[record].map(Record::Line)).await;
    let discovery = discover(&["dns+cache.test:1"], dns.socket());
    becomes(&discovery, &["127.0.0.1:1"]).await;
    assert!(log.lines().is_empty(), "{:?}", log.lines());
    dns.kill();
    fails(&discovery).await;
    assert_eq!(log.lines(), ["WARN a name was not resolved: what it resolved to before stays"]);
    dns.set(&["host-record=cache.test,127.0.0.2"].map(Record::Line)).await;
    becomes(&discovery, &["127.0.0.2:1"]).await;
    assert_eq!(log.lines()[1..], ["INFO the name is resolved again"]);
}

#[tokio::test]
async fn services_follow_their_records() {
    let (a, b) = ("srv-host=_memcache._tcp.cache.test,a.test,11211", "srv-host=_memcache._tcp.cache.test,b.test,11212");
    let (host_a, host_b) = ("host-record=a.test,127.0.0.1", "host-record=b.test,127.0.0.2,::1");
    let mut dns = DnsServer::start(&[a, b, host_a, host_b].map(Record::Line)).await;
    let resolved = discover(&["dnssrv+_memcache._tcp.cache.test"], dns.socket());
    let named = discover(&["dnssrvnoa+_memcache._tcp.cache.test"], dns.socket());
    becomes(&resolved, &["127.0.0.1:11211", "127.0.0.2:11212", "[::1]:11212"]).await;
    becomes(&named, &["a.test:11211", "b.test:11212"]).await;
    assert_eq!((resolved.failures(), named.failures()), (0, 0));

    // One target has no address any more, the other one has another.
    dns.set(&[a, b, "host-record=a.test,127.0.0.3"].map(Record::Line)).await;
    becomes(&resolved, &["127.0.0.2:11212", "127.0.0.3:11211", "[::1]:11212"]).await;
    fails(&resolved).await;
    // It is no target any more.
    dns.set(&[a, "host-record=a.test,127.0.0.3"].map(Record::Line)).await;
    becomes(&resolved, &["127.0.0.3:11211"]).await;
    becomes(&named, &["a.test:11211"]).await;
    // There are no SRV records any more.
    dns.set(&["host-record=a.test,127.0.0.4"].map(Record::Line)).await;
    becomes(&resolved, &["127.0.0.4:11211"]).await;
    fails(&named).await;
    are(&named, &["a.test:11211"]);
    // There is one, which says that there is no such service.
    dns.set(&["srv-host=_memcache._tcp.cache.test", "host-record=a.test,127.0.0.5"].map(Record::Line)).await;
    becomes(&resolved, &["127.0.0.5:11211"]).await;
    fails(&named).await;
    are(&named, &["a.test:11211"]);
}

#[tokio::test]
async fn a_family_that_is_not_answered_is_kept() {
    let mut dns = DnsServer::start(&["host-record=cache.test,127.0.0.9,::1"].map(Record::Line)).await;
    let discovery = discover(&["dns+cache.test:1"], dns.socket());
    becomes(&discovery, &["127.0.0.9:1", "[::1]:1"]).await;
    dns.kill();
    let only_ipv4 = OnlyIpv4::start(dns.socket()).await;
    becomes(&discovery, &["127.0.0.1:1", "[::1]:1"]).await;
    fails(&discovery).await;
    are(&discovery, &["127.0.0.1:1", "[::1]:1"]);
    drop(only_ipv4);
    dns.set(&["host-record=cache.test,127.0.0.1"].map(Record::Line)).await;
    becomes(&discovery, &["127.0.0.1:1"]).await;
}

#[tokio::test]
async fn who_never_answers_to_one_family_is_asked_for_the_other() {
    let only_ipv4 = OnlyIpv4::start(SocketAddr::from(([127, 0, 0, 1], 0))).await;
    let discovery = discover(&["dns+cache.test:1"], only_ipv4.address);
    becomes(&discovery, &["127.0.0.1:1"]).await;
    assert_eq!(discovery.failures(), 0);
}

#[tokio::test]
async fn dns_may_come_up_later_and_refuse_at_first() {
    // It would have to ask others, and knows none.
    let refused = "server=/elsewhere/#";
    let (cache, elsewhere) = ("host-record=cache.test,127.0.0.1", "host-record=cache.elsewhere,127.0.0.2");
    let mut dns = DnsServer::start(&[]).await;
    dns.kill();
    let discovery = discover(&["dns+cache.test:1", "dns+cache.elsewhere:1"], dns.socket());
    are(&discovery, &[]);
    fails(&discovery).await;
    dns.set(&[refused, cache].map(Record::Line)).await;
    becomes(&discovery, &["127.0.0.1:1"]).await;
    fails(&discovery).await;
    dns.set(&[refused, cache, elsewhere].map(Record::Line)).await;
    becomes(&discovery, &["127.0.0.1:1", "127.0.0.2:1"]).await;
}

#[tokio::test]
async fn one_address_has_a_thousand_servers_at_most() {
    let records: Vec<_> = (0..1_010).map(|n| format!("host-record=cache.test,10.0.{}.{}", n / 250, n % 250)).collect();
    let records: Vec<_> = records.iter().map(|line| Record::Line(line)).collect();
    let dns = DnsServer::start(&records).await;
    let discovery = discover(&["dns+cache.test:1", "plain:1"], dns.socket());
    let mut changes = discovery.subscribe();
    let full = tokio::time::timeout(PATIENCE, changes.wait_for(|servers| servers.len() > 1)).await;
    assert_eq!(full.expect("in time").expect("it is not dropped").len(), 1_001);
    fails(&discovery).await;
    assert_eq!(discovery.servers().len(), 1_001);
}

#[tokio::test]
async fn it_ends_with_its_owner() {
    let dns = DnsServer::start(&["host-record=cache.test,127.0.0.1"].map(Record::Line)).await;
    let discovery = discover(&["dns+cache.test:1"], dns.socket());
    becomes(&discovery, &["127.0.0.1:1"]).await;
    let mut changes = discovery.subscribe();
    drop(discovery);
    let ended = tokio::time::timeout(PATIENCE, async { while changes.changed().await.is_ok() {} }).await;
    assert!(ended.is_ok(), "the task goes on");
}
