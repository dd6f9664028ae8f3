//! What the supervisor and the first process of the sandbox say to each other: short messages over a pair of sockets,
//! which also tells each of them when the other is gone.

use std::io::{self, IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::net::{
    AddressFamily, RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer,
    SendAncillaryMessage, SendFlags, SocketFlags, SocketType, recv, recvmsg, send, sendmsg, socketpair,
};

/// The longest message; longer texts are cut.
const LONGEST: usize = 4096;

pub struct Channel(OwnedFd);

/// From the sandbox's first process.
pub enum Said {
    /// The master of the terminal that the program has.
    Terminal(OwnedFd),
    /// Something that the user should know; the run goes on.
    Warning(String),
    /// It did not come about, and that is the exit status.
    Failed { status: u8, message: String },
    /// All processes but the first have ended; this is the program's exit status.
    Ended(u8),
}

/// From the supervisor.
pub enum Order {
    /// IDs, cgroup and network are as they should be.
    Go,
    /// Pass it on to the program.
    Signal(i32),
}

impl Channel {
    pub fn pair() -> io::Result<(Self, Self)> {
        let (one, other) =
            socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None)?;
        Ok((Self(one), Self(other)))
    }

    pub fn say(&self, said: &Said) -> io::Result<()> {
        let (tag, status, text, terminal) = match said {
            Said::Terminal(master) => (b'T', 0, "", Some(master.as_fd())),
            Said::Warning(text) => (b'W', 0, text.as_str(), None),
            Said::Failed { status, message } => (b'F', *status, message.as_str(), None),
            Said::Ended(status) => (b'E', *status, "", None),
        };
        let mut message = vec![tag, status];
        message.extend_from_slice(&text.as_bytes()[..text.floor_char_boundary(LONGEST - 2)]);
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
        let mut control = SendAncillaryBuffer::new(&mut space);
        let descriptors = terminal.map(|terminal| [terminal]);
        if let Some(descriptors) = &descriptors {
            control.push(SendAncillaryMessage::ScmRights(descriptors));
        }
        sendmsg(&self.0, &[IoSlice::new(&message)], &mut control, SendFlags::NOSIGNAL)?;
        Ok(())
    }

    /// None when the other side is gone.
    pub fn hear(&self) -> io::Result<Option<Said>> {
        let mut buffer = [0; LONGEST];
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
        let mut control = RecvAncillaryBuffer::new(&mut space);
        let length = {
            let mut into = [IoSliceMut::new(&mut buffer)];
            match recvmsg(&self.0, &mut into, &mut control, RecvFlags::CMSG_CLOEXEC) {
                Ok(received) => received.bytes,
                // It died with something of ours unread.
                Err(rustix::io::Errno::CONNRESET) => 0,
                Err(error) => return Err(error.into()),
            }
        };
        let mut descriptor = None;
        for message in control.drain() {
            if let RecvAncillaryMessage::ScmRights(received) = message {
                descriptor = received.into_iter().next().or(descriptor);
            }
        }
        let text = || String::from_utf8_lossy(&buffer[2.min(length)..length]).into_owned();
        Ok(match (buffer[..length].first(), descriptor) {
            (None, _) => None,
            (Some(b'T'), Some(master)) => Some(Said::Terminal(master)),
            (Some(b'W'), _) => Some(Said::Warning(text())),
            (Some(b'E'), _) => Some(Said::Ended(buffer[1])),
            _ => Some(Said::Failed { status: buffer[1], message: text() }),
        })
    }

    /// The other side is gone.
    pub fn is_cut(&self) -> bool {
        let mut waits = [PollFd::new(&self.0, PollFlags::empty())];
        let at_once = Timespec { tv_sec: 0, tv_nsec: 0 };
        poll(&mut waits, Some(&at_once)) == Ok(1)
    }

    pub fn order(&self, order: &Order) -> io::Result<()> {
        let message = match order {
            Order::Go => [b'G', 0],
            Order::Signal(signal) => [b'S', *signal as u8],
        };
        send(&self.0, &message, SendFlags::NOSIGNAL)?;
        Ok(())
    }

    /// None when the supervisor is gone.
    pub fn next_order(&self) -> io::Result<Option<Order>> {
        let mut buffer = [0; 2];
        let (length, _) = recv(&self.0, &mut buffer, RecvFlags::empty())?;
        Ok(match buffer[..length] {
            [b'G', _] => Some(Order::Go),
            [b'S', signal] => Some(Order::Signal(signal.into())),
            _ => None,
        })
    }
}

impl AsFd for Channel {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_said_arrives() {
        let (one, other) = Channel::pair().unwrap();
        one.say(&Said::Warning("mind the gap".into())).unwrap();
        one.say(&Said::Failed { status: 127, message: "no `x`".into() }).unwrap();
        one.say(&Said::Ended(7)).unwrap();
        one.say(&Said::Failed { status: 1, message: "é".repeat(LONGEST) }).unwrap();
        assert!(matches!(other.hear(), Ok(Some(Said::Warning(text))) if text == "mind the gap"));
        assert!(
            matches!(other.hear(), Ok(Some(Said::Failed { status: 127, message })) if message == "no `x`")
        );
        assert!(matches!(other.hear(), Ok(Some(Said::Ended(7)))));
        assert!(
            matches!(other.hear(), Ok(Some(Said::Failed { message, .. })) if message.len() > LONGEST - 4)
        );
        other.order(&Order::Go).unwrap();
        other.order(&Order::Signal(15)).unwrap();
        assert!(matches!(one.next_order(), Ok(Some(Order::Go))));
        assert!(matches!(one.next_order(), Ok(Some(Order::Signal(15)))));
        assert!(!other.is_cut());
        drop(one);
        assert!(other.is_cut());
        assert!(matches!(other.hear(), Ok(None)));
    }

    #[test]
    fn descriptors_travel() {
        let (one, other) = Channel::pair().unwrap();
        let (reader, writer) = rustix::pipe::pipe().unwrap();
        one.say(&Said::Terminal(writer)).unwrap();
        let Ok(Some(Said::Terminal(writer))) = other.hear() else { panic!("no descriptor came") };
        rustix::io::write(&writer, b"x").unwrap();
        let mut buffer = [0; 8];
        assert_eq!(rustix::io::read(&reader, &mut buffer), Ok(1));
    }
}
