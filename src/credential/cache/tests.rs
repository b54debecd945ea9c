//! Mints over simulated hours.

mod throttled_account;
