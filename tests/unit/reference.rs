//! docs/reference/ and the charts' READMEs: what is made from a source is the same as its source, and what people write has a row for
//! each word of the code, and no other. `make reference` writes what is made.

#![allow(
    clippy::panic,
    clippy::unwrap_used,
    reason = "a test that cannot be set up has failed"
)]

mod alerts;
mod charts;
mod command_line;
mod conditions;
mod labels;
mod logs;
mod metrics;
mod registry;
