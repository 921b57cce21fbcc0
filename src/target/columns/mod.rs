//! A SCHEMA becomes columns, which keep their types for the life of a folder.
//!
//! | step | file |
//! |---|---|
//! | a SCHEMA line is read | `message.rs` |
//! | a property becomes a column of some type | `property.rs`; **the types, and what a new one touches**: `column_type.rs` |
//! | the columns of a stream, with those of `_sdc_` | `schema.rs`, `metadata.rs` |
//! | types stay as they are, across runs; which folder has them | `evolve.rs`, `folders.rs` |
//! | SCHEMAs share files | `file_columns.rs` |
//! | the values of a column in memory | `values.rs` |

pub mod column_type;
pub mod evolve;
pub mod file_columns;
pub mod folders;
pub mod message;
pub mod metadata;
pub mod property;
pub mod schema;
pub mod values;
