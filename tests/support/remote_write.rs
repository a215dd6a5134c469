//! Samples for a running Prometheus, by its remote-write protocol: what no backfilled block can hold (native histograms)
//! and what has to arrive late.

use axum::body::Body;
use http::Request;

use super::Http;

/// A series with samples in time order.
#[derive(Clone, Debug)]
pub struct Series {
    /// Label names and values, `__name__` among them.
    pub labels: Vec<(String, String)>,
    /// Times in milliseconds.
    pub samples: Vec<(i64, Sample)>,
}

/// What a sample is.
#[derive(Clone, Copy, Debug)]
pub enum Sample {
    /// An ordinary one.
    Float(f64),
    /// A native histogram of so many observations, spread over three buckets.
    Histogram(u64),
    /// The series ends here.
    Stale,
}

impl Series {
    /// A series by its name and one label.
    pub fn new(name: &str, label: &str, samples: impl IntoIterator<Item = (i64, Sample)>) -> Self {
        let labels = vec![("__name__".to_owned(), name.to_owned()), ("l".to_owned(), label.to_owned())];
        Self { labels, samples: samples.into_iter().collect() }
    }
}

/// Sends them, and waits until they are taken.
pub async fn write(url: &str, series: &[Series]) {
    let mut message = Vec::new();
    for one in series {
        field(&mut message, 1, &encoded(one));
    }
    let request = Request::post(format!("{url}/api/v1/write"))
        .header("content-encoding", "snappy")
        .header("content-type", "application/x-protobuf")
        .header("x-prometheus-remote-write-version", "0.1.0")
        .body(Body::from(snappy(&message)))
        .expect("a sound URL");
    let answer = Http::new().send(request).await;
    assert!(answer.status.is_success(), "{}: {}", answer.status, answer.text());
}

fn encoded(series: &Series) -> Vec<u8> {
    let mut message = Vec::new();
    for (name, value) in &series.labels {
        let mut label = Vec::new();
        field(&mut label, 1, name.as_bytes());
        field(&mut label, 2, value.as_bytes());
        field(&mut message, 1, &label);
    }
    for (time, sample) in &series.samples {
        match sample {
            Sample::Float(value) => field(&mut message, 2, &float(*time, *value)),
            Sample::Stale => field(&mut message, 2, &float(*time, f64::from_bits(0x7ff0_0000_0000_0002))),
            Sample::Histogram(count) => field(&mut message, 4, &histogram(*time, *count)),
        }
    }
    message
}

fn float(time: i64, value: f64) -> Vec<u8> {
    let mut message = Vec::new();
    fixed(&mut message, 1, value);
    number(&mut message, 2, time.cast_unsigned());
    message
}

/// Three populated buckets around one, schema 3.
fn histogram(time: i64, count: u64) -> Vec<u8> {
    let zigzag = |value: i64| ((value << 1) ^ (value >> 63)).cast_unsigned();
    let mut message = Vec::new();
    number(&mut message, 1, count);
    #[expect(clippy::cast_precision_loss, reason = "small")]
    fixed(&mut message, 3, count as f64 * 1.1);
    number(&mut message, 4, zigzag(3));
    fixed(&mut message, 5, 1e-128);
    number(&mut message, 6, 0);
    let (first, second) = ((count / 3).cast_signed(), (count / 4).cast_signed());
    let third = count.cast_signed() - first - second;
    let mut span = Vec::new();
    number(&mut span, 1, zigzag(-1));
    number(&mut span, 2, 3);
    field(&mut message, 11, &span);
    let mut deltas = Vec::new();
    for delta in [first, second - first, third - second] {
        varint(&mut deltas, zigzag(delta));
    }
    field(&mut message, 12, &deltas);
    number(&mut message, 15, time.cast_unsigned());
    message
}

fn varint(out: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        out.push(u8::try_from(value & 0x7f).expect("seven bits") | 0x80);
        value >>= 7;
    }
    out.push(u8::try_from(value).expect("seven bits"));
}

fn number(out: &mut Vec<u8>, id: u64, value: u64) {
    varint(out, id << 3);
    varint(out, value);
}

fn fixed(out: &mut Vec<u8>, id: u64, value: f64) {
    varint(out, id << 3 | 1);
    out.extend_from_slice(&value.to_le_bytes());
}

fn field(out: &mut Vec<u8>, id: u64, bytes: &[u8]) {
    varint(out, id << 3 | 2);
    varint(out, bytes.len() as u64);
    out.extend_from_slice(bytes);
}

/// A snappy block of literals only: valid, if not smaller.
fn snappy(bytes: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    varint(&mut out, bytes.len() as u64);
    for chunk in bytes.chunks(1 << 16) {
        out.push(61 << 2);
        out.extend_from_slice(&u16::try_from(chunk.len() - 1).expect("at most 64 KiB").to_le_bytes());
        out.extend_from_slice(chunk);
    }
    out
}
