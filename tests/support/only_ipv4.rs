//! A name server that knows no IPv6, as some have it: it does not even say so.

use std::io::ErrorKind;
use std::net::SocketAddr;

use tokio::net::UdpSocket;
use tokio::task::JoinHandle;

use super::until;

/// A name server that gives each name the address 127.0.0.1, and never answers to any other question.
#[derive(Debug)]
pub struct OnlyIpv4 {
    task: JoinHandle<()>,
    /// Where it answers, over UDP.
    pub address: SocketAddr,
}

impl OnlyIpv4 {
    /// Begins to answer as soon as nobody has the port; at port 0 it is any free one.
    pub async fn start(address: SocketAddr) -> Self {
        let mut bound = None;
        until("the port is free", async || {
            bound = UdpSocket::bind(address).await.ok();
            bound.is_some()
        })
        .await;
        let socket = bound.expect("it is bound");
        let address = socket.local_addr().expect("it is bound");
        Self { task: tokio::spawn(answer(socket)), address }
    }
}

impl Drop for OnlyIpv4 {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn answer(socket: UdpSocket) {
    let mut query = [0; 512];
    loop {
        let (length, from) = match socket.recv_from(&mut query).await {
            Ok(received) => received,
            // Who asked before is gone.
            Err(error) if error.kind() == ErrorKind::ConnectionRefused => continue,
            Err(error) => panic!("{error}"),
        };
        let mut end = 12;
        while end < length && query[end] != 0 {
            end += usize::from(query[end]) + 1;
        }
        let question = &query[12..(end + 5).min(length)];
        if question.ends_with(&[0, 1, 0, 1]) {
            let head = [query[0], query[1], 0x81, 0x80, 0, 1, 0, 1, 0, 0, 0, 0];
            let record = [0xC0, 12, 0, 1, 0, 1, 0, 0, 0, 60, 0, 4, 127, 0, 0, 1];
            let answer = [&head[..], question, &record].concat();
            socket.send_to(&answer, from).await.expect("loopback");
        }
    }
}
