//! Connections that outlive a request, and the end of those whose right was taken away.

pub mod files;
pub(crate) mod frames;
pub mod registry;
pub mod revalidation;
