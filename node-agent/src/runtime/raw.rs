//! JSON over Docker's socket without a type in between.
//!
//! HTTP/1.0: the daemon answers with an unchunked body and closes, so that a reply is what comes until the end.

use std::path::Path;
use std::time::Duration;

use serde_json::Value;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixStream;

use super::DockerError;

/// `docker inspect` of the largest container is far below this.
const LARGEST_REPLY: u64 = 16 << 20;

/// Percent-encodes what may not stand in a path segment or a query value.
pub(super) fn escape(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || b"-_.~".contains(&byte) {
            escaped.push(char::from(byte));
        } else {
            escaped.push_str(&format!("%{byte:02X}"));
        }
    }
    escaped
}

/// Sends one request and returns the JSON of its reply.
pub(super) async fn request(
    socket: &Path,
    method: &str,
    path: &str,
    body: Option<&Value>,
    deadline: Duration,
) -> Result<Value, DockerError> {
    let unreachable = |error: std::io::Error| DockerError::Unreachable(format!("{}: {error}", socket.display()));
    let body = body.map(Value::to_string).unwrap_or_default();
    let head = format!(
        "{method} {path} HTTP/1.0\r\nHost: docker\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n",
        body.len()
    );
    let exchange = async {
        let mut stream = UnixStream::connect(socket).await?;
        stream.write_all(head.as_bytes()).await?;
        stream.write_all(body.as_bytes()).await?;
        let mut reply = Vec::new();
        stream.take(LARGEST_REPLY).read_to_end(&mut reply).await?;
        Ok(reply)
    };
    let reply = match tokio::time::timeout(deadline, exchange).await {
        Ok(reply) => reply.map_err(unreachable)?,
        Err(_) => return Err(DockerError::Unreachable(format!("no reply within {} s", deadline.as_secs()))),
    };
    let (status, body) = split(&reply).ok_or_else(|| DockerError::Unreachable("its reply is not HTTP".to_owned()))?;
    let value: Result<Value, _> = serde_json::from_slice(body);
    if (200..300).contains(&status) {
        return value.map_err(|error| DockerError::Said { status, message: format!("its reply is not JSON: {error}") });
    }
    let message = value.ok().and_then(|value| Some(value.get("message")?.as_str()?.to_owned()));
    Err(DockerError::of_status(status, message.unwrap_or_else(|| String::from_utf8_lossy(body).trim().to_owned())))
}

/// Status and body of a whole reply.
fn split(reply: &[u8]) -> Option<(u16, &[u8])> {
    let end = reply.windows(4).position(|window| window == b"\r\n\r\n")?;
    let head = std::str::from_utf8(&reply[..end]).ok()?;
    let status = head.lines().next()?.split(' ').nth(1)?.parse().ok()?;
    Some((status, &reply[end + 4..]))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reply_is_split_into_status_and_body() {
        assert_eq!(split(b"HTTP/1.0 404 Not Found\r\nA: b\r\n\r\n{}"), Some((404, &b"{}"[..])));
        assert_eq!(split(b"HTTP/1.0 200 OK\r\n"), None);
        assert_eq!(split(b"garbage\r\n\r\n"), None);
    }

    #[test]
    fn names_are_escaped() {
        assert_eq!(escape("web-1.a_b"), "web-1.a_b");
        assert_eq!(escape("a/../b?x=1"), "a%2F..%2Fb%3Fx%3D1");
    }
}
