//! Why something was not done with a file.

use std::io;

use rustix::io::Errno;

use crate::error::{ApiError, chain};

#[derive(Debug, thiserror::Error)]
pub(crate) enum FileError {
    #[error("{0}")]
    Invalid(String),
    #[error("there is no such file")]
    NotFound,
    #[error("{0}")]
    Conflict(String),
    #[error("{0}")]
    TooLarge(String),
    #[error("{0}")]
    Refused(String),
    #[error("the disk is full")]
    Full,
    #[error("the sender was silent for too long")]
    Silent,
    #[error("the agent is stopping")]
    Interrupted,
    #[error("the file system failed: {0}")]
    Io(io::Error),
}

impl From<io::Error> for FileError {
    fn from(error: io::Error) -> Self {
        use io::ErrorKind as Kind;
        let refused = |text: &str| Self::Refused(text.to_owned());
        let conflict = |text: &str| Self::Conflict(text.to_owned());
        match error.kind() {
            Kind::NotFound => Self::NotFound,
            Kind::AlreadyExists | Kind::DirectoryNotEmpty => conflict("something is there already"),
            Kind::IsADirectory => conflict("it is a folder"),
            Kind::NotADirectory => conflict("it is not a folder"),
            Kind::StorageFull | Kind::QuotaExceeded => Self::Full,
            // What cap-std says of a path that leads out, and the system of one that may not be touched.
            Kind::PermissionDenied => {
                refused("it leads out of the container's files, or is closed")
            }
            _ if error.raw_os_error() == Some(Errno::LOOP.raw_os_error()) => {
                refused("its links lead nowhere")
            }
            Kind::CrossesDevices => refused("it is on another file system"),
            Kind::InvalidFilename => Self::Invalid("a name is too long".to_owned()),
            _ => Self::Io(error),
        }
    }
}

impl From<Errno> for FileError {
    fn from(errno: Errno) -> Self {
        io::Error::from(errno).into()
    }
}

impl From<FileError> for ApiError {
    fn from(error: FileError) -> Self {
        let text = chain(&error);
        match error {
            FileError::Invalid(_) => Self::Invalid(text),
            FileError::NotFound => Self::Missing(text),
            FileError::Conflict(_) => Self::Conflict(text),
            FileError::TooLarge(_) => Self::TooMuch(text),
            FileError::Refused(_) => Self::Refused(text),
            FileError::Full => Self::Full(text),
            FileError::Silent => Self::Timeout(text),
            FileError::Interrupted => Self::Unavailable(text),
            FileError::Io(_) => Self::Internal(text),
        }
    }
}
