//! The probe: one datagram of fixed size, answered by one of the same size.
//!
//! The nonce keeps a third party from answering in a peer's name; the equal sizes keep anyone from
//! using an agent to amplify traffic towards a forged sender.

/// Length of a probe and of its echo.
pub(super) const LENGTH: usize = 32;

const MAGIC: &[u8; 8] = b"FOGPROBE";
const VERSION: u8 = 1;
const PROBE: u8 = 1;
const ECHO: u8 = 2;

/// Tells probes apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Mark {
    /// Counts the probes of this agent.
    pub(super) seq: u64,
    /// Random.
    pub(super) nonce: u64,
}

/// A datagram that is one of ours.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Datagram {
    /// Somebody asks.
    Probe(Mark),
    /// Somebody answers.
    Echo(Mark),
}

impl Datagram {
    /// The bytes on the wire.
    pub(super) fn encode(self) -> [u8; LENGTH] {
        let (kind, mark) = match self {
            Datagram::Probe(mark) => (PROBE, mark),
            Datagram::Echo(mark) => (ECHO, mark),
        };
        let mut bytes = [0; LENGTH];
        bytes[..8].copy_from_slice(MAGIC);
        bytes[8] = VERSION;
        bytes[9] = kind;
        bytes[16..24].copy_from_slice(&mark.seq.to_be_bytes());
        bytes[24..].copy_from_slice(&mark.nonce.to_be_bytes());
        bytes
    }

    /// `None` for anything but a well-formed datagram.
    pub(super) fn decode(bytes: &[u8]) -> Option<Self> {
        let bytes: &[u8; LENGTH] = bytes.try_into().ok()?;
        if !bytes.starts_with(MAGIC) || bytes[8] != VERSION || bytes[10..16] != [0; 6] {
            return None;
        }
        let number = |at: usize| Some(u64::from_be_bytes(bytes.get(at..at + 8)?.try_into().ok()?));
        let mark = Mark { seq: number(16)?, nonce: number(24)? };
        match bytes[9] {
            PROBE => Some(Datagram::Probe(mark)),
            ECHO => Some(Datagram::Echo(mark)),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn what_is_encoded_is_decoded(seq: u64, nonce: u64, probe: bool) {
            let mark = Mark { seq, nonce };
            let datagram = if probe { Datagram::Probe(mark) } else { Datagram::Echo(mark) };
            prop_assert_eq!(Datagram::decode(&datagram.encode()), Some(datagram));
        }

        #[test]
        fn anything_else_is_ignored(bytes in prop::collection::vec(any::<u8>(), 0..64)) {
            prop_assert_eq!(Datagram::decode(&bytes), None);
        }
    }

    #[test]
    fn longer_shorter_or_altered_is_ignored() {
        let good = Datagram::Probe(Mark { seq: 1, nonce: 2 }).encode();
        assert_eq!(Datagram::decode(&good[..31]), None);
        assert_eq!(Datagram::decode(&[&good[..], &[0]].concat()), None);
        for at in 0..16 {
            let mut bad = good;
            bad[at] ^= 0x80;
            assert_eq!(Datagram::decode(&bad), None, "byte {at}");
        }
    }
}
