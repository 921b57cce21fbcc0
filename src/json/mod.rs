//! JSON text, read without a tree: the record paths of both programs.
//!
//! [`scan::Scanner`] steps over a document that it borrows and says where its parts lie; [`decode::Decoder`] reads one
//! while it arrives and decodes its strings. Both are strict (what RFC 8259 refuses, they refuse), bounded in depth,
//! and look at sixteen bytes at a time.
//!
//! | who | files |
//! |---|---|
//! | both programs | [`token`] (what there is), [`scan`] on top of [`walk`], [`escape`] and [`blocks`], [`walker`], [`surrogate`] |
//! | the tap alone | [`decode`] with [`stride`], [`label`], [`without`] |
//! | the target alone | [`exact`] |

mod blocks;
pub mod decode;
pub mod escape;
pub mod exact;
pub mod label;
pub mod scan;
mod stride;
pub mod surrogate;
pub mod token;
mod walk;
pub mod walker;
pub mod without;

pub use blocks::same;
