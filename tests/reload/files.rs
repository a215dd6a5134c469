//! Files that change while promfront looks at them: written, swapped by a link, gone; variables in them; Thanos's cache file.

use std::fs;
use std::os::unix::fs::symlink;
use std::process::Command;

use super::rig::{EMPTY, Rig, before, server, words_of};
use crate::support::scripted::{Scripted, ok};
use crate::support::{Folder, Http, Promfront, until};

fn auto(command: &mut Command) {
    command.args(["--config.auto-reload", "--config.auto-reload-interval=10ms"]);
}

async fn until_answered_by(rig: &Rig, name: &str) {
    until(&format!("{name} answers"), async || rig.ask("query?query=up", &[]).await.body[..] == words_of(name)).await;
}

#[tokio::test]
async fn what_is_written_is_found() {
    let (a, b) = (server("a").await, server("b").await);
    let rig = Rig::prepared(&before(&a.url, ""), auto);
    for _ in 0..3 {
        for (url, name) in [(&b.url, "b"), (&a.url, "a")] {
            rig.write(&before(url, ""));
            until_answered_by(&rig, name).await;
        }
    }
    // In place, as an editor may do it, and of the same length.
    fs::write(rig.file(), before(&b.url, "")).expect("a file");
    until_answered_by(&rig, "b").await;
    let sound = rig.last().await;
    rig.write("limits: {max_query_bites: 2}\n");
    rig.until_last(false).await;
    assert_eq!(rig.last().await.success_at, sound.success_at);
    assert_eq!(&rig.ask("query?query=up", &[]).await.body[..], words_of("b"), "the old one holds");
    // Gone: the old one holds, and what comes back is found, though it is what was there before.
    fs::remove_file(rig.file()).expect("it is there");
    rig.write(&before(&b.url, ""));
    rig.until_last(true).await;
    fs::remove_file(rig.file()).expect("it is there");
    rig.until_last(false).await;
    assert_eq!(&rig.ask("query?query=up", &[]).await.body[..], words_of("b"));
    rig.write(&before(&a.url, ""));
    until_answered_by(&rig, "a").await;
    rig.until_last(true).await;
}

/// A file that stays wrong is not told again and again.
#[tokio::test]
async fn what_stays_wrong_is_told_once() {
    let (a, b) = (server("a").await, server("b").await);
    let rig = Rig::prepared(&before(&a.url, ""), auto);
    rig.write("limits: {max_query_bites: 2}\n");
    rig.until_last(false).await;
    // Two hundred questions take much longer than many looks at the file.
    for _ in 0..200 {
        until_answered_by(&rig, "a").await;
    }
    rig.write(&before(&b.url, ""));
    until_answered_by(&rig, "b").await;
    let told = rig.promfront.log().iter().filter(|line| line.contains("max_query_bites")).count();
    assert_eq!(told, 1, "{:#?}", rig.promfront.log());
}

/// As a kubelet updates a `ConfigMap`: the file is a link through `..data`, which is moved to another folder in one step.
#[tokio::test]
async fn a_swapped_link_is_found() {
    let (a, b) = (server("a").await, server("b").await);
    let folder = Folder::new("configmap");
    let at = |name: &str| folder.path().join(name);
    let publish = |version: &str, yaml: &str| {
        fs::create_dir(at(version)).expect("a folder");
        fs::write(at(version).join("promfront.yaml"), yaml).expect("a file");
        symlink(version, at("..data_tmp")).expect("a link");
        fs::rename(at("..data_tmp"), at("..data")).expect("ours to move");
    };
    publish("..v1", &before(&a.url, ""));
    symlink("..data/promfront.yaml", at("promfront.yaml")).expect("a link");
    let promfront = Promfront::of_file(&at("promfront.yaml"), auto);
    let (http, url) = (Http::new(), format!("{}/api/v1/query?query=up", promfront.url));
    assert_eq!(&http.get(&url).await.body[..], words_of("a"));
    for (version, old, next, name) in [("..v2", "..v1", &b, "b"), ("..v3", "..v2", &a, "a"), ("..v4", "..v3", &b, "b")]
    {
        publish(version, &before(&next.url, ""));
        fs::remove_dir_all(at(old)).expect("it is there");
        until(&format!("{version} is found"), async || http.get(&url).await.body[..] == words_of(name)).await;
    }
}

#[tokio::test]
async fn a_file_that_is_gone_is_told_and_the_old_one_holds() {
    let downstream = server("a").await;
    let rig = Rig::start(&before(&downstream.url, ""));
    let began = rig.last().await;
    fs::remove_file(rig.file()).expect("it is there");
    let answer = rig.post().await;
    assert_eq!(answer.status.as_u16(), 500);
    assert!(answer.text().contains("promfront.yaml") && answer.text().contains("No such file"), "{}", answer.text());
    fs::create_dir(rig.file()).expect("a folder");
    assert_eq!(rig.post().await.status.as_u16(), 500, "a folder is no file");
    fs::remove_dir(rig.file()).expect("ours");
    fs::write(rig.file(), [0xff, 0xfe, 0x00]).expect("a file");
    assert_eq!(rig.post().await.status.as_u16(), 500, "this is no text");
    let last = rig.last().await;
    assert_eq!((last.is_success, last.success_at), (false, began.success_at));
    assert_eq!(&rig.ask("query?query=up", &[]).await.body[..], words_of("a"));
    rig.reload(&before(&downstream.url, "")).await;
    assert!(rig.last().await.is_success);
}

/// Variables are expanded in each file that is read, and one that is not set is a reason to keep the old one.
#[tokio::test]
async fn variables_are_expanded_again() {
    let (a, b) = (server("a").await, server("b").await);
    let rig = Rig::prepared("downstream: {urls: [\"${SERVER_A}\"]}\n", |command| {
        command.args(["--web.enable-lifecycle", "--config.expand-env"]);
        command.env("SERVER_A", &a.url).env("SERVER_B", &b.url).env_remove("SERVER_C");
    });
    assert_eq!(&rig.ask("query?query=up", &[]).await.body[..], words_of("a"));
    rig.reload("downstream: {urls: [\"${SERVER_B}\"]}\n").await;
    assert_eq!(&rig.ask("query?query=up", &[]).await.body[..], words_of("b"));
    let said = rig.refused("downstream: {urls: [\"${SERVER_C}\"]}\n").await;
    assert!(said.contains("the variable SERVER_C is not set"), "{said}");
    assert_eq!(&rig.ask("query?query=up", &[]).await.body[..], words_of("b"));
    rig.reload(&format!("downstream: {{urls: [\"${{SERVER_C:-{}}}\"]}}\n", a.url)).await;
    assert_eq!(&rig.ask("query?query=up", &[]).await.body[..], words_of("a"));
}

/// The flag goes before the file at a reload too.
#[tokio::test]
async fn the_flag_for_servers_still_overrides_the_file() {
    let (a, b) = (server("a").await, server("b").await);
    let rig = Rig::prepared(&before(&b.url, ""), |command| {
        command.arg("--web.enable-lifecycle").arg(format!("--downstream.url={}", a.url));
    });
    rig.reload(&before(&b.url, "limits: {max_query_bytes: 2}")).await;
    assert_eq!(&rig.ask("query?query=up", &[]).await.body[..], words_of("a"));
    assert_eq!(rig.ask("query?query=abc", &[]).await.status.as_u16(), 400, "and the rest of the file holds");
}

/// Without a file there is nothing to read, and asking for it does no harm.
#[tokio::test]
async fn without_a_file_a_reload_changes_nothing() {
    let downstream = server("a").await;
    let promfront = Promfront::of_flags(&[&format!("--downstream.url={}", downstream.url)]);
    let (http, url) = (Http::new(), format!("{}/api/v1/query?query=up", promfront.url));
    let at = async || promfront.metrics().await.sum("promfront_config_last_reload_success_timestamp_seconds", &[]);
    let began = at().await;
    until("it was loaded again", async || {
        promfront.hang_up();
        at().await > began
    })
    .await;
    assert_eq!(&http.get(&url).await.body[..], words_of("a"));
}

/// Under Thanos's flags a hangup reads the files again that they name.
#[tokio::test]
async fn thanos_cache_file_is_read_again() {
    const MATRIX: &[u8] = br#"{"status":"success","data":{"resultType":"matrix","result":[]}}"#;
    let downstream =
        Scripted::start(|asked| Some(ok(if asked.head.contains("query_range") { MATRIX } else { EMPTY }))).await;
    let folder = Folder::new("thanos");
    let file = folder.path().join("cache.yaml");
    let sized = |size: &str| format!("type: IN-MEMORY\nconfig:\n  max_size: {size}\n");
    fs::write(&file, sized("64MB")).expect("a file");
    let flag = format!("--query-range.response-cache-config-file={}", file.display());
    let promfront = Promfront::as_thanos(&downstream.url, &[&flag]);
    let (http, url) =
        (Http::new(), format!("{}/api/v1/query_range?query=up&start=1000&end=1060&step=60", promfront.url));
    let ask = async || http.get(&url).await.result().split(';').next().unwrap_or_default().to_owned();
    assert_eq!((ask().await, ask().await), ("status=miss".to_owned(), "status=hit".to_owned()));
    let is_success = async || promfront.metrics().await.sum("promfront_config_last_reload_successful", &[]) > 0.5;
    fs::write(&file, "type: IN-MEMORY\nconfig:\n  max_sise: 1\n").expect("a file");
    promfront.hang_up();
    until("it is refused", async || !is_success().await).await;
    assert_eq!(ask().await, "status=hit", "the old one holds");
    fs::write(&file, sized("32MB")).expect("a file");
    promfront.hang_up();
    until("it is taken", async || is_success().await).await;
    assert_eq!((ask().await, ask().await), ("status=miss".to_owned(), "status=hit".to_owned()), "it begins empty");
    let reload = http.post(&format!("{}/-/reload", promfront.url), "").await;
    assert_eq!(reload.status.as_u16(), 403, "there is no flag for it");
}
