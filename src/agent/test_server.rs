//! A small HTTP server on this machine, for the tests of whatever asks one.

use std::net::SocketAddr;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpListener,
};

/// Answers each path with what `answer` has for it, from the status on (`200 OK\r\n...`), and every other one with 404. Each question is
/// taken on a connection of its own.
pub async fn serve(answer: impl Fn(&str) -> Option<String> + Send + 'static) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let mut request = vec![0; 4096];
            let read = stream.read(&mut request).await.unwrap();
            let request = String::from_utf8_lossy(&request[..read]).into_owned();
            let said = answer(request.split(' ').nth(1).unwrap_or_default());
            let said = said.unwrap_or_else(|| "404 Not Found\r\n\r\n".into());
            let _ = stream.write_all(format!("HTTP/1.1 {said}").as_bytes()).await;
        }
    });
    address
}
