//! A TCP proxy that stands between promfront and a real Redis or memcached, and does to them what networks and servers do.
//!
//! Need: most of the cache faults cannot be asked of a real server at the moment when a test wants them.
//! Rule: the mode can be switched at any time and holds at once, for connections that are there as for new ones. What happens
//! to a request is decided when it comes in, and requests and replies stay in their order: no server does otherwise. Where a
//! real connection would never recover (silence after half a reply), this one does not recover either.

use std::collections::{BTreeMap, VecDeque};
use std::net::Ipv4Addr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use parking_lot::Mutex;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{ReadHalf, WriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep_until, timeout};

use super::Random;
use super::frames::{Call, Frame, Protocol, Request};
use super::port::Port;

/// So much is read at once.
const READ_BYTES: usize = 64 * 1024;

/// What the proxy does.
#[derive(Clone, Debug)]
pub enum Mode {
    /// Everything passes.
    Pass,
    /// Connections are refused, and those that are there are reset.
    Refuse,
    /// Connections are established, and no byte moves in either direction until the mode is left.
    BlackHole,
    /// As that, and new connections are not even established: their SYN stays without an answer.
    NoHandshake,
    /// Each of these calls meets the fault.
    Each(Calls, Fault),
    /// Of these calls, counted from now on, this one meets the fault; the first is 1.
    Nth(usize, Calls, Fault),
    /// Of these calls, about one of so many meets the fault.
    OneOf(usize, Calls, Fault),
}

/// What happens to a call.
#[derive(Clone, Debug)]
pub enum Fault {
    /// The reply comes later by so much.
    Slow(Duration),
    /// The request and all that follow it on this connection are swallowed.
    Hang,
    /// The first half of the reply comes, and then nothing more on this connection.
    Half,
    /// The reply is held until the next one of this connection comes: who does not wait for it is given it for another request.
    Late,
    /// The reply is random bytes.
    Garbage,
    /// In the values of the reply, a bit is flipped in one of so many bytes.
    BitFlips(usize),
    /// The values of the reply are cut to so many bytes.
    Truncated(usize),
    /// The reply is an error: `OOM command not allowed`, and for memcached `SERVER_ERROR out of memory`.
    Error(String),
    /// The server gets the request, and the connection is reset in place of the reply.
    Reset,
}

/// Which calls are meant.
#[derive(Clone, Copy, Debug)]
pub enum Calls {
    /// What asks for values.
    Reads,
    /// What stores or removes values.
    Writes,
    /// Both; what prepares a connection is let through.
    Data,
    /// Both, and connecting. A connection that meets a fault has no server behind it: it is reset, or hears garbage or an error
    /// unasked, or hears nothing.
    DataAndConnects,
    /// All that can be sent.
    All,
}

impl Calls {
    fn contain(self, call: Call) -> bool {
        match self {
            Self::Reads => call == Call::Read,
            Self::Writes => call == Call::Write,
            Self::Data => matches!(call, Call::Read | Call::Write),
            Self::DataAndConnects => call != Call::Other,
            Self::All => call != Call::Connect,
        }
    }
}

/// What the proxy saw and did.
#[derive(Clone, Debug, Default)]
pub struct Counts {
    /// Connections that came in.
    pub connections: usize,
    /// Requests by verb, in small letters.
    pub requests: BTreeMap<String, usize>,
    /// Bytes of values that clients sent to be stored, each time that they did.
    pub written_bytes: usize,
    /// Calls that met a fault.
    pub faults: usize,
}

impl Counts {
    /// How often one of these was asked.
    pub fn asked(&self, verbs: &[&str]) -> usize {
        verbs.iter().filter_map(|verb| self.requests.get(*verb)).sum()
    }
}

/// The mode that stands, and how many of its calls came.
#[derive(Debug)]
struct Standing {
    mode: Mode,
    seen: AtomicUsize,
}

impl Standing {
    fn of(mode: Mode) -> Arc<Self> {
        Arc::new(Self { mode, seen: AtomicUsize::new(0) })
    }

    fn fault(&self, call: Call, random: &Mutex<Random>) -> Option<&Fault> {
        match &self.mode {
            Mode::Each(calls, fault) if calls.contain(call) => Some(fault),
            Mode::Nth(number, calls, fault) if calls.contain(call) => {
                (self.seen.fetch_add(1, Ordering::SeqCst) + 1 == *number).then_some(fault)
            }
            Mode::OneOf(so_many, calls, fault) if calls.contain(call) => {
                (random.lock().below(*so_many) == 0).then_some(fault)
            }
            _ => None,
        }
    }
}

/// A proxy before a server of this machine. Dropped, it is gone and its connections are reset.
#[derive(Debug)]
pub struct FaultProxy {
    port: Port,
    server_port: u16,
    mode: watch::Sender<Arc<Standing>>,
    book: Arc<Book>,
    door: tokio::sync::Mutex<Door>,
}

/// What the connections of a proxy share.
#[derive(Debug)]
struct Book {
    counts: Mutex<Counts>,
    random: Mutex<Random>,
}

/// How connections are met.
#[derive(Debug)]
enum Door {
    Closed,
    /// Nobody accepts, and so many wait already that no more can.
    Full {
        _listener: TcpListener,
        _waiting: Vec<TcpStream>,
    },
    Open(JoinHandle<()>),
}

impl FaultProxy {
    /// Before the server at `server_port`, which need not be there.
    pub async fn before(server_port: u16) -> Self {
        let book = Book { counts: Mutex::default(), random: Mutex::new(Random::seeded("faults")) };
        let proxy = Self {
            port: Port::reserved(),
            server_port,
            mode: watch::channel(Standing::of(Mode::Pass)).0,
            book: Arc::new(book),
            door: Door::Closed.into(),
        };
        proxy.set(Mode::Pass).await;
        proxy
    }

    /// Where it listens.
    pub fn port(&self) -> u16 {
        self.port.number()
    }

    /// Switches the mode. When this returns, it holds.
    pub async fn set(&self, mode: Mode) {
        let mut door = self.door.lock().await;
        self.mode.send_replace(Standing::of(mode.clone()));
        match (mode, &*door) {
            (Mode::Refuse, _) => door.close().await,
            (Mode::NoHandshake, _) => {
                door.close().await;
                *door = self.crowd().await;
            }
            (_, Door::Open(_)) => {}
            _ => {
                door.close().await;
                *door = Door::Open(tokio::spawn(self.accept(self.port.listen(1024))));
            }
        }
    }

    /// Whether the call that `Mode::Nth` waits for came.
    pub fn fired(&self) -> bool {
        let standing = self.mode.borrow();
        matches!(standing.mode, Mode::Nth(number, ..) if standing.seen.load(Ordering::SeqCst) >= number)
    }

    /// What it saw and did so far.
    pub fn counts(&self) -> Counts {
        self.book.counts.lock().clone()
    }

    fn accept(&self, listener: TcpListener) -> impl Future<Output = ()> + Send + use<> {
        let (mode, book, server_port) = (self.mode.subscribe(), Arc::clone(&self.book), self.server_port);
        async move {
            while let Ok((client, _)) = listener.accept().await {
                let (mode, book) = (mode.clone(), Arc::clone(&book));
                let link = Link { mode, book, protocol: OnceLock::new(), asked: Mutex::default() };
                tokio::spawn(link.carry(client, server_port));
            }
        }
    }

    /// Connects to ourselves until a connection is not established any more.
    async fn crowd(&self) -> Door {
        let (listener, mut waiting) = (self.port.listen(0), Vec::new());
        let connect = || TcpStream::connect((Ipv4Addr::LOCALHOST, self.port()));
        while let Ok(connected) = timeout(Duration::from_millis(100), connect()).await {
            waiting.push(connected.expect("somebody listens"));
        }
        Door::Full { _listener: listener, _waiting: waiting }
    }
}

impl Drop for FaultProxy {
    fn drop(&mut self) {
        if let Door::Open(accepts) = self.door.get_mut() {
            accepts.abort();
        }
    }
}

impl Door {
    /// When this returns, nobody listens.
    async fn close(&mut self) {
        if let Self::Open(accepts) = std::mem::replace(self, Self::Closed) {
            accepts.abort();
            let _ = accepts.await;
        }
    }
}

/// A connection through the proxy.
#[derive(Debug)]
struct Link {
    mode: watch::Receiver<Arc<Standing>>,
    book: Arc<Book>,
    protocol: OnceLock<Protocol>,
    /// What the requests meet whose replies have not come yet, in their order.
    asked: Mutex<VecDeque<Option<Fault>>>,
}

/// The connection ends with a reset, not in order.
#[derive(Debug)]
struct Reset;

/// Bytes for the client, and when they may go.
type Parcel = (Instant, Vec<u8>);

impl Link {
    async fn carry(self, mut client: TcpStream, server_port: u16) {
        let end = tokio::select! {
            end = self.serve(&mut client, server_port) => end,
            // Or the proxy is gone.
            () = self.until(|mode| matches!(mode, Mode::Refuse)) => Err(Reset),
        };
        if end.is_err() {
            let _ = client.set_zero_linger();
        }
    }

    async fn serve(&self, client: &mut TcpStream, server_port: u16) -> Result<(), Reset> {
        self.until_flowing().await;
        self.book.counts.lock().connections += 1;
        if let Some(fault) = self.fault(Call::Connect) {
            return self.receive_badly(client, fault).await;
        }
        let server = TcpStream::connect((Ipv4Addr::LOCALHOST, server_port)).await;
        let mut server = server.map_err(|_| Reset)?;
        for stream in [&server, &*client] {
            stream.set_nodelay(true).map_err(|_| Reset)?;
        }
        let ((from_client, to_client), (from_server, to_server)) = (client.split(), server.split());
        let (parcels, delivery) = unbounded_channel();
        let down =
            async { tokio::try_join!(self.down(from_server, parcels), self.deliver(delivery, to_client)).map(drop) };
        tokio::select! {
            end = self.up(from_client, to_server) => end,
            end = down => end,
        }
    }

    /// A fault of the connection itself: there is no server behind it.
    async fn receive_badly(&self, client: &mut TcpStream, fault: Fault) -> Result<(), Reset> {
        let unasked = match fault {
            Fault::Reset => return Err(Reset),
            Fault::Garbage => self.garbage(64),
            Fault::Error(text) => format!("-{text}\r\n").into_bytes(),
            _ => Vec::new(),
        };
        client.write_all(&unasked).await.map_err(|_| Reset)?;
        let mut swallowed = Vec::new();
        while client.read_buf(&mut swallowed).await.map_err(|_| Reset)? > 0 {
            swallowed.clear();
        }
        Ok(())
    }

    async fn up(&self, mut client: ReadHalf<'_>, mut server: WriteHalf<'_>) -> Result<(), Reset> {
        let (mut received, mut is_hanging) = (Vec::with_capacity(READ_BYTES), false);
        while client.read_buf(&mut received).await.map_err(|_| Reset)? > 0 {
            self.until_flowing().await;
            let protocol = *self.protocol.get_or_init(|| Protocol::of(received[0]));
            while let Some(request) = protocol.take_request(&mut received) {
                let fault = self.note(&request);
                is_hanging |= matches!(fault, Some(Fault::Hang));
                if is_hanging {
                    continue;
                }
                if request.is_answered {
                    self.asked.lock().push_back(fault);
                }
                // A server that is gone is noticed where its replies are read.
                let _ = server.write_all(&request.bytes).await;
            }
        }
        Ok(())
    }

    async fn down(&self, mut server: ReadHalf<'_>, parcels: UnboundedSender<Parcel>) -> Result<(), Reset> {
        let (mut received, mut held, mut is_mute) = (Vec::with_capacity(READ_BYTES), Vec::new(), false);
        while matches!(server.read_buf(&mut received).await, Ok(1..)) {
            let protocol = *self.protocol.get().unwrap_or(&Protocol::Opaque);
            while let Some(reply) = protocol.take_reply(&mut received) {
                let fault = if reply.is_push() { None } else { self.asked.lock().pop_front().flatten() };
                if is_mute {
                    continue;
                }
                let (mut bytes, mut at) = (std::mem::take(&mut held), Instant::now());
                match fault {
                    None => bytes.extend(reply.bytes),
                    Some(Fault::Reset) => return Err(Reset),
                    Some(Fault::Late) => held = reply.bytes,
                    Some(fault) => {
                        is_mute = matches!(fault, Fault::Half);
                        at += if let Fault::Slow(by) = fault { by } else { Duration::ZERO };
                        bytes.extend(self.tampered(protocol, &reply, &fault));
                    }
                }
                let _ = parcels.send((at, bytes));
            }
        }
        Ok(())
    }

    async fn deliver(&self, mut parcels: UnboundedReceiver<Parcel>, mut client: WriteHalf<'_>) -> Result<(), Reset> {
        while let Some((at, bytes)) = parcels.recv().await {
            sleep_until(at).await;
            self.until_flowing().await;
            client.write_all(&bytes).await.map_err(|_| Reset)?;
        }
        Ok(())
    }

    /// The bytes that come in place of a reply.
    fn tampered(&self, protocol: Protocol, reply: &Frame, fault: &Fault) -> Vec<u8> {
        match fault {
            Fault::Half => reply.bytes[..reply.bytes.len() / 2].to_vec(),
            Fault::Garbage => self.garbage(reply.bytes.len().max(16)),
            Fault::BitFlips(one_in) => {
                let mut random = self.book.random.lock();
                reply.with_values(|value| {
                    for byte in value {
                        let is_hit = random.below(*one_in) == 0;
                        *byte ^= u8::from(is_hit) << random.below(8);
                    }
                })
            }
            Fault::Truncated(length) => reply.with_values(|value| value.truncate(*length)),
            Fault::Error(text) if protocol == Protocol::Resp => format!("-{text}\r\n").into_bytes(),
            Fault::Error(text) => format!("{text}\r\n").into_bytes(),
            Fault::Slow(_) | Fault::Hang | Fault::Late | Fault::Reset => reply.bytes.clone(),
        }
    }

    fn garbage(&self, length: usize) -> Vec<u8> {
        let mut random = self.book.random.lock();
        (0..length).map(|_| u8::try_from(random.below(256)).expect("below 256")).collect()
    }

    /// Counts a request, and says what it meets.
    fn note(&self, request: &Request) -> Option<Fault> {
        {
            let mut counts = self.book.counts.lock();
            *counts.requests.entry(request.verb.clone()).or_default() += 1;
            counts.written_bytes += request.value_bytes;
        }
        // Nothing can happen to a reply that there is not.
        if request.is_answered { self.fault(request.call) } else { None }
    }

    fn fault(&self, call: Call) -> Option<Fault> {
        let fault = self.mode.borrow().fault(call, &self.book.random).cloned();
        self.book.counts.lock().faults += usize::from(fault.is_some());
        fault
    }

    async fn until_flowing(&self) {
        self.until(|mode| !matches!(mode, Mode::BlackHole | Mode::NoHandshake)).await;
    }

    /// Until such a mode stands, or there is no proxy any more.
    async fn until(&self, wanted: fn(&Mode) -> bool) {
        let mut mode = self.mode.clone();
        let _ = mode.wait_for(|standing| wanted(&standing.mode)).await;
    }
}
