//! Keys out of a ticket, and the tag that seals each frame.

use blake3::{Hash, Hasher};
use fog_api::agent::Ticket;
use uuid::Uuid;

/// Random bytes that each end adds, so that no two connections share a key.
pub(super) type Nonce = [u8; 32];

/// Length of a frame's tag.
pub(super) const TAG: usize = blake3::OUT_LEN;

/// A migration's secret, decoded. Does not show itself.
#[derive(Clone)]
pub struct TicketKey([u8; 32]);

impl std::fmt::Debug for TicketKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("TicketKey(secret)")
    }
}

impl TicketKey {
    /// Decodes 32 bytes in hexadecimal.
    pub fn decode(ticket: &Ticket) -> Option<TicketKey> {
        Hash::from_hex(ticket.0.as_bytes()).ok().map(|hash| TicketKey(*hash.as_bytes()))
    }
}

/// What both ends of one connection know.
#[derive(Clone)]
pub(super) struct Session {
    pub(super) ticket: TicketKey,
    pub(super) migration: Uuid,
    pub(super) source: Nonce,
    pub(super) destination: Nonce,
    /// What the connection is for.
    pub(super) purpose: Purpose,
}

/// What a connection is for; in every key, so that none can be passed off as another.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Purpose {
    /// Files, images and their acknowledgement.
    State,
    /// Memory.
    Memory(super::pages::Lane),
    /// How the migration stands at the destination.
    Ask,
}

impl Purpose {
    pub(super) const fn code(self) -> u8 {
        match self {
            Purpose::State => 0,
            Purpose::Memory(super::pages::Lane::Bulk) => 1,
            Purpose::Memory(super::pages::Lane::Urgent) => 2,
            Purpose::Ask => 9,
        }
    }

    pub(super) const fn decode(code: u8) -> Option<Purpose> {
        match code {
            0 => Some(Purpose::State),
            1 => Some(Purpose::Memory(super::pages::Lane::Bulk)),
            2 => Some(Purpose::Memory(super::pages::Lane::Urgent)),
            9 => Some(Purpose::Ask),
            _ => None,
        }
    }
}

/// Who speaks.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum End {
    Source,
    Destination,
}

impl Session {
    /// What only somebody with the ticket can say.
    pub(super) fn proof(&self, end: End) -> Hash {
        self.derive(match end {
            End::Source => "fogshift 2026 transfer proof of the source",
            End::Destination => "fogshift 2026 transfer proof of the destination",
        })
    }

    /// The seal for what this end says.
    pub(super) fn seal(&self, end: End) -> Seal {
        let key = self.derive(match end {
            End::Source => "fogshift 2026 transfer frames of the source",
            End::Destination => "fogshift 2026 transfer frames of the destination",
        });
        Seal { key: *key.as_bytes(), count: 0 }
    }

    fn derive(&self, context: &str) -> Hash {
        let mut hasher = Hasher::new_derive_key(context);
        hasher.update(&self.ticket.0).update(self.migration.as_bytes()).update(&self.source).update(&self.destination);
        hasher.update(&[self.purpose.code()]);
        hasher.finalize()
    }
}

/// Tags one direction's frames in their order: dropped, repeated or swapped frames do not match.
pub(super) struct Seal {
    key: [u8; 32],
    count: u64,
}

impl std::fmt::Debug for Seal {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Seal(secret)")
    }
}

impl Seal {
    /// The next frame's tag.
    pub(super) fn tag(&mut self, body: &[u8]) -> Hash {
        self.tag_of(&[body])
    }

    /// The next frame's tag, its body in parts.
    pub(super) fn tag_of(&mut self, body: &[&[u8]]) -> Hash {
        let mut hasher = Hasher::new_keyed(&self.key);
        hasher.update(&self.count.to_be_bytes());
        for part in body {
            hasher.update(part);
        }
        self.count += 1;
        hasher.finalize()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn session(ticket: u8) -> Session {
        let ticket = TicketKey([ticket; 32]);
        Session { ticket, migration: Uuid::nil(), source: [1; 32], destination: [2; 32], purpose: Purpose::State }
    }

    #[test]
    fn a_ticket_is_64_hexadecimal_digits() {
        assert!(TicketKey::decode(&Ticket("ab".repeat(32))).is_some());
        assert!(TicketKey::decode(&Ticket("ab".repeat(31))).is_none());
        assert!(TicketKey::decode(&Ticket("zz".repeat(32))).is_none());
    }

    #[test]
    fn everything_in_the_session_changes_the_proof() {
        let plain = session(1);
        let mut other_nonce = session(1);
        other_nonce.destination[0] = 9;
        let mut other_purpose = session(1);
        other_purpose.purpose = Purpose::Memory(super::super::pages::Lane::Bulk);
        assert_ne!(plain.proof(End::Source), other_purpose.proof(End::Source));
        assert_ne!(plain.proof(End::Source), session(2).proof(End::Source));
        assert_ne!(plain.proof(End::Source), other_nonce.proof(End::Source));
        assert_ne!(plain.proof(End::Source), plain.proof(End::Destination));
    }

    #[test]
    fn the_same_frame_has_another_tag_the_second_time() {
        let (mut sender, mut receiver) = (session(1).seal(End::Source), session(1).seal(End::Source));
        let (first, second) = (sender.tag(b"frame"), sender.tag(b"frame"));
        assert_ne!(first, second);
        assert_eq!(receiver.tag(b"frame"), first);
        assert_eq!(receiver.tag(b"frame"), second);
    }
}
