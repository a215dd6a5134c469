//! A rolling upgrade across a change of form: replicas of two versions are misses for each other, and no more than that.

use super::model::{DAY, EPOCH_MS, HOUR, Replica, Request, Settings, runtime, usual};
use super::store::Items;

const NOON: i64 = EPOCH_MS + DAY + 12 * HOUR;

#[test]
fn two_versions_do_not_disturb_each_other() {
    runtime().block_on(async {
        let items = Items::new();
        items.set_clock(NOON);
        let newer = Settings { version: usual().version + 1, ..usual() };
        let request = Request::up(0, 1439);
        let old = Replica::start(usual(), &items, NOON).await;
        old.answer_rightly(&request, NOON).await;
        items.settle().await;
        let of_old = items.pages();
        let new = Replica::start(newer, &items, NOON).await;
        let outcome = new.answer_rightly(&request, NOON).await;
        assert_eq!((outcome.held, new.misses("absent") > 0), (0, true), "only a miss");
        items.settle().await;
        // Neither overwrote the other, and each serves its own.
        let both = items.pages();
        assert!(of_old.iter().all(|(key, value)| both.get(key) == Some(value)));
        assert_eq!(both.len(), 2 * of_old.len());
        for settings in [usual(), newer, usual(), newer] {
            let next = Replica::start(settings, &items, NOON).await;
            assert!(next.answer_rightly(&request, NOON).await.parts.is_empty());
            items.settle().await;
            assert_eq!(items.pages(), both, "nothing is written again");
        }
    });
}

/// An entry of another version that lies under our key, as after a downgrade of something between, is a miss with its
/// reason, and is overwritten.
#[test]
fn an_entry_of_another_version_under_our_key_is_a_miss() {
    runtime().block_on(async {
        let items = Items::new();
        items.set_clock(NOON);
        let newer = Settings { version: usual().version + 1, ..usual() };
        let request = Request::up(0, 1439);
        Replica::start(newer, &items, NOON).await.answer_rightly(&request, NOON).await;
        items.settle().await;
        let ours = |key: &str| key.replacen(&format!(":{}:", newer.version), &format!(":{}:", usual().version), 1);
        for (key, value) in items.pages() {
            items.put(&ours(&key), value);
        }
        let old = Replica::start(usual(), &items, NOON).await;
        assert_eq!(old.answer_rightly(&request, NOON).await.held, 0);
        assert_eq!(old.misses("version"), 1);
        items.settle().await;
        let next = Replica::start(usual(), &items, NOON).await;
        assert!(next.answer_rightly(&request, NOON).await.parts.is_empty());
    });
}

/// The entry of another query under this one's key is a miss with its reason.
#[test]
fn an_entry_of_another_query_under_our_key_is_a_miss() {
    runtime().block_on(async {
        let items = Items::new();
        items.set_clock(NOON);
        let a = Replica::start(usual(), &items, NOON).await;
        let (mine, other) = (Request::up(0, 1439), Request { text: "max_over_time(up[2h])", ..Request::up(0, 1439) });
        a.answer_rightly(&other, NOON).await;
        items.settle().await;
        let theirs = items.pages();
        a.answer_rightly(&mine, NOON).await;
        items.settle().await;
        let (of_theirs, value) = theirs.iter().next().expect("one page");
        for key in items.pages().into_keys().filter(|key| key != of_theirs) {
            items.put(&key, value.clone());
        }
        let b = Replica::start(usual(), &items, NOON).await;
        assert_eq!(b.answer_rightly(&mine, NOON).await.held, 0);
        assert_eq!(b.misses("key"), 1);
    });
}
