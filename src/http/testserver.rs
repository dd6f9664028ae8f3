//! A scripted HTTP/1.1 server on loopback, for tests only: it can cut an answer, reset its connection, stall, drip, ignore
//! ranges and lie about lengths. Each request is one connection and one call of the script.
//!
//! Depends on nothing of this crate: `tests/it` includes this file by its path.

#![expect(clippy::disallowed_methods, reason = "a server needs threads")]

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use url::Url;

/// A request as it came in.
#[derive(Clone, Debug)]
pub struct Request {
    /// How many came before it.
    pub number: usize,
    pub method: String,
    /// With the query.
    pub path: String,
    /// Empty where the head alone is looked at.
    pub body: Arc<[u8]>,
    headers: Vec<(String, String)>,
}

impl Request {
    pub fn header(&self, name: &str) -> Option<&str> {
        let found = self.headers.iter().find(|(header, _)| header.eq_ignore_ascii_case(name));
        found.map(|(_, value)| value.as_str())
    }

    /// The first byte asked for.
    pub fn offset(&self) -> usize {
        self.range().0
    }

    /// The first byte asked for, and the last if that is said.
    fn range(&self) -> (usize, Option<usize>) {
        let range = self.header("range").and_then(|range| range.strip_prefix("bytes=")?.split_once('-'));
        range.map_or((0, None), |(first, last)| (first.parse().unwrap(), last.parse().ok()))
    }
}

/// What the server says.
#[derive(Clone, Debug)]
pub struct Reply {
    status: u16,
    headers: Vec<(String, String)>,
    body: Arc<[u8]>,
    skip: usize,
    length: Option<usize>,
    end: End,
}

#[derive(Clone, Copy, Debug)]
enum End {
    Whole,
    /// Close the connection after so many bytes.
    Cut(usize),
    /// Say nothing more for so long, then close.
    Stall(usize, Duration),
    /// Reset the connection after so many bytes.
    Reset(usize),
    /// One byte, a pause, the next byte.
    Drip(Duration),
}

impl Reply {
    pub fn status(status: u16) -> Self {
        let body = Arc::from(&b""[..]);
        Self { status, headers: Vec::new(), body, skip: 0, length: Some(0), end: End::Whole }
    }

    /// 200 with all of `body`, whatever range was asked for.
    pub fn ok(body: impl Into<Arc<[u8]>>) -> Self {
        let body = body.into();
        Self { length: Some(body.len()), body, ..Self::status(200) }
    }

    /// As a file server answers: 206 with the part asked for, 416 past the end.
    pub fn file(request: &Request, body: impl Into<Arc<[u8]>>) -> Self {
        let body = body.into();
        match request.range() {
            (0, None) => Self::ok(body),
            (first, _) if first >= body.len() => Self::status(416),
            (first, last) => {
                let end = last.map_or(body.len(), |last| body.len().min(last + 1));
                let range = format!("bytes {first}-{}/{}", end - 1, body.len());
                let part = if end < body.len() { Arc::from(&body[..end]) } else { body };
                Self { body: part, skip: first, length: Some(end - first), ..Self::status(206) }
                    .header("Content-Range", &range)
            }
        }
    }

    pub fn with_status(mut self, status: u16) -> Self {
        self.status = status;
        self
    }

    pub fn redirect(status: u16, to: &str) -> Self {
        Self::status(status).header("Location", to)
    }

    pub fn header(mut self, name: &str, value: &str) -> Self {
        self.headers.push((name.to_owned(), value.to_owned()));
        self
    }

    /// Announces another length than the body's; none: the end of the connection is the end.
    pub fn length(mut self, length: Option<usize>) -> Self {
        self.length = length;
        self
    }

    pub fn cut(mut self, after: usize) -> Self {
        self.end = End::Cut(after);
        self
    }

    pub fn stall(mut self, after: usize, time: Duration) -> Self {
        self.end = End::Stall(after, time);
        self
    }

    pub fn reset(mut self, after: usize) -> Self {
        self.end = End::Reset(after);
        self
    }

    pub fn drip(mut self, pause: Duration) -> Self {
        self.end = End::Drip(pause);
        self
    }

    fn send(&self, stream: &mut TcpStream, head_only: bool) -> std::io::Result<()> {
        let mut head = format!("HTTP/1.1 {} Scripted\r\nConnection: close\r\n", self.status);
        for (name, value) in &self.headers {
            head.push_str(&format!("{name}: {value}\r\n"));
        }
        if let Some(length) = self.length {
            head.push_str(&format!("Content-Length: {length}\r\n"));
        }
        head.push_str("\r\n");
        let body = if head_only { &[] } else { &self.body[self.skip..] };
        // A stall before the first byte is one before the headers.
        if let End::Stall(0, time) = self.end {
            std::thread::sleep(time);
            return Ok(());
        }
        stream.write_all(head.as_bytes())?;
        match self.end {
            End::Whole => stream.write_all(body)?,
            End::Cut(after) => stream.write_all(&body[..after.min(body.len())])?,
            End::Stall(after, time) => {
                stream.write_all(&body[..after.min(body.len())])?;
                std::thread::sleep(time);
            }
            End::Reset(after) => {
                stream.write_all(&body[..after.min(body.len())])?;
                // What is under way would be lost with the connection.
                std::thread::sleep(Duration::from_millis(20));
            }
            End::Drip(pause) => {
                for byte in body {
                    stream.write_all(&[*byte])?;
                    std::thread::sleep(pause);
                }
            }
        }
        stream.flush()
    }
}

/// Listens until it is dropped.
pub struct TestServer {
    address: SocketAddr,
    log: Arc<Mutex<Vec<Request>>>,
    stop: Arc<AtomicBool>,
}

impl TestServer {
    pub fn start(script: impl Fn(&Request) -> Reply + Send + Sync + 'static) -> Self {
        Self::start_early(|_| None, script)
    }

    /// `early` sees a request before its body is read: how many bytes of that are still taken, and what is said then.
    pub fn start_early(
        early: impl Fn(&Request) -> Option<(usize, Reply)> + Send + Sync + 'static,
        script: impl Fn(&Request) -> Reply + Send + Sync + 'static,
    ) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let log = Arc::new(Mutex::new(Vec::new()));
        let stop = Arc::new(AtomicBool::new(false));
        let (seen, stopped, script) = (Arc::clone(&log), Arc::clone(&stop), Arc::new((early, script)));
        std::thread::spawn(move || {
            for stream in listener.incoming().map_while(Result::ok) {
                if stopped.load(Ordering::SeqCst) {
                    break;
                }
                let (seen, script) = (Arc::clone(&seen), Arc::clone(&script));
                // A client that goes away ends its own connection only.
                std::thread::spawn(move || drop(serve(stream, &seen, &script.0, &script.1)));
            }
        });
        Self { address, log, stop }
    }

    pub fn url(&self, path: &str) -> Url {
        Url::parse(&format!("http://{}", self.address)).unwrap().join(path).unwrap()
    }

    /// The requests so far.
    pub fn log(&self) -> Vec<Request> {
        self.log.lock().unwrap().clone()
    }
}

impl Drop for TestServer {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::SeqCst);
        drop(TcpStream::connect(self.address));
    }
}

fn serve(
    mut stream: TcpStream,
    log: &Mutex<Vec<Request>>,
    early: &dyn Fn(&Request) -> Option<(usize, Reply)>,
    script: &dyn Fn(&Request) -> Reply,
) -> std::io::Result<()> {
    // All but the last byte: a connection that is closed with something unread is reset.
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r") {
        let mut byte = [0];
        if stream.read(&mut byte)? == 0 {
            return Ok(());
        }
        // Somebody tries TLS.
        if head.is_empty() && byte[0] == 0x16 {
            return Ok(());
        }
        head.push(byte[0]);
    }
    let head = String::from_utf8_lossy(&head).into_owned();
    let mut lines = head.lines();
    let mut words = lines.next().unwrap_or_default().split(' ');
    let method = words.next().unwrap_or_default().to_owned();
    let path = words.next().unwrap_or_default().to_owned();
    let headers = lines
        .filter_map(|line| line.split_once(':'))
        .map(|(name, value)| (name.to_owned(), value.trim().to_owned()))
        .collect();
    let mut request = Request { number: 0, method, path, body: Arc::from([]), headers };
    let number = {
        let mut log = log.lock().unwrap();
        request.number = log.len();
        log.push(request.clone());
        request.number
    };
    let head_only = request.method == "HEAD";
    let length = request.header("content-length").map_or(0, |length| length.parse().unwrap());
    if let Some((taken, reply)) = early(&request) {
        let mut left = 1 + length.min(taken);
        let mut buffer = vec![0; left.min(1 << 20)];
        while left > 0 {
            let most = left.min(buffer.len());
            match stream.read(&mut buffer[..most])? {
                0 => return Ok(()),
                read => left -= read,
            }
        }
        return reply.send(&mut stream, head_only);
    }
    if length > 0 {
        let mut body = vec![0; 1 + length];
        stream.read_exact(&mut body)?;
        request.body = Arc::from(&body[1..]);
        log.lock().unwrap()[number].body = Arc::clone(&request.body);
    }
    let reply = script(&request);
    if length == 0 && !matches!(reply.end, End::Reset(_)) {
        stream.read_exact(&mut [0])?;
    }
    reply.send(&mut stream, head_only)
}
