//! Image references: what a Pod writes in `image`, read as the container runtime reads it.
