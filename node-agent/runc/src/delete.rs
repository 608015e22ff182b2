//! `delete`: a restore that is still blocked is given up first; the rest is runc's.

use std::os::unix::net::UnixStream;

use crate::Next;
use crate::restore_folder::RestoreFolder;
use crate::start::tell;

pub(crate) fn delete(folder: &RestoreFolder) -> Result<Next, String> {
    if let Ok(stream) = UnixStream::connect(folder.supervisor_socket()) {
        tell(stream, "abort\n");
    }
    Ok(Next::Runc)
}
