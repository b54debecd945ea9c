//! The listener: TLS, bounds, draining, health and metrics.
