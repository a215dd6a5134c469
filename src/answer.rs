//! A range answer on its way out: its pieces, merged and written chunk by chunk as the client takes them.
//!
//! However large an answer is, no more of it than a chunk is made at a time: what is held stays as it is held.

use std::ops::ControlFlow;
use std::sync::Arc;

use bytes::Bytes;

use crate::merge::{Places, merge_on};
use crate::model::response::{Annotations, Piece};
use crate::model::series::Matrix;
use crate::model::whole::Packing;
use crate::wire::body::Writer;

/// A chunk is at least so many bytes, but for the last, and goes on to the end of a series.
const CHUNK: usize = 128 << 10;

/// What a range query is answered with.
#[derive(Clone, Debug)]
pub struct RangeBody {
    /// The pieces, in order, disjoint.
    pub pieces: Arc<[Piece]>,
    /// So many series are written at most.
    pub most_series: Option<u64>,
    /// What is said about the whole.
    pub annotations: Annotations,
    /// What it cost, if that was asked for.
    pub stats: Option<String>,
}

impl RangeBody {
    /// An answer without series.
    pub fn empty() -> Self {
        Self { pieces: Arc::new([]), most_series: None, annotations: Annotations::default(), stats: None }
    }

    /// Whether its bytes are told by its pieces alone, and these are as they will stay: a text will be packed in a moment.
    pub fn is_lasting(&self) -> bool {
        let is_packed = |piece: &Piece| matches!(piece.answer.matrix, Matrix::Packed(_));
        self.most_series.is_none()
            && self.annotations.is_empty()
            && self.stats.is_none()
            && self.pieces.iter().all(is_packed)
    }

    /// About how many bytes it has: of the points of a piece that is cut, as great a share as it takes of its instants.
    pub fn about_bytes(&self) -> usize {
        let of = |piece: &Piece| {
            let (taken, all) = (u128::from(piece.grid.len()), u128::from(piece.answer.grid.len()));
            let labels = piece.answer.matrix.label_bytes();
            let points = (piece.answer.matrix.text_bytes() - labels) as u128 * taken / all.max(1);
            labels.saturating_add(usize::try_from(points).unwrap_or(usize::MAX))
        };
        self.pieces.iter().map(of).sum()
    }

    /// Its bytes, chunk by chunk.
    pub fn chunks(self, packing: Packing) -> Chunks {
        Chunks { body: self, writer: Some(Writer::new(packing)), places: Places::default() }
    }

    /// Whether there are more series than `most`.
    pub fn has_more_series_than(&self, most: u64) -> bool {
        let mut series = 0;
        !merge_on(&self.pieces, &mut Places::default(), |_| {
            series += 1;
            if series > most { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
        })
    }
}

/// The chunks of a body.
#[derive(Debug)]
pub struct Chunks {
    body: RangeBody,
    writer: Option<Writer>,
    places: Places,
}

impl Chunks {
    /// Whether there is none left.
    pub fn is_done(&self) -> bool {
        self.writer.is_none()
    }
}

impl Iterator for Chunks {
    type Item = Bytes;

    fn next(&mut self) -> Option<Bytes> {
        let mut writer = self.writer.take()?;
        let RangeBody { pieces, most_series, annotations, stats } = &self.body;
        let is_full = |writer: &Writer| most_series.is_some_and(|most| writer.series_written() >= most);
        let is_done = is_full(&writer)
            || merge_on(pieces, &mut self.places, |series| {
                writer.series(series);
                if is_full(&writer) || writer.ready() >= CHUNK {
                    ControlFlow::Break(())
                } else {
                    ControlFlow::Continue(())
                }
            });
        if is_done || is_full(&writer) {
            return Some(writer.finish(annotations, stats.as_deref()).into());
        }
        let chunk = writer.take().into();
        self.writer = Some(writer);
        Some(chunk)
    }
}
