//! What a slot answers is what the client gets, and a slot is its client's until the last byte.

use std::io;

use axum::body::Body;
use bytes::Bytes;
use futures::channel::mpsc;
use http::Response;
use http_body::Frame;
use http_body_util::{BodyExt, Full, StreamBody};
use promfront::error::{ApiError, ErrorKind};
use promfront::sched::dispatch::Job;
use tokio::task::JoinHandle;

use super::world::*;

type Chunks = mpsc::UnboundedSender<Result<Frame<Bytes>, io::Error>>;

/// An answer whose body is what is sent, and ends when the sender is dropped.
fn streamed(status: u16) -> (Chunks, Response<Body>) {
    let (chunks, body) = mpsc::unbounded();
    let (head, _) = answer(status, "").into_parts();
    (chunks, Response::from_parts(head, Body::new(StreamBody::new(body))))
}

fn send(chunks: &Chunks, text: &str) {
    chunks.unbounded_send(Ok(Frame::data(Bytes::from(text.to_owned())))).expect("the body is still there");
}

fn answering(job: Job, response: Response<Body>) -> JoinHandle<()> {
    tokio::spawn(job.answer(response))
}

/// A whole answer travels untouched: its status, its headers, its bytes; and the question reached the slot so.
#[tokio::test(start_paused = true)]
async fn a_whole_answer_is_handed_on_as_it_is() {
    for status in [200, 204, 301, 400, 404, 422, 429, 500, 501, 599] {
        let world = World::new();
        let asked = world.ask(request("/api/v1/query"));
        let mut slot = world.slot("a");
        let job = at_once(&mut slot).await;
        let sent = job.outgoing();
        assert_eq!((sent.method.as_str(), name(&job), sent.query.as_str()), ("POST", "/api/v1/query", "query=up"));
        assert_eq!(
            (&sent.headers["x-kept"], &sent.body[..]),
            (&"as it was".parse().expect("a value"), &b"sent as it is"[..])
        );
        let mut response = answer(status, "\0 any bytes \u{1F980}");
        response.headers_mut().append("x-twice", "1".parse().expect("a value"));
        response.headers_mut().append("x-twice", "2".parse().expect("a value"));
        job.answer_whole(response, None);
        let (head, body) = reply(asked).await.expect("an answer").into_parts();
        assert_eq!(head.status, status);
        assert_eq!(head.headers.get_all("x-twice").iter().collect::<Vec<_>>(), ["1", "2"]);
        assert_eq!(head.headers.len(), 2, "nothing is added");
        assert_eq!(body.collect().await.expect("whole").to_bytes(), "\0 any bytes \u{1F980}");
        world.is_at_rest().await;
        assert_eq!(world.metric(&format!("promfront_downstream_requests_total{{code=\"{status}\"}}")), 1);
    }
}

/// A streamed answer reaches the client piece by piece, trailers included, before the server has said all.
#[tokio::test(start_paused = true)]
async fn a_streamed_answer_comes_as_it_is_sent() {
    let world = World::new();
    let asked = world.ask(request("a"));
    let mut slot = world.slot("a");
    let (chunks, response) = streamed(200);
    let running = answering(at_once(&mut slot).await, response);
    let mut body = reply(asked).await.expect("the head is there").into_body();
    for piece in ["one", "two"] {
        send(&chunks, piece);
        assert_eq!(body.frame().await.expect("a piece").expect("of data").into_data().expect("data"), piece);
        calm().await;
        assert!(!running.is_finished(), "the slot is busy while the body is on its way");
        assert_eq!(world.counts(), (0, 1));
    }
    let mut trailers = http::HeaderMap::new();
    trailers.insert("x-sum", "6".parse().expect("a value"));
    chunks.unbounded_send(Ok(Frame::trailers(trailers.clone()))).expect("it is there");
    drop(chunks);
    assert_eq!(body.frame().await.expect("trailers").expect("whole").into_trailers().expect("trailers"), trailers);
    assert!(body.frame().await.is_none());
    drop(body);
    running.await.expect("no panic");
    world.is_at_rest().await;
}

/// The slot is free when the body was read to its end, though whoever read it still holds it.
#[tokio::test(start_paused = true)]
async fn a_body_read_to_its_end_frees_the_slot_before_it_is_dropped() {
    let world = World::new();
    let asked = world.ask(request("a"));
    let mut slot = world.slot("a");
    let (chunks, response) = streamed(200);
    let running = answering(at_once(&mut slot).await, response);
    let mut body = reply(asked).await.expect("the head is there").into_body();
    drop(chunks);
    assert!(body.frame().await.is_none());
    calm().await;
    assert!(running.is_finished(), "the body was read to its end");
    drop(body);
    world.is_at_rest().await;
}

/// A client that drops the body in the middle frees the slot.
#[tokio::test(start_paused = true)]
async fn a_body_that_is_dropped_frees_the_slot() {
    let world = World::new();
    let asked = world.ask(request("a"));
    let mut slot = world.slot("a");
    let (chunks, response) = streamed(200);
    let running = answering(at_once(&mut slot).await, response);
    let body = reply(asked).await.expect("the head is there").into_body();
    send(&chunks, "more");
    calm().await;
    assert!(!running.is_finished());
    drop(body);
    running.await.expect("no panic");
    assert!(chunks.is_closed(), "the server's body is dropped with it");
    world.is_at_rest().await;
}

/// A client that has left before the answer came frees the slot, and the server's body is dropped.
#[tokio::test(start_paused = true)]
async fn an_answer_that_nobody_waits_for_frees_the_slot() {
    let world = World::new();
    let asked = world.ask(request("a"));
    let mut slot = world.slot("a");
    let job = at_once(&mut slot).await;
    asked.abort();
    calm().await;
    let (chunks, response) = streamed(200);
    answering(job, response).await.expect("no panic");
    assert!(chunks.is_closed());
    world.is_at_rest().await;
}

/// A client that leaves between an answer's being sent and his having it does not keep the slot.
#[tokio::test(start_paused = true)]
async fn an_answer_that_was_sent_and_not_fetched_frees_the_slot() {
    let world = World::new();
    let mut asked = Box::pin(world.dispatcher.ask(request("a").submission()));
    assert!(futures::poll!(&mut asked).is_pending());
    let mut slot = world.slot("a");
    let (chunks, response) = streamed(200);
    let running = answering(at_once(&mut slot).await, response);
    calm().await;
    assert!(!running.is_finished());
    drop(asked);
    running.await.expect("no panic");
    assert!(chunks.is_closed());
    world.is_at_rest().await;
}

/// A body that the server breaks off is an error to the client, and frees the slot.
#[tokio::test(start_paused = true)]
async fn a_body_that_breaks_off_is_an_error_and_frees_the_slot() {
    let world = World::new();
    let asked = world.ask(request("a"));
    let mut slot = world.slot("a");
    let (chunks, response) = streamed(200);
    let running = answering(at_once(&mut slot).await, response);
    let mut body = reply(asked).await.expect("the head is there").into_body();
    send(&chunks, "begun");
    assert_eq!(body.frame().await.expect("a piece").expect("of data").into_data().expect("data"), "begun");
    chunks.unbounded_send(Err(io::Error::from(io::ErrorKind::ConnectionReset))).expect("it is there");
    assert!(body.frame().await.expect("something").is_err(), "the end was not reached, and that is told");
    drop(body);
    running.await.expect("no panic");
    world.is_at_rest().await;
}

/// The task of a streamed answer that is cut off leaves no slot busy, and the client keeps what is on its way.
#[tokio::test(start_paused = true)]
async fn a_task_that_is_cut_off_while_it_streams_frees_the_slot() {
    let world = World::new();
    let asked = world.ask(request("a"));
    let mut slot = world.slot("a");
    let (chunks, response) = streamed(200);
    let running = answering(at_once(&mut slot).await, response);
    let body = reply(asked).await.expect("the head is there").into_body();
    running.abort();
    world.is_at_rest().await;
    send(&chunks, "still here");
    drop(chunks);
    assert_eq!(body.collect().await.expect("whole").to_bytes(), "still here");
}

/// A refusal that is longer than what is judged is handed on whole.
#[tokio::test(start_paused = true)]
async fn a_long_refusal_is_handed_on_whole() {
    let world = World::new();
    let asked = world.ask(request("a"));
    let mut slot = world.slot("a");
    let (chunks, response) = streamed(503);
    let running = answering(at_once(&mut slot).await, response);
    let piece = "not ready ".repeat(1000);
    for _ in 0..30 {
        send(&chunks, &piece);
    }
    drop(chunks);
    let (status, body) = answered(asked).await;
    assert_eq!((status, body.len()), (503, 30 * piece.len()));
    assert!(body == piece.repeat(30), "no byte is lost or moved");
    running.await.expect("no panic");
    world.is_at_rest().await;
}

/// A refusal on its way whose client leaves, or whose time is over, is not waited for.
#[tokio::test(start_paused = true)]
async fn a_refusal_that_nobody_waits_for_frees_the_slot() {
    for leaves in [true, false] {
        let world = World::new();
        let asked = world.ask(request("a").within(5 * SECOND));
        let mut slot = world.slot("a");
        let (_chunks, response) = streamed(503);
        let running = answering(at_once(&mut slot).await, response);
        if leaves {
            asked.abort();
        } else {
            assert_eq!(refused(asked).await.0, ErrorKind::Timeout);
        }
        calm().await;
        assert!(running.is_finished());
        world.is_at_rest().await;
    }
}

/// A streamed refusal is judged like a whole one: tried again, or handed on.
#[tokio::test(start_paused = true)]
async fn a_streamed_refusal_is_judged_like_a_whole_one() {
    let world = World::new();
    let (mut first, mut second) = (world.slot("a"), world.slot("b"));
    let asked = world.ask(request("a"));
    let (chunks, response) = streamed(503);
    send(&chunks, "not ");
    let running = answering(at_once(&mut first).await, response);
    calm().await;
    send(&chunks, "ready");
    drop(chunks);
    at_once(&mut second).await.answer_whole(answer(200, "from b"), None);
    assert_eq!(answered(asked).await, (200, "from b".to_owned()));
    running.await.expect("no panic");

    pass(SECOND).await;
    let asked = world.ask(request("b"));
    let about_the_query =
        r#"{"status":"error","errorType":"timeout","error":"query timed out in expression evaluation"}"#;
    let (chunks, response) = streamed(503);
    send(&chunks, about_the_query);
    drop(chunks);
    let running = answering(at_once(&mut first).await, response);
    assert_eq!(answered(asked).await, (503, about_the_query.to_owned()));
    running.await.expect("no panic");
    world.is_at_rest().await;
}

/// A refusal whose body breaks off is a failed try.
#[tokio::test(start_paused = true)]
async fn a_refusal_that_breaks_off_is_tried_elsewhere() {
    let world = World::new();
    let (mut first, mut second) = (world.slot("a"), world.slot("b"));
    let asked = world.ask(request("a"));
    let (chunks, response) = streamed(502);
    chunks.unbounded_send(Err(io::Error::from(io::ErrorKind::UnexpectedEof))).expect("it is there");
    let job = at_once(&mut first).await;
    job.answer(response).await;
    at_once(&mut second).await.answer_whole(answer(200, "from b"), None);
    assert_eq!(answered(asked).await, (200, "from b".to_owned()));
    world.is_at_rest().await;
}

/// An error that a slot gives is the client's, in its own kind and words.
#[tokio::test(start_paused = true)]
async fn an_unusable_answer_is_told_at_once() {
    let world = World::new();
    let (mut first, mut second) = (world.slot("a"), world.slot("b"));
    let asked = world.ask(request("a"));
    at_once(&mut first).await.unusable(ApiError::new(ErrorKind::BadGateway, "no answer at all"));
    assert_eq!(refused(asked).await, (ErrorKind::BadGateway, "no answer at all".to_owned()));
    nothing(&mut second, SECOND).await;
    world.is_at_rest().await;
}

/// A request that runs is given to nobody else, however many slots wait.
#[tokio::test(start_paused = true)]
async fn one_request_runs_at_one_slot() {
    let world = World::new();
    let mut slots: Vec<_> = (0..6).map(|i| world.slot(&format!("querier-{}", i / 2))).collect();
    let asked = world.ask(request("a"));
    let all = slots.iter_mut().map(|slot| Box::pin(slot.next()));
    let (job, _, others) = futures::future::select_all(all).await;
    let others = futures::future::select_all(others);
    assert!(tokio::time::timeout(SECOND, others).await.is_err(), "nobody else has it");
    let (answered, ()) = tokio::join!(answered(asked), job.answer(Response::new(Full::<Bytes>::from("x"))));
    assert_eq!(answered, (200, "x".to_owned()));
    world.is_at_rest().await;
}
