//! Where a download's bytes go: one blocking thread that writes them to the unfinished file and hashes them.

use std::fs::File;
use std::io::{self, Read, Seek, Write};

use tokio::sync::{mpsc, oneshot};
use tokio::task::{self, JoinHandle};

use crate::digest::{Digest, Hasher};
use crate::store::{Partial, StoreError, Writeback};

/// Pieces that may wait for the thread.
const QUEUE: usize = 4;

/// Dropping it ends the thread once it has written what it was given. An unfinished file that nobody could go on
/// with, because it is empty or its SHA-256 is not known, is removed then.
pub(super) struct Sink {
    orders: mpsc::Sender<Order>,
    thread: JoinHandle<Result<(), StoreError>>,
    written: u64,
}

enum Order {
    Write(Vec<u8>),
    Restart,
    Hasher(oneshot::Sender<Hasher>),
    Install(Digest),
}

impl Sink {
    /// Takes up the unfinished file: its bytes are hashed if they are to be `expected` and there are at most `bound`,
    /// and thrown away otherwise.
    pub(super) async fn open(
        partial: Partial,
        expected: Option<Digest>,
        bound: u64,
    ) -> Result<Self, StoreError> {
        let (orders, inbox) = mpsc::channel(QUEUE);
        let (ready, is_ready) = oneshot::channel();
        let thread = task::spawn_blocking(move || {
            let path = partial.path().to_owned();
            let worker = Worker { partial, hasher: Hasher::new(), writeback: Writeback::default() };
            worker
                .run(expected.is_some(), bound, ready, inbox)
                .unwrap_or_else(|source| Err(StoreError::Write { path, source }))
        });
        let mut sink = Self { orders, thread, written: 0 };
        match is_ready.await {
            Ok(written) => sink.written = written,
            Err(_) => return Err(sink.failure().await),
        }
        Ok(sink)
    }

    /// Bytes in the file and on the way there.
    pub(super) fn written(&self) -> u64 {
        self.written
    }

    pub(super) async fn write(&mut self, bytes: Vec<u8>) -> Result<(), StoreError> {
        if bytes.is_empty() {
            return Ok(());
        }
        let len = bytes.len() as u64;
        self.order(Order::Write(bytes)).await?;
        self.written += len;
        Ok(())
    }

    /// Throws away what was written.
    pub(super) async fn restart(&mut self) -> Result<(), StoreError> {
        self.order(Order::Restart).await?;
        self.written = 0;
        Ok(())
    }

    /// The digest of all that was written.
    pub(super) async fn digest(&mut self) -> Result<Digest, StoreError> {
        Ok(self.hasher().await?.finish())
    }

    /// What has hashed all that was written.
    pub(super) async fn hasher(&mut self) -> Result<Hasher, StoreError> {
        let (answer, answered) = oneshot::channel();
        self.order(Order::Hasher(answer)).await?;
        match answered.await {
            Ok(hasher) => Ok(hasher),
            Err(_) => Err(self.failure().await),
        }
    }

    /// The file is complete: it goes into the store under `digest`, which is what [`Sink::digest`] has said.
    pub(super) async fn install(mut self, digest: Digest) -> Result<(), StoreError> {
        self.order(Order::Install(digest)).await?;
        drop(self.orders);
        joined(self.thread.await)
    }

    async fn order(&mut self, order: Order) -> Result<(), StoreError> {
        match self.orders.send(order).await {
            Ok(()) => Ok(()),
            Err(_) => Err(self.failure().await),
        }
    }

    /// Why the thread has ended early.
    async fn failure(&mut self) -> StoreError {
        let lost =
            || StoreError::Write { path: "a download".into(), source: io::Error::other("interrupted") };
        joined((&mut self.thread).await).err().unwrap_or_else(lost)
    }
}

fn joined(result: Result<Result<(), StoreError>, task::JoinError>) -> Result<(), StoreError> {
    result.unwrap_or_else(|error| {
        Err(StoreError::Write { path: "a download".into(), source: io::Error::other(error) })
    })
}

struct Worker {
    partial: Partial,
    hasher: Hasher,
    writeback: Writeback,
}

impl Worker {
    /// The outer error is one of the unfinished file.
    fn run(
        mut self,
        keep: bool,
        bound: u64,
        ready: oneshot::Sender<u64>,
        mut inbox: mpsc::Receiver<Order>,
    ) -> io::Result<Result<(), StoreError>> {
        if keep && self.partial.file().metadata()?.len() <= bound {
            self.hash_what_is_there(&ready)?;
        } else {
            self.restart()?;
        }
        if ready.send(self.hasher.bytes()).is_err() {
            return Ok(Ok(()));
        }
        while let Some(order) = inbox.blocking_recv() {
            match order {
                Order::Write(bytes) => {
                    self.file().write_all(&bytes)?;
                    self.hasher.update(&bytes);
                    self.writeback.wrote(self.partial.file(), bytes.len())?;
                }
                Order::Restart => self.restart()?,
                Order::Hasher(answer) => {
                    let _ = answer.send(self.hasher.clone());
                }
                Order::Install(digest) => {
                    self.writeback.finish()?;
                    return Ok(self.partial.install(&digest));
                }
            }
        }
        if !keep || self.hasher.bytes() == 0 {
            return Ok(self.partial.remove());
        }
        Ok(Ok(()))
    }

    fn hash_what_is_there(&mut self, wanted: &oneshot::Sender<u64>) -> io::Result<()> {
        let mut buffer = vec![0; 1 << 20];
        loop {
            match self.file().read(&mut buffer)? {
                0 => return Ok(()),
                read => self.hasher.update(&buffer[..read]),
            }
            if wanted.is_closed() {
                return Ok(());
            }
        }
    }

    fn restart(&mut self) -> io::Result<()> {
        self.file().set_len(0)?;
        self.file().rewind()?;
        self.hasher = Hasher::new();
        Ok(())
    }

    fn file(&self) -> &File {
        self.partial.file()
    }
}
