//! Five hundred reloads that swap servers and caches leave nothing behind: no file, no thread, no slot, no memory.

use std::fs;

use super::rig::{Rig, instant};
use crate::support::{Prometheus, until};

/// Reloads before it is measured the first time, and after.
const ROUNDS: [usize; 2] = [100, 400];
/// What memory may have grown by meanwhile, in KiB: a fiftieth of what a cache that stays would take.
const MOST_KIB: usize = 8 << 10;

#[derive(Clone, Copy, Debug)]
struct Usage {
    files: usize,
    threads: usize,
    memory_kib: usize,
}

fn usage(process: u32) -> Usage {
    let status = fs::read_to_string(format!("/proc/{process}/status")).expect("Linux says");
    let number = |name: &str| {
        let line = status.lines().find_map(|line| line.strip_prefix(name)).expect("it is there");
        line.trim_matches(|c: char| !c.is_ascii_digit()).parse().expect("a number")
    };
    let files = fs::read_dir(format!("/proc/{process}/fd")).expect("Linux says").count();
    Usage { files, threads: number("Threads:"), memory_kib: number("VmRSS:") }
}

/// Swaps servers and the sizes of caches, and asks something of each, so that each has connections and something to hold.
async fn swap(rig: &Rig, urls: [&str; 2], rounds: usize) {
    for round in 0..rounds {
        let (url, size) = (urls[round % 2], 32 + round % 2);
        let whole = if round % 3 == 0 { 8 } else { 9 };
        rig.reload(&format!(
            "downstream: {{urls: [\"{url}\"]}}\ncache: {{memory: {{max_bytes: {size}MiB}}, whole: {{max_bytes: {whole}MiB}}}}\n"
        ))
        .await;
        let question = if round % 2 == 0 { super::rig::range("vector(1)", 48, "60") } else { instant("vector(1)") };
        let answer = rig.ask(&question, &[]).await;
        assert_eq!(answer.status.as_u16(), 200, "{}", answer.text());
    }
}

#[tokio::test]
async fn nothing_is_left_behind() {
    let (a, b) = (Prometheus::start(None, &[]).await, Prometheus::start(None, &[]).await);
    let rig = Rig::start(&super::rig::before(&a.url, ""));
    swap(&rig, [&a.url, &b.url], ROUNDS[0]).await;
    let first = usage(rig.promfront.id());
    swap(&rig, [&a.url, &b.url], ROUNDS[1]).await;
    until("connections of before are closed", async || usage(rig.promfront.id()).files <= first.files + 2).await;
    let last = usage(rig.promfront.id());
    println!("{first:?}, then {last:?}");
    assert!(last.threads <= first.threads + 1, "{last:?} after {first:?}");
    assert!(last.memory_kib <= first.memory_kib + MOST_KIB, "{last:?} after {first:?}");
    until("one server is in the queue", async || {
        let queues = rig.queues().await;
        queues["queriers"].as_array().is_some_and(|all| all.len() == 1) && queues["slots"] == 16
    })
    .await;
}
