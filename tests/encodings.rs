//! Every decoder reads what promfront packs, and reads in it what the server said.
//!
//! Need: an answer is put together of pieces that were held and pieces that were fetched, and what one decoder forgives another one
//! does not: a page of a browser stays empty, and nobody knows why. Rule: whatever was asked before, the packed answer is one sound
//! member of gzip and nothing else, and unpacked it is the direct answer to the last byte, as is the answer that is not packed. Decoders
//! are those that people have: Python's, Go's, those of gzip, curl, Rust and a browser.

mod support;

#[path = "encodings/browser.rs"]
mod browser;
#[path = "encodings/crowd.rs"]
mod crowd;
#[path = "encodings/decoders.rs"]
mod decoders;
#[path = "encodings/played.rs"]
mod played;
#[path = "encodings/rig.rs"]
mod rig;
#[path = "encodings/shared.rs"]
mod shared;
#[path = "encodings/shelf.rs"]
mod shelf;
#[path = "encodings/states.rs"]
mod states;
#[path = "encodings/wire.rs"]
mod wire;
