//! The namespace's pull secret: what belongs into it, whether it is there, and making it so.
