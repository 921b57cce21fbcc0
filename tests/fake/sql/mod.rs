//! The SQL that the fake answers: ClickHouse's, as far as the tap asks it, over rows in memory. What is not understood is
//! refused with the reason.
//!
//! ```text
//! select.rs   one SELECT, parsed            compile.rs   names resolved, types checked
//! plan.rs     checked and run over rows     expression.rs function.rs aggregate.rs   what a query computes
//! table.rs    columns and rows              value.rs zone.rs cityhash.rs            facts of ClickHouse
//! ```

use super::{Refusal, refuse};

mod aggregate;
mod cityhash;
mod compile;
mod expression;
mod function;
mod plan;
pub(crate) mod select;
pub(crate) mod table;
pub(crate) mod value;
pub(crate) mod zone;

pub(crate) use cityhash::cityhash64;
