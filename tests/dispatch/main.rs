//! The dispatcher: what is promised to whoever asks, and to the slots that pull. All of it by tokio's clock, which is paused:
//! time passes only while everything waits, so nothing here sleeps for real and no machine is too slow.

mod answers;
mod failures;
mod history;
mod rests;
mod slots;
#[path = "../support/mod.rs"]
mod support;
mod waits;
mod world;
