//! Each end proves that it knows the ticket before it says anything that matters.
//!
//! A destination that does not know the migration answers like one that does, with a random ticket:
//! a stranger cannot learn which migrations there are.

use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite};
use uuid::Uuid;

use super::TransferError;
use super::link::{read_exact, write_all};
use super::seal::{End, Nonce, Purpose, Session, TAG, TicketKey};

/// How long both ends have to get to know each other.
pub(super) const DEADLINE: Duration = Duration::from_secs(10);

const MAGIC: &[u8; 4] = b"FOGT";
const VERSION: u16 = 4;

fn nonce() -> Result<Nonce, TransferError> {
    let mut nonce = Nonce::default();
    getrandom::fill(&mut nonce).map_err(|error| TransferError::File(format!("no random numbers: {error}")))?;
    Ok(nonce)
}

/// The source's side.
pub(super) async fn greet<S>(
    stream: &mut S,
    migration: Uuid,
    ticket: TicketKey,
    purpose: Purpose,
) -> Result<Session, TransferError>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let source = nonce()?;
    let mut hello = Vec::with_capacity(55);
    hello.extend(MAGIC);
    hello.extend(VERSION.to_be_bytes());
    hello.push(purpose.code());
    hello.extend(migration.as_bytes());
    hello.extend(source);
    write_all(stream, &hello, DEADLINE).await?;

    let mut destination = Nonce::default();
    read_exact(stream, &mut destination, DEADLINE).await?;
    let session = Session { ticket, migration, source, destination, purpose };
    let mut proof = [0; TAG];
    read_exact(stream, &mut proof, DEADLINE).await?;
    if session.proof(End::Destination) != blake3::Hash::from_bytes(proof) {
        return Err(TransferError::Handshake("does not know this migration or has another ticket for it"));
    }
    write_all(stream, session.proof(End::Source).as_bytes(), DEADLINE).await?;
    Ok(session)
}

/// The destination's side. `ticket_of` returns the ticket of a migration that is expected here.
pub(super) async fn welcome<S>(
    stream: &mut S,
    ticket_of: impl FnOnce(Uuid) -> Option<TicketKey>,
) -> Result<Session, TransferError>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let mut hello = [0; 55];
    read_exact(stream, &mut hello, DEADLINE).await?;
    let (head, source) = hello.split_at(23);
    if &head[..4] != MAGIC {
        return Err(TransferError::Handshake("is no agent"));
    }
    if head[4..6] != VERSION.to_be_bytes() {
        return Err(TransferError::Handshake("speaks another version; run the same agent on both nodes"));
    }
    let purpose = Purpose::decode(head[6]).ok_or(TransferError::Handshake("wants something unknown"))?;
    let migration = Uuid::from_slice(&head[7..]).map_err(|_| TransferError::Handshake("names no migration"))?;
    let source = source.try_into().map_err(|_| TransferError::Handshake("sent no nonce"))?;
    let known = ticket_of(migration);
    let expected = known.is_some();
    let ticket = match known {
        Some(ticket) => ticket,
        None => TicketKey::decode(&fog_api::agent::Ticket(blake3::Hash::from_bytes(nonce()?).to_hex().to_string()))
            .ok_or(TransferError::Handshake("names an unknown migration"))?,
    };
    let session = Session { ticket, migration, source, destination: nonce()?, purpose };
    let mut reply = Vec::with_capacity(64);
    reply.extend(session.destination);
    reply.extend(session.proof(End::Destination).as_bytes());
    write_all(stream, &reply, DEADLINE).await?;

    let mut proof = [0; TAG];
    read_exact(stream, &mut proof, DEADLINE).await?;
    if session.proof(End::Source) != blake3::Hash::from_bytes(proof) || !expected {
        return Err(TransferError::Handshake("does not have the ticket"));
    }
    Ok(session)
}
