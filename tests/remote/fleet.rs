//! Replicas that share a tier: what one learnt the other serves, also when both learn at once, and when one ends (row 21).

use std::time::Duration;

use futures::FutureExt;

use crate::cell::{BACK_WITHIN, Cache, Cell, asked_downstream, hits, in_use, together, written};
use crate::support::faults::{Calls, Fault, Mode};
use crate::support::{DATA_START, Promfront, range_params};

/// Questions over several days, none of which passes whole.
fn questions() -> Vec<String> {
    let window = |days: i64| (DATA_START.to_string(), (DATA_START + days * 86_400 - 60).to_string());
    let query = |number: usize| format!("sum by (code) (rate(http_requests_total[5m])) * {number}");
    (0..12)
        .map(|number| {
            let (start, end) = window(1 + i64::try_from(number % 4).expect("small"));
            range_params(&query(number), &start, &end, "300")
        })
        .collect()
}

/// A busy machine may take its time: these cells are not about that.
fn patient(cell: &mut Cell) {
    cell.yaml += "      timeout: 2s\n";
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_one_replica_learnt_the_other_serves() {
    let cells = Cache::both().await.map(|cache| {
        async {
            let mut cell = Cell::untaught("shared", cache).await;
            patient(&mut cell);
            cell.start_replicas();
            cell.until_shared(BACK_WITHIN).await;
            cell.all_same(&cell.replicas[1], &questions()).await;
            cell.replicas.remove(1).stop().await;
            serves_without_asking(&mut cell).await;
        }
        .boxed_local()
    });
    together(cells).await;
}

/// The reader, which has not been asked for any of it.
async fn serves_without_asking(cell: &mut Cell) {
    let before = cell.reader().metrics().await;
    for params in questions() {
        let answer = cell.same(cell.reader(), &params).await;
        assert!(answer.result().starts_with("status=hit"), "{params}: {}", answer.result());
    }
    let after = cell.reader().metrics().await;
    assert!((asked_downstream(&after) - asked_downstream(&before)).abs() < 0.5, "nothing was asked downstream");
    let hits = hits(&after) - hits(&before);
    assert!(hits > 11.5, "{hits} hits");
    cell.note(format_args!("{hits} hits, nothing asked downstream"));
    cell.end_of_few();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_replica_that_ends_writes_what_it_still_has_to_write() {
    let cells = Cache::both().await.map(|cache| {
        async {
            let mut cell = Cell::untaught("ends", cache).await;
            patient(&mut cell);
            cell.start_replicas();
            cell.until_shared(BACK_WITHIN).await;
            cell.set(Mode::Each(Calls::Writes, Fault::Slow(Duration::from_millis(300)))).await;
            let writer = cell.replicas.remove(1);
            let before = written(&writer.metrics().await, "stored");
            cell.all_same(&writer, &questions()).await;
            let during = written(&writer.metrics().await, "stored") - before;
            assert!(during < 11.5, "{during} were written before it was to end: there was nothing left to write");
            writer.stop().await;
            cell.set(Mode::Pass).await;
            cell.note(format_args!("{during} pages were written when it was to end"));
            serves_without_asking(&mut cell).await;
        }
        .boxed_local()
    });
    together(cells).await;
}

/// Row 21.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_that_grow_one_page_at_once_lose_nothing_for_long() {
    let cells = Cache::both().await.map(|cache| grows_under_two(cache).boxed_local());
    together(cells).await;
}

async fn grows_under_two(cache: Cache) {
    const HOUR: i64 = 3600;
    let mut cell = Cell::untaught("one page", cache).await;
    patient(&mut cell);
    let query = "sum by (code) (rate(http_requests_total[5m]))";
    let day = DATA_START + 3 * 86_400;
    let window = |from: i64, hours: i64| {
        range_params(query, &(day + from * HOUR).to_string(), &(day + (from + hours) * HOUR - 60).to_string(), "60")
    };
    cell.start_replicas();
    cell.until_shared(BACK_WITHIN).await;
    let before = cell.cache.pages().await.len();
    // They go through the day from both ends and overlap everywhere.
    for hour in 0..22 {
        let (mine, theirs) =
            (vec![window(hour, 2), window(hour / 2, 1)], vec![window(21 - hour, 2), window(hour / 2, 1)]);
        tokio::join!(cell.all_same(&cell.replicas[0], &mine), cell.all_same(&cell.replicas[1], &theirs));
    }
    for replica in std::mem::take(&mut cell.replicas) {
        replica.stop().await;
    }
    let page = async |cell: &Cell| {
        let pages = cell.cache.pages().await;
        let of_query = |value: &[u8]| value.windows(query.len()).any(|part| part == query.as_bytes());
        pages.iter().filter(|(_, value)| of_query(value)).map(|(_, value)| value.len()).max().unwrap_or(0)
    };
    let grown = page(&cell).await;
    // Who comes next may find less than all of it, asks for the rest, and has the whole written; the one after that finds it.
    let next = Promfront::configured(cell.downstream(), &cell.yaml);
    in_use(&next).await;
    let held = hits(&next.metrics().await);
    cell.same(&next, &window(0, 24)).await;
    assert!(hits(&next.metrics().await) > held + 0.5, "something of it is there");
    next.stop().await;
    let last = Promfront::configured(cell.downstream(), &cell.yaml);
    in_use(&last).await;
    let answer = cell.same(&last, &window(0, 24)).await;
    assert!(answer.result().starts_with("status=hit"), "{}", answer.result());
    let whole = page(&cell).await;
    assert!(grown <= 2 * whole, "{grown} bytes when two wrote it, {whole} when one did");
    assert!(cell.cache.pages().await.len() > before);
    cell.note(format_args!("{grown} bytes when two wrote it, {whole} when one did"));
    cell.end_of_few();
}
