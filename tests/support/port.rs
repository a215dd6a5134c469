//! A loopback port that stays ours, so that a server can be killed and come back where it was.
//!
//! Need: between a kill and a restart the kernel may give a free port to anybody's connection. Rule: a socket is bound to the
//! port and never listens; whoever sets `SO_REUSEADDR` (each server does) can listen beside it, nobody is given the port, and
//! while nobody listens connections are refused.

use std::net::{Ipv4Addr, SocketAddr};

use tokio::net::{TcpListener, TcpSocket};

/// A port that is kept until this is dropped.
#[derive(Debug)]
pub struct Port {
    address: SocketAddr,
    _bound: TcpSocket,
}

impl Port {
    /// Any free one of 127.0.0.1.
    pub fn reserved() -> Self {
        Self::reserved_at(Ipv4Addr::LOCALHOST, 0)
    }

    /// One of an address of the loopback net; 0 is any free one.
    pub fn reserved_at(ip: Ipv4Addr, number: u16) -> Self {
        let bound = socket((ip, number).into());
        Self { address: bound.local_addr().expect("it is bound"), _bound: bound }
    }

    /// Its number.
    pub fn number(&self) -> u16 {
        self.address.port()
    }

    /// It and its address.
    pub fn socket(&self) -> SocketAddr {
        self.address
    }

    /// Listens on it; so many connections, and one more, wait for being accepted.
    pub fn listen(&self, backlog: u32) -> TcpListener {
        socket(self.address).listen(backlog).expect("nobody else listens on our port")
    }
}

fn socket(address: SocketAddr) -> TcpSocket {
    let socket = TcpSocket::new_v4().expect("a socket");
    socket.set_reuseaddr(true).expect("a socket has this option");
    socket.bind(address).expect("a loopback port");
    socket
}
