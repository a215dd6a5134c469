//! Servers as they are run: failing over, asking for passwords, speaking TLS, moving about in DNS (rows 16 to 19).

use std::fs;
use std::net::{IpAddr, Ipv4Addr};
use std::time::{Duration, Instant};

use futures::FutureExt;
use futures::future::LocalBoxFuture;

use crate::cell::{Afterwards, BACK_WITHIN, Cache, Cell, Sign, hits, memcached_yaml, redis_yaml, together};
use crate::support::caches::{DnsServer, MemcachedServer, Record, RedisServer};
use crate::support::faults::{FaultProxy, Mode};
use crate::support::redis::{Certificates, RedisCluster, Watched};
use crate::support::{Folder, Promfront, until};

/// Row 16.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn failovers_are_followed() {
    together([fails_over_by_sentinels().boxed_local(), fails_over_in_a_cluster().boxed_local()]).await;
}

async fn fails_over_by_sentinels() {
    let mut rig = Watched::start().await;
    let yaml = redis_yaml(&format!("url: {}\nsentinel_master: {}", rig.url(), Watched::NAME));
    let mut cell = Cell::taught("failover", Cache::Several("redis, sentinels", yaml)).await;
    cell.begin().await;
    rig.master.kill();
    let killed = Instant::now();
    cell.suffer(&[Sign::MissOf(&["unavailable", "timeout"])]).await;
    cell.recover(Afterwards::Kept).await;
    let took = killed.elapsed();
    assert!(rig.replica.cli(&["ROLE"]).starts_with("master"), "it is another master");
    // The old one comes back, and follows.
    rig.master.restart().await;
    cell.until_shared(BACK_WITHIN).await;
    cell.note(format_args!("{took:.1?} after the master was killed"));
    cell.end();
}

async fn fails_over_in_a_cluster() {
    let mut rig = RedisCluster::start().await;
    let yaml = redis_yaml(&format!("url: {}\ncluster: true", rig.url()));
    let mut cell = Cell::taught("failover", Cache::Several("redis, cluster", yaml)).await;
    cell.begin().await;
    rig.nodes[0].kill();
    cell.suffer(&[Sign::MissOf(&["unavailable", "timeout"])]).await;
    until("the replica is a master", async || rig.nodes[3].cli(&["ROLE"]).starts_with("master")).await;
    cell.recover(Afterwards::Kept).await;
    rig.nodes[0].restart().await;
    cell.until_shared(BACK_WITHIN).await;
    cell.end();
}

/// Row 16: slots move from node to node while they are asked for.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn slots_that_move_are_followed() {
    let rig = RedisCluster::start().await;
    let yaml = redis_yaml(&format!("url: {}\ncluster: true", rig.url()));
    let mut cell = Cell::taught("migration", Cache::Several("redis, cluster", yaml)).await;
    cell.begin().await;
    let [from, to] = [0, 1].map(|node| rig.nodes[node].cli(&["CLUSTER", "MYID"]));
    let address = rig.nodes[0].address();
    let (from, to) = (["--cluster-from", &from], ["--cluster-to", &to]);
    let reshard = [&["--cluster", "reshard", &address][..], &from, &to, &["--cluster-slots", "2000", "--cluster-yes"]];
    let mut moving = rig.nodes[0].cli_in_background(&reshard.concat());
    let before = hits(&cell.reader().metrics().await);
    let questions = cell.questions[1].clone();
    let mut rounds = 0;
    while moving.is_running() || rounds == 0 {
        rounds += 1;
        cell.all_same(cell.reader(), &questions).await;
        cell.is_shared().await;
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    assert!(hits(&cell.reader().metrics().await) > before + 0.5, "meanwhile it is of use");
    let owned = rig.nodes[1].cli(&["CLUSTER", "NODES"]);
    let owned = owned.lines().find(|line| line.contains("myself")).unwrap_or_default();
    assert_eq!(owned.split(' ').skip(8).count(), 2, "it has slots of the other one: {owned}");
    cell.recover(Afterwards::Kept).await;
    cell.end();
}

const SECRETS: [&str; 3] = ["correct-horse", "battery-staple", "hunter2-hunter2"];

fn no_secret_is_told(replicas: &[Promfront]) {
    for line in replicas.iter().flat_map(Promfront::log) {
        assert!(SECRETS.iter().all(|secret| !line.contains(secret)), "{line}");
    }
}

/// Row 17: what is wrong at first, right then, wrong again after a rotation, and right again with the new password, which
/// is read without a restart.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn passwords_may_be_wrong_and_may_change() {
    let folder = Folder::new("secrets");
    let file = folder.path().join("password");
    let [first, second, wrong] = SECRETS;
    let redis = RedisServer::start(&["--requirepass", first]).await;
    let proxy = FaultProxy::before(redis.port()).await;
    fs::write(&file, format!("{wrong}\n")).expect("a file");
    let yaml = redis_yaml(&format!("url: redis://127.0.0.1:{}\npassword_file: {}", proxy.port(), file.display()));
    let mut cell = Cell::untaught("password", Cache::Several("redis", yaml)).await;
    cell.start_replicas();
    let began = Instant::now();
    cell.suffer(&[Sign::Miss("purges-unknown")]).await;
    is_no_storm(&proxy, began);
    let told = |word: &str| cell.reader().log().iter().any(|line| line.contains(word));
    assert!(told("WRONGPASS") && told("password_file"), "what is wrong is told");

    fs::write(&file, first).expect("a file");
    cell.recover(Afterwards::Lost).await;

    let set = redis.cli(&["-a", first, "CONFIG", "SET", "requirepass", second]);
    assert_eq!(set, "OK");
    let (began, connections) = (Instant::now(), proxy.counts().connections);
    redis.cli(&["-a", second, "CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes"]);
    let fresh = cell.fresh_questions();
    cell.suffer_with(&fresh, &[Sign::MissOf(&["unavailable", "purges-unknown"])]).await;
    is_no_storm_since(&proxy, began, connections);
    fs::write(&file, format!("{second}\r\n")).expect("a file");
    cell.until_shared(BACK_WITHIN).await;
    no_secret_is_told(&cell.replicas);
    cell.end();
}

fn is_no_storm(proxy: &FaultProxy, began: Instant) {
    is_no_storm_since(proxy, began, 0);
}

/// Two replicas with four connections each: all at once at first, more and more slowly, then once a second.
fn is_no_storm_since(proxy: &FaultProxy, began: Instant, connections: usize) {
    let seconds = usize::try_from(began.elapsed().as_secs()).expect("few");
    let made = proxy.counts().connections - connections;
    assert!(made <= 8 * (8 + 2 * seconds), "{made} connections in {seconds} s");
}

/// Row 17.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_user_who_may_not_is_refused_and_does_no_harm() {
    let folder = Folder::new("secrets");
    let file = folder.path().join("password");
    fs::write(&file, SECRETS[0]).expect("a file");
    let redis = RedisServer::start(&[]).await;
    let allow = |rules: &[&str]| {
        let secret = format!(">{}", SECRETS[0]);
        let command = [&["ACL", "SETUSER", "promfront", "reset", "on", secret.as_str()], rules].concat();
        assert_eq!(redis.cli(&command), "OK");
    };
    let all = ["~promfront:*", "+mget", "+set"];
    allow(&all);
    let login = format!("username: promfront\npassword_file: {}", file.display());
    let yaml = redis_yaml(&format!("url: {}\n{login}", format_args!("redis://{}", redis.address())));
    let mut cell = Cell::taught("acl", Cache::Several("redis", yaml)).await;
    cell.begin().await;
    for (rules, signs) in [
        (&["~other:*", "+mget", "+set"][..], &[Sign::Miss("refused")][..]),
        (&["~promfront:*", "+set"], &[Sign::Miss("refused")]),
        (&["~promfront:*", "+mget"], &[Sign::Written("refused")]),
    ] {
        allow(rules);
        let fresh = cell.fresh_questions();
        cell.suffer_with(&fresh, signs).await;
        allow(&all);
        cell.until_shared(BACK_WITHIN).await;
    }
    cell.recover(Afterwards::Kept).await;
    no_secret_is_told(&cell.replicas);
    cell.end();
}

/// Row 18.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn tls_that_proves_nothing_is_not_used_and_not_replaced_by_plaintext() {
    let mut cells = Vec::<LocalBoxFuture<'static, ()>>::new();
    for certificate in ["expired", "wrong-name", "stranger"] {
        cells.push(untrusted(certificate).boxed_local());
    }
    cells.push(stalled_handshake().boxed_local());
    cells.push(plaintext().boxed_local());
    together(cells).await;
}

fn tls_yaml(port: u16, certificates: &Certificates) -> String {
    redis_yaml(&format!("url: rediss://127.0.0.1:{port}\nca_file: {}", certificates.path("ca.crt")))
}

/// The server has a certificate that is not to be trusted, and then gets a good one in the same place.
async fn untrusted(certificate: &str) {
    let certificates = Certificates::make();
    let mut redis = RedisServer::start_tls(&certificates, certificate).await;
    let yaml = tls_yaml(redis.port(), &certificates);
    let mut cell = Cell::untaught(&format!("TLS: {certificate}"), Cache::Several("redis", yaml)).await;
    cell.start_replicas();
    cell.suffer(&[Sign::Miss("purges-unknown")]).await;
    assert!(cell.reader().log().iter().any(|line| line.contains("TLS: invalid peer certificate")), "it is told");
    for kind in ["crt", "key"] {
        let [good, bad] = ["good", certificate].map(|name| certificates.path(&format!("{name}.{kind}")));
        fs::copy(good, bad).expect("it can be replaced");
    }
    redis.restart().await;
    cell.recover(Afterwards::Lost).await;
    cell.end();
}

async fn stalled_handshake() {
    let certificates = Certificates::make();
    let redis = RedisServer::start_tls(&certificates, "good").await;
    let proxy = FaultProxy::before(redis.port()).await;
    proxy.set(Mode::BlackHole).await;
    let yaml = tls_yaml(proxy.port(), &certificates);
    let mut cell = Cell::untaught("TLS: stalled", Cache::Several("redis", yaml)).await;
    cell.start_replicas();
    cell.suffer(&[Sign::Miss("purges-unknown")]).await;
    proxy.set(Mode::Pass).await;
    cell.recover(Afterwards::Lost).await;
    cell.end();
}

async fn plaintext() {
    let certificates = Certificates::make();
    let redis = RedisServer::start(&[]).await;
    let yaml = tls_yaml(redis.port(), &certificates);
    let mut cell = Cell::untaught("TLS: plaintext", Cache::Several("redis", yaml)).await;
    cell.start_replicas();
    for phase in 0..3 {
        let questions = cell.questions[phase].clone();
        cell.suffer_with(&questions, &[Sign::Miss("purges-unknown")]).await;
    }
    assert_eq!(redis.cli(&["DBSIZE"]), "0", "nothing is told in the clear");
    assert!(!redis.cli(&["INFO", "commandstats"]).contains("mget"), "nothing is asked in the clear");
    cell.end();
}

/// Row 19: one name; it is gone, its name server is gone, it leads elsewhere, and it leads back.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_name_that_does_not_resolve_any_more_stays_what_it_was() {
    let memcached = MemcachedServer::start(&[]).await;
    let (here, nowhere) = (Ipv4Addr::LOCALHOST.into(), IpAddr::V4(Ipv4Addr::new(127, 0, 0, 9)));
    let mut dns = DnsServer::start(&[Record::Host("cache.test", &[here])]).await;
    let name = format!("dns+cache.test:{}", memcached.port());
    let mut cell = Cell::taught("DNS", Cache::Several("memcached", dns_yaml(&name, &dns))).await;
    cell.begin().await;
    // Long enough for a look or two; that it was looked is in the log.
    dns.set(&[]).await;
    told(&cell, "there is no such name").await;
    assert!(cell.ask_phase(1).await > 0.5 && cell.is_shared().await, "the name is gone, the servers are not");
    dns.set(&[Record::Service("cache.test", "cache.test", 1)]).await;
    told(&cell, "no such").await;
    assert!(cell.is_shared().await, "it has no addresses");
    dns.kill();
    told(&cell, "").await;
    assert!(cell.is_shared().await, "nobody answers");
    dns.set(&[Record::Host("cache.test", &[nowhere])]).await;
    let fresh = cell.fresh_questions();
    cell.suffer_with(&fresh, &[Sign::Miss("unavailable")]).await;
    dns.set(&[Record::Host("cache.test", &[here])]).await;
    cell.recover(Afterwards::Kept).await;
    cell.end();
}

/// Row 19: services; a server joins, and the other one leaves.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn servers_that_join_and_leave_move_their_own_share_only() {
    let servers = [MemcachedServer::start(&[]).await, MemcachedServer::start(&[]).await];
    let here = Record::Host("host.test", &[IpAddr::V4(Ipv4Addr::LOCALHOST)]);
    let service = |server: usize| Record::Service("_m._tcp.test", "host.test", servers[server].port());
    let mut dns = DnsServer::start(&[here, service(0)]).await;
    let mut cell =
        Cell::taught("DNS services", Cache::Several("memcached", dns_yaml("dnssrv+_m._tcp.test", &dns))).await;
    cell.begin().await;
    dns.set(&[here, service(0), service(1)]).await;
    known(&cell, 2).await;
    let kept = cell.ask_phase(1).await;
    assert!(kept > 0.5, "what is not the new one's stays where it was");
    until("both are used", async || {
        cell.is_shared().await;
        !servers[1].keys().await.iter().all(|key| key.contains("purges"))
    })
    .await;
    dns.set(&[here, service(1)]).await;
    known(&cell, 1).await;
    cell.recover(Afterwards::Lost).await;
    cell.note(format_args!("{kept} hits with one more server"));
    cell.end();
}

fn dns_yaml(address: &str, dns: &DnsServer) -> String {
    let discovery = format!("discovery:\n  interval: 500ms\n  nameservers: [\"{}\"]\n", dns.socket());
    format!("{}{discovery}", memcached_yaml(&format!("addresses: [\"{address}\"]")))
}

/// Waits until the replicas have told a trouble with the name once more.
async fn told(cell: &Cell, why: &str) {
    let lines = |replica: &Promfront| {
        let log = replica.log();
        log.iter().filter(|line| line.contains("a name was not resolved") && line.contains(why)).count()
    };
    until("the trouble is told", async || cell.replicas.iter().all(|replica| lines(replica) > 0)).await;
}

/// Waits until the replicas know so many servers.
async fn known(cell: &Cell, count: usize) {
    until("the servers are known", async || {
        let mut is_known = true;
        for replica in &cell.replicas {
            is_known &= replica.metrics().await.all("promfront_cache_remote_breaker_open").len() == count;
        }
        is_known
    })
    .await;
}
