//! The frames, as bytes.

use super::{CHUNK, TransferError};

/// The longest body of a frame.
pub(super) const LARGEST_BODY: usize = CHUNK + 64;

/// The longest file name.
const LONGEST_NAME: usize = 200;

/// What a file is for. Each kind has its own folder at the destination.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Kind {
    /// The container's log up to shortly before the freeze.
    History,
    /// What the container logged after that.
    Tail,
    /// One of CRIU's images.
    Image,
}

impl Kind {
    /// The folder's name.
    pub const fn folder(self) -> &'static str {
        match self {
            Kind::History => "history",
            Kind::Tail => "tail",
            Kind::Image => "images",
        }
    }
}

/// One message on the stream.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Frame<'a> {
    /// A file begins.
    File { kind: Kind, name: &'a str },
    /// Some of its content.
    Data(&'a [u8]),
    /// The file is whole.
    EndOfFile,
    /// All files of the history were sent.
    EndOfHistory,
    /// The source is busy; nothing to say.
    Alive,
    /// How many bytes of images will follow.
    Announce { bytes: u64 },
    /// All was sent: so many files and bytes of content.
    Finish { files: u32, bytes: u64 },
    /// The destination has all of it.
    Received { files: u32, bytes: u64 },
    /// The destination does not want it.
    Rejected(&'a str),
    /// A change to a tree of files, in the words of [`crate::files::Change`].
    Change(&'a [u8]),
    /// Content of the file that the last change named.
    Block { offset: u64, content: &'a [u8] },
    /// Say when all changes so far are made.
    Ask,
    /// They are.
    Reached,
    /// The source can send the container's image.
    Offer,
    /// The destination needs it.
    Wanted,
    /// Part of the image's archive.
    Archive(&'a [u8]),
    /// Memory comes over connections of its own; `commit_first`: also after the commit.
    MemoryApart { commit_first: bool },
    /// The source could freeze now; say when the destination is ready for that.
    Prepared,
    /// Nothing, at length.
    Padding(&'a [u8]),
    /// How the migration stands at the destination.
    Stands(Stands),
}

/// How a migration stands at its destination, as its own journal has it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stands {
    /// Nothing is decided there.
    Open,
    /// The container was let run there: the migration was committed.
    Runs,
    /// Its copy was removed, as only a roll back orders: the migration was not committed and never will be.
    Abandoned,
    /// All of its memory is there, also what travelled after the commit: the source's copy is not needed for it any more.
    Whole,
}

impl Stands {
    const ALL: [Stands; 4] = [Stands::Open, Stands::Runs, Stands::Abandoned, Stands::Whole];
}

impl<'a> Frame<'a> {
    /// Appends the frame's body.
    pub(super) fn encode(&self, body: &mut Vec<u8>) {
        let counts = |body: &mut Vec<u8>, tag: u8, files: u32, bytes: u64| {
            body.push(tag);
            body.extend(files.to_be_bytes());
            body.extend(bytes.to_be_bytes());
        };
        match *self {
            Frame::File { kind, name } => {
                body.push(1);
                body.push(match kind {
                    Kind::History => 0,
                    Kind::Tail => 1,
                    Kind::Image => 2,
                });
                body.extend(name.as_bytes());
            }
            Frame::Data(content) => {
                body.push(2);
                body.extend(content);
            }
            Frame::EndOfFile => body.push(3),
            Frame::EndOfHistory => body.push(4),
            Frame::Alive => body.push(5),
            Frame::Announce { bytes } => counts(body, 6, 0, bytes),
            Frame::Finish { files, bytes } => counts(body, 7, files, bytes),
            Frame::Received { files, bytes } => counts(body, 8, files, bytes),
            Frame::Rejected(reason) => {
                body.push(9);
                body.extend(reason.as_bytes());
            }
            Frame::Change(change) => {
                body.push(10);
                body.extend(change);
            }
            Frame::Block { offset, content } => {
                body.push(11);
                body.extend(offset.to_be_bytes());
                body.extend(content);
            }
            Frame::Ask => body.push(12),
            Frame::Reached => body.push(13),
            Frame::Offer => body.push(14),
            Frame::Wanted => body.push(15),
            Frame::Archive(content) => {
                body.push(16);
                body.extend(content);
            }
            Frame::MemoryApart { commit_first } => body.extend([17, u8::from(commit_first)]),
            Frame::Prepared => body.push(18),
            Frame::Padding(nothing) => {
                body.push(19);
                body.extend(nothing);
            }
            Frame::Stands(stands) => body.extend([32, stands as u8]),
        }
    }

    /// Reads a body back. Only what [`Frame::encode`] makes is accepted.
    pub(super) fn decode(body: &'a [u8]) -> Result<Frame<'a>, TransferError> {
        let (&tag, rest) = body.split_first().ok_or(TransferError::Damaged("an empty frame"))?;
        let frame = match tag {
            1 => {
                let (&kind, name) = rest.split_first().ok_or(TransferError::Damaged("a file without a kind"))?;
                let kind = match kind {
                    0 => Kind::History,
                    1 => Kind::Tail,
                    2 => Kind::Image,
                    _ => return Err(TransferError::Damaged("a file of an unknown kind")),
                };
                let name = std::str::from_utf8(name).map_err(|_| TransferError::Damaged("a file name"))?;
                if !is_plain(name) {
                    return Err(TransferError::Damaged("a file name"));
                }
                return Ok(Frame::File { kind, name });
            }
            2 => return Ok(Frame::Data(rest)),
            6..=8 => {
                let (files, bytes) = rest.split_first_chunk::<4>().ok_or(TransferError::Damaged("a count"))?;
                let bytes: [u8; 8] = bytes.try_into().map_err(|_| TransferError::Damaged("a count"))?;
                let (files, bytes) = (u32::from_be_bytes(*files), u64::from_be_bytes(bytes));
                return match tag {
                    6 if files == 0 => Ok(Frame::Announce { bytes }),
                    7 => Ok(Frame::Finish { files, bytes }),
                    8 => Ok(Frame::Received { files, bytes }),
                    _ => Err(TransferError::Damaged("a count")),
                };
            }
            9 => {
                let reason = std::str::from_utf8(rest).map_err(|_| TransferError::Damaged("a reason"))?;
                return Ok(Frame::Rejected(reason));
            }
            10 => return Ok(Frame::Change(rest)),
            11 => {
                let (offset, content) = rest.split_first_chunk::<8>().ok_or(TransferError::Damaged("a block"))?;
                return Ok(Frame::Block { offset: u64::from_be_bytes(*offset), content });
            }
            12 => Frame::Ask,
            13 => Frame::Reached,
            14 => Frame::Offer,
            15 => Frame::Wanted,
            18 => Frame::Prepared,
            16 => return Ok(Frame::Archive(rest)),
            17 => {
                return match rest {
                    [flag @ 0..=1] => Ok(Frame::MemoryApart { commit_first: *flag == 1 }),
                    _ => Err(TransferError::Damaged("a flag")),
                };
            }
            19 => return Ok(Frame::Padding(rest)),
            32 => {
                let stands = rest.first().and_then(|code| Stands::ALL.get(usize::from(*code)));
                return match (stands, rest.len()) {
                    (Some(stands), 1) => Ok(Frame::Stands(*stands)),
                    _ => Err(TransferError::Damaged("an answer")),
                };
            }
            3 => Frame::EndOfFile,
            4 => Frame::EndOfHistory,
            5 => Frame::Alive,
            _ => return Err(TransferError::Damaged("an unknown frame")),
        };
        if rest.is_empty() { Ok(frame) } else { Err(TransferError::Damaged("a frame that is too long")) }
    }
}

/// A name that stays inside its folder and hides nothing.
fn is_plain(name: &str) -> bool {
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"._-".contains(&byte);
    (1..=LONGEST_NAME).contains(&name.len()) && !name.starts_with('.') && name.bytes().all(allowed)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn body(frame: &Frame<'_>) -> Vec<u8> {
        let mut body = Vec::new();
        frame.encode(&mut body);
        body
    }

    #[test]
    fn names_cannot_leave_the_folder() {
        for name in ["", ".", "..", "a/b", "/etc/passwd", ".hidden", "a\0b", "ä"] {
            let frame = Frame::File { kind: Kind::Image, name };
            assert!(Frame::decode(&body(&frame)).is_err(), "{name:?}");
        }
        assert!(Frame::decode(&body(&Frame::File { kind: Kind::Image, name: "pages-1.img" })).is_ok());
    }

    proptest! {
        #[test]
        fn frames_come_back_as_they_were(
            name in "[A-Za-z0-9_-][A-Za-z0-9._-]{0,100}", content in prop::collection::vec(any::<u8>(), 0..500),
            files: u32, bytes: u64, reason in ".{0,50}",
        ) {
            for frame in [
                Frame::File { kind: Kind::History, name: &name }, Frame::File { kind: Kind::Tail, name: &name },
                Frame::File { kind: Kind::Image, name: &name }, Frame::Data(&content), Frame::EndOfFile,
                Frame::EndOfHistory, Frame::Alive, Frame::Announce { bytes }, Frame::Finish { files, bytes },
                Frame::Received { files, bytes }, Frame::Rejected(&reason),
                Frame::Change(&content), Frame::Block { offset: bytes, content: &content }, Frame::Ask, Frame::Reached,
                Frame::Offer, Frame::Wanted, Frame::Archive(&content), Frame::MemoryApart { commit_first: files > 9 },
                Frame::Prepared,
                Frame::Stands(Stands::Open), Frame::Stands(Stands::Runs), Frame::Stands(Stands::Abandoned), Frame::Stands(Stands::Whole),
            ] {
                let body = body(&frame);
                prop_assert_eq!(Frame::decode(&body).expect("decodes"), frame);
            }
        }

        #[test]
        fn any_bytes_are_refused_or_mean_exactly_themselves(bytes in prop::collection::vec(any::<u8>(), 0..64)) {
            if let Ok(frame) = Frame::decode(&bytes) {
                prop_assert_eq!(body(&frame), bytes);
            }
        }
    }
}
