//! The texts that travel: who a request says it is from, its parameters, the body of an answer; and the headers that stay.
//!
//! Pure: bytes in, values out and back. Neither side is trusted; what is not understood is named, never guessed.

pub mod body;
pub mod caller;
pub mod hop;
pub mod request;
pub mod response;
mod scan;
pub mod skim;
mod stride;
