//! A client on a raw socket, for bytes that no HTTP library would send, and the same for an app.

use std::net::SocketAddr;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::within;

/// A client on a raw socket.
pub(crate) struct Raw(pub(crate) TcpStream);

impl Raw {
    pub(crate) async fn to(address: SocketAddr) -> Self {
        Self(within(TcpStream::connect(address)).await.unwrap())
    }

    pub(crate) async fn send(&mut self, bytes: impl AsRef<[u8]>) {
        self.0.write_all(bytes.as_ref()).await.unwrap();
    }

    /// Reads until `end` was read; everything that came.
    pub(crate) async fn until(&mut self, end: &str) -> String {
        let mut read = Vec::new();
        while !String::from_utf8_lossy(&read).contains(end) {
            let mut space = [0; 4096];
            let count = within(self.0.read(&mut space)).await.unwrap();
            assert_ne!(count, 0, "ended after {:?} without {end:?}", String::from_utf8_lossy(&read));
            read.extend_from_slice(&space[..count]);
        }
        String::from_utf8_lossy(&read).into_owned()
    }

    /// Everything up to the end of the connection, which may be a reset.
    pub(crate) async fn rest(&mut self) -> String {
        let mut read = Vec::new();
        let _ = within(self.0.read_to_end(&mut read)).await;
        String::from_utf8_lossy(&read).into_owned()
    }

    /// Everything up to the end of the connection, which must not be a reset.
    pub(crate) async fn read_to_end(&mut self) -> String {
        let mut read = Vec::new();
        within(self.0.read_to_end(&mut read)).await.unwrap();
        String::from_utf8(read).unwrap()
    }
}

/// Sends all of it and reads to the end of the connection, which must not be a reset.
pub(crate) async fn talk(address: SocketAddr, bytes: impl AsRef<[u8]>) -> String {
    let mut client = Raw::to(address).await;
    client.send(bytes).await;
    client.read_to_end().await
}

/// Reads the head of one request byte by byte, so that nothing after it is taken; `None` at the end.
pub(crate) async fn head(stream: &mut TcpStream) -> Option<String> {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        let mut byte = [0];
        if stream.read(&mut byte).await.ok()? == 0 {
            return None;
        }
        head.push(byte[0]);
    }
    Some(String::from_utf8_lossy(&head).into_owned())
}
